from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dymn_cli.errors import InputError, OutputError  # noqa: E402
from dymn_cli.frontend import FrontEndConfig, LogMel  # noqa: E402
from dymn_cli.train.distill.clip_scores import ClipScores, score_clips  # noqa: E402
from dymn_cli.train.distill.teachers import LiveTeacher, load_model  # noqa: E402

CPU = torch.device("cpu")
FRONT_END = FrontEndConfig()


class Few:
    """Three clips: short, long, damaged."""

    names = groups = ("short", "long", "damaged")
    labels = known = None
    fingerprint = "few"

    def __init__(self, teaching: ModuleType) -> None:
        self.rows = [
            LogMel()(teaching.sound(n, seconds))[0, 0].T.astype(np.float16)
            for n, seconds in ((1, 0.5), (2, 23.0), (3, 1.0))
        ]

    def n_frames(self, index: int, front_end: FrontEndConfig) -> int:
        return len(self.rows[index])

    def log_mel(self, index: int, front_end: FrontEndConfig) -> np.ndarray:
        if index == 2:
            raise InputError("damaged")
        return self.rows[index]


@pytest.fixture(scope="module")
def few(teaching: ModuleType) -> Few:
    return Few(teaching)


@pytest.fixture(scope="module")
def live(teacher: Path) -> LiveTeacher:
    return LiveTeacher([load_model(str(teacher), CPU)])


def score(few: Few, live: LiveTeacher, folder: Path, **changes: object) -> ClipScores:
    return score_clips(few, live, ["teacher"], FRONT_END, folder, CPU, **changes)


def test_clips_are_heard_alone_in_windows_of_ten_seconds(few: Few, live: LiveTeacher, tmp_path: Path) -> None:
    found = score(few, live, tmp_path)
    assert found.first.tolist() == [0, 1, 4, 5]
    network = live.models[0].network

    def asked(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(rows.astype(np.float32).T[None, None].copy()))[0][0].numpy()

    short, long, _ = few.rows
    assert found.logits[0] == pytest.approx(asked(np.resize(short, (1000, 128))), abs=0.02)
    assert found.logits[2] == pytest.approx(asked(long[1000:2000]), abs=0.02)
    assert found.logits[3] == pytest.approx(asked(long[-1000:]), abs=0.02)
    assert (found.scores(np.array([4])) < 1e-6).all()
    assert found.windows(1, np.array([0, 999, 1000, 1999, 2000, 2299])).tolist() == [1, 1, 2, 2, 3, 3]
    assert found.best_classes()[1] == found.logits[1:4].max(axis=0).argmax()


def test_they_are_heard_once(few: Few, live: LiveTeacher, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    first = score(few, live, tmp_path, done=lambda n_done, n_all: told.append((n_done, n_all)))
    assert told == [(4, 5)]
    again = score(few, live, tmp_path, done=lambda n_done, n_all: pytest.fail("heard again"))
    assert (first.logits == again.logits).all()
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])  # the rest of a full disk
    assert (score(few, live, tmp_path).logits == first.logits).all()
    other = score_clips(few, live, ["another teacher"], FRONT_END, tmp_path, CPU)
    assert (other.logits == first.logits).all()
    assert len(list(tmp_path.iterdir())) == 2


def test_they_are_heard_at_a_level(few: Few, live: LiveTeacher, tmp_path: Path) -> None:
    first = score(few, live, tmp_path)
    louder = score(few, live, tmp_path, level_db=-12.0)
    assert np.abs(louder.logits[:4] - first.logits[:4]).max() > 0.01
    assert (score(few, live, tmp_path).logits == first.logits).all()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_told(few: Few, live: LiveTeacher, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file") as caught:
        score(few, live, tmp_path / "file")
    assert "--cache DIR" in caught.value.hint
