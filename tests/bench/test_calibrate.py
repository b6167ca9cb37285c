"""Scores that mean the same for every label: what is learned from events that are right or wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.bench import calibrate
from dymn_cli.bench.calibrate import calibration_of, fit, main
from dymn_cli.demo import demo_clips
from dymn_cli.errors import InputError, OutputError
from dymn_cli.labels import Vocabulary
from dymn_cli.tagging.calibration import read_calibration
from dymn_cli.tagging.tagger import Tagger

WORDS = Vocabulary.from_names(["sure", "unsure", "seldom", "never"])


def events(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Many of two labels, of which one is twice as far from the truth as the other; two of a third."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat([0, 1], n), [2, 2]])
    logits = rng.normal(-1, 1.5, len(labels))
    chance = 1 / (1 + np.exp(-(1.5 * logits + np.array([2.0, -1.0, 0.5, 0.0])[labels])))
    return 1 / (1 + np.exp(-logits)), labels, rng.random(len(labels)) < chance


def test_what_the_events_were_drawn_from_is_found_again() -> None:
    fitted = fit(*events(20_000), 4)
    assert fitted.slope == pytest.approx(1.5, abs=0.05)
    assert fitted.shifts[:2] == pytest.approx([2.0, -1.0], abs=0.1)
    assert abs(fitted.shifts[2] - fitted.mean) < 1  # two events say little
    assert fitted.shifts[3] == fitted.mean  # and none nothing


def test_the_optimum_is_one() -> None:
    """At the optimum the gradient vanishes: what is predicted of a label is what happened, less the prior."""
    scores, labels, right = events(300)
    fitted = fit(scores, labels, right, 4)
    logits = np.log(scores / (1 - scores))
    chance = 1 / (1 + np.exp(-(fitted.slope * logits + fitted.shifts[labels])))
    assert (right - chance) @ logits == pytest.approx(0, abs=1e-6)
    pull = (fitted.shifts - fitted.mean) / calibrate.SPREAD**2
    assert np.bincount(labels, right - chance, 4) == pytest.approx(pull, abs=1e-6)


def test_calibrated_scores_are_right_as_often_whatever_the_label() -> None:
    scores, labels, right = events(20_000)
    made = calibration_of(fit(scores, labels, right, 4), WORDS)
    rows = np.zeros((len(scores), 4))
    rows[np.arange(len(scores)), labels] = scores
    mapped = made.mapped(rows)[np.arange(len(scores)), labels]
    shares = [right[(labels == n) & (abs(mapped - 0.4) < 0.05)].mean() for n in (0, 1)]
    before = [right[(labels == n) & (abs(scores - 0.4) < 0.05)].mean() for n in (0, 1)]
    assert abs(shares[0] - shares[1]) < 0.07
    assert abs(before[0] - before[1]) > 0.3


@pytest.mark.parametrize("verdict", [True, False])
def test_where_all_events_are_alike_nothing_is_learned(verdict: bool) -> None:
    with pytest.raises(InputError, match="nothing can be learned"):
        fit(np.array([0.1, 0.5]), np.array([0, 1]), np.array([verdict, verdict]), 2)


def test_the_file_is_that_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounds").mkdir()
    for clip in demo_clips():
        shutil.copy(clip.path, tmp_path / "sounds")
    monkeypatch.setattr(calibrate, "LOW", 0.01)
    out = tmp_path / "made.calibration.json"
    words = main(tmp_path / "sounds", "dymn04_kd", str(out), n_rounds=1)
    assert "events of" in words
    with Tagger("dymn04_kd") as tagger:
        made = read_calibration(out, tagger.vocabulary, tagger.model.sha256)
        assert made is not None
        assert made.shifts.any()
    with pytest.raises(OutputError):
        main(tmp_path / "sounds", "dymn04_kd", str(out), n_rounds=1)
