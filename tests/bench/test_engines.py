"""Rounds of the batch engine: whole runs, over and over."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from dymn_cli.batch.job import Job
from dymn_cli.batch.run import InProcess
from dymn_cli.bench.engines import WarmEngine
from dymn_cli.bench.stages import COMMON_STAGES, open_stages
from dymn_cli.errors import InputError
from dymn_cli.runtime.select import open_backend
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger


@pytest.fixture(scope="module")
def tagger() -> Iterator[Tagger]:
    with Tagger(threads=1) as opened:
        yield opened


@pytest.fixture
def engine(tagger: Tagger, tmp_path: Path) -> WarmEngine:
    job = Job("dymn04_kd", "auto", "cpu", None, TagOptions())
    return WarmEngine(InProcess(job, tagger), job, tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_round_analyses_anew_and_writes_everything(
    engine: WarmEngine, tagger: Tagger, originals: dict[str, list[Path]], tmp_path: Path
) -> None:
    clips = [originals["wav"][0], originals["flac"][1]]
    best = [tagger.tag(clip).tags[0].label for clip in clips]
    for _ in range(2):
        assert engine(clips) == pytest.approx(20.0)
        written = rows(tmp_path / "tags.csv")
        assert [row["source"] for row in written if row["rank"] == "1"] == [str(clip) for clip in clips]
        assert [row["label"] for row in written if row["rank"] == "1"] == best
        (tmp_path / "tags.csv").unlink()
    assert not (tmp_path / "tags.csv.journal").exists()


def test_a_clip_that_fails_ends_the_benchmark(engine: WarmEngine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.wav"):
        engine([tmp_path / "gone.wav"])


def test_stages_do_as_many_clips_as_they_say(
    tagger: Tagger, originals: dict[str, list[Path]], tmp_path: Path
) -> None:
    clips = {form: originals[form][:2] for form in ("wav", "ogg")}
    backend = open_backend("dymn04_kd", n_samples=320_000)
    with open_stages(tagger, backend, clips, tmp_path, n_clips=3) as stages:
        assert set(stages) == {
            ("decode", "wav"),
            ("decode", "ogg"),
            *((what, "") for what in COMMON_STAGES),
        }
        for stage in stages.values():
            stage()
    sources = [row["source"] for row in rows(tmp_path / "stages.csv") if row["rank"] == "1"]
    assert sources == ["original-0.wav", "original-1.wav", "original-0.wav"]
