"""What a model said of a recording is remembered as long as the recording stays what it was."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.errors import InputError
from dymn_cli.evaluation.predictions import FOLDER, Predictions, job_for, open_predictions
from dymn_cli.results import Failure
from dymn_cli.tagging.tagger import Tagger

RATE_HZ = 16_000


class Log:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.kept_names: list[str] = []
        self.done_names: list[str] = []
        self.failures: list[Failure] = []

    def kept(self, name: str) -> None:
        self.kept_names.append(name)

    def done(self, name: str, summary: object) -> None:
        self.done_names.append(name)

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)

    def within(self, name: str, seconds: float, of_s: float | None) -> None:
        pass


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three short recordings, the last of 11 s, which has two windows; the cache is empty."""
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for n, seconds in enumerate((0.5, 0.5, 11)):
        soundfile.write(f"{n}.wav", 0.1 * rng.normal(size=round(seconds * RATE_HZ)), RATE_HZ)
    return ["0.wav", "1.wav", "2.wav"]


def ask(
    names: list[str], *, scores: bool = False, embeddings: bool = False
) -> tuple[Predictions, object, Log]:
    log = Log()
    job = job_for("dymn04_kd", "auto", "cpu", scores=scores, embeddings=embeddings)
    with open_predictions(names, job, jobs=1, threads=1, watcher=log) as answers:
        return answers, answers.scores() if scores else answers.embeddings(), log


def test_answers_are_those_of_the_tagger_and_remembered(clips: list[str], tmp_path: Path) -> None:
    _, embeddings, log = ask(clips, embeddings=True)
    assert len(log.done_names) == 3
    assert list(embeddings.start) == [0, 1, 2, 4]  # type: ignore[attr-defined]
    with Tagger(threads=1) as tagger, tagger.analyse("2.wav") as analysis:
        expected = [window.embedding for _, window in analysis]
    np.testing.assert_array_equal(embeddings.rows(np.array([2]))[0], expected)  # type: ignore[attr-defined]

    again, same, log = ask(clips, embeddings=True)
    assert (len(log.done_names), again.n_remembered) == (0, 3)
    np.testing.assert_array_equal(same.values, embeddings.values)  # type: ignore[attr-defined]
    assert len(list((tmp_path / "home" / FOLDER).iterdir())) == 1

    _, scores, log = ask(clips[:2], scores=True)  # another kind of work has answers of its own
    assert len(log.done_names) == 2
    with Tagger(threads=1) as tagger:
        np.testing.assert_array_equal(scores[1], tagger.tag("1.wav").scores)  # type: ignore[index]


def test_a_recording_that_has_changed_is_asked_about_again(clips: list[str]) -> None:
    ask(clips, embeddings=True)
    soundfile.write("1.wav", np.zeros(RATE_HZ), RATE_HZ)
    _, _, log = ask(clips, embeddings=True)
    assert [Path(name).name for name in log.done_names] == ["1.wav"]


def test_the_folder_it_is_started_from_does_not_matter(clips: list[str], tmp_path: Path) -> None:
    ask(clips[:1], embeddings=True)
    (tmp_path / "sub").mkdir()
    os.chdir(tmp_path / "sub")
    assert len(ask(["../0.wav"], embeddings=True)[2].kept_names) == 1


def test_what_cannot_be_read_is_told_and_tried_again(clips: list[str]) -> None:
    Path("broken.wav").write_bytes(b"RIFF")
    answers, embeddings, log = ask([clips[0], "broken.wav", clips[1]], embeddings=True)
    assert [Path(failure.source).name for failure in log.failures] == ["broken.wav"]
    assert answers.done == (0, 2)
    assert len(embeddings.values) == 2  # type: ignore[attr-defined]
    assert len(ask([clips[0], "broken.wav"], embeddings=True)[2].failures) == 1


def test_nothing_at_all_is_an_error(clips: list[str]) -> None:
    with pytest.raises(InputError, match=r"no recording could be read; the first: .*none\.wav"):
        ask(["none.wav"], embeddings=True)


def test_a_cache_that_is_in_use_or_damaged_is_in_nobodys_way(clips: list[str], tmp_path: Path) -> None:
    ask(clips[:1], embeddings=True)
    (journal,) = (tmp_path / "home" / FOLDER).iterdir()
    journal.write_bytes(b"something else")
    assert len(ask(clips[:1], embeddings=True)[2].done_names) == 1
    journal.unlink()
    job = job_for("dymn04_kd", "auto", "cpu", embeddings=True)
    with open_predictions(clips[:1], job, jobs=1, threads=1, watcher=Log()):
        assert len(ask(clips[:1], embeddings=True)[2].done_names) == 1  # the first run holds the lock


def test_without_a_place_for_a_cache_it_works_all_the_same(
    clips: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "file"))
    assert len(ask(clips[:1], embeddings=True)[2].done_names) == 1


def test_what_is_remembered_is_bounded(
    clips: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(clips[:1], embeddings=True)
    (embeddings,) = (tmp_path / "home" / FOLDER).iterdir()
    os.utime(embeddings, (1_000_000_000, 1_000_000_000))
    ask(clips[:1], scores=True)
    assert len(list((tmp_path / "home" / FOLDER).iterdir())) == 2
    monkeypatch.setenv("DYMN_CACHE_GB", str((embeddings.stat().st_size + 100) / 1e9))
    ask(clips[:1], scores=True)
    assert not embeddings.exists()
