"""Pictures are files that show the figures, whatever the labels are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import BackendUnavailableError, OutputError, UsageError
from dymn_cli.evaluation import plots
from dymn_cli.evaluation.evaluate import Evaluation, evaluate
from dymn_cli.evaluation.plots import draw_evaluation
from dymn_cli.plotting.picture import check_picture

pytest.importorskip("matplotlib")

NAMES = (
    "Dog",
    "$x^2$ and $y$",
    "日本語",
    "a name that is much too long for a picture of this size",
    "\x1b[31m",
)


def evaluation(n_classes: int = 5, n: int = 60) -> Evaluation:
    rng = np.random.default_rng(0)
    which = np.arange(n) % n_classes
    truth = np.eye(n_classes, dtype=bool)[which]
    scores = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1)
    return evaluate(
        scores, truth, [("", NAMES[i] if i < len(NAMES) else f"class {i}") for i in range(n_classes)]
    )


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_every_kind_of_picture_and_equal_figures_give_equal_files(
    tmp_path: Path, kind: str, start: bytes
) -> None:
    one, other = tmp_path / f"1.{kind}", tmp_path / f"2.{kind}"
    for path in (one, other):
        draw_evaluation(evaluation(), str(path), title="a $title")
    assert one.read_bytes().startswith(start)
    assert one.read_bytes() == other.read_bytes()


def test_very_many_classes_fit(tmp_path: Path) -> None:
    draw_evaluation(evaluation(130, 260), str(tmp_path / "many.svg"), title="many")
    shown = plots._shown(evaluation(130, 260).classes)
    assert len(shown) == plots.MAX_BARS + 1
    figures = [one.average_precision for one in shown if one is not None]
    assert figures == sorted(figures, reverse=True)


def test_one_class_fits(tmp_path: Path) -> None:
    draw_evaluation(evaluation(1, 4), str(tmp_path / "one.png"), title="one")
    assert (tmp_path / "one.png").stat().st_size > 5000


def test_what_cannot_be_drawn_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="not a kind of picture"):
        check_picture("x.bmp")
    (tmp_path / "x.png").touch()
    with pytest.raises(OutputError, match="exists"):
        draw_evaluation(evaluation(), str(tmp_path / "x.png"), title="x")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(BackendUnavailableError, match="pictures need matplotlib") as caught:
        check_picture("x.png")
    assert caught.value.hint == "pip install 'dymn[plot]'"
