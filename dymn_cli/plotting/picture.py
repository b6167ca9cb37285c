"""A matplotlib figure as a file: PNG, SVG or PDF, with the same bytes for the same figure.

Nothing is shown on a screen: figures are drawn by the Agg backend or its kin for files.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.errors import BackendUnavailableError, UsageError
from dymn_cli.writers.target import open_target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "check_picture", "save_picture"]

PICTURES = ("png", "svg", "pdf")
WIDE_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "IPAGothic", "Hiragino Sans", "PingFang SC",
    "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip
"""Fonts with Chinese, Japanese and Korean letters, which matplotlib's own lacks; those installed are used."""


def check_picture(out: str) -> None:
    """Say before any work is done that a picture cannot be drawn.

    Raises:
        UsageError: its name ends with none of `PICTURES`.
        BackendUnavailableError: matplotlib is missing.
    """
    if _format(out) not in PICTURES:
        raise UsageError(
            f"{out}: not a kind of picture", hint=f"use a name ending in .{', .'.join(PICTURES)}"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as exc:
        raise BackendUnavailableError(
            f"pictures need matplotlib: {exc}", hint="pip install 'dymn[plot]'"
        ) from exc


def save_picture(out: str, draw: Callable[[], Figure], *, force: bool = False, dpi: int = 150) -> None:
    """Draw a figure into a file.

    Args:
        out: path; its suffix says which kind of picture.
        draw: makes the figure.
        force: replace what exists.
        dpi: dots per inch of a PNG, and of what is a bitmap in the others.

    Raises:
        UsageError, BackendUnavailableError: see `check_picture`.
        OutputError: it cannot be written.
    """
    check_picture(out)
    import matplotlib as mpl

    style = mpl.rc_context(
        {
            "svg.hashsalt": "dymn",  # names of its parts, else drawn by lot
            "font.size": 9,
            "font.family": ["sans-serif", *_installed(WIDE_FONTS)],
            "axes.axisbelow": True,
            "text.parse_math": False,  # a label with two dollar signs is no formula
        }
    )
    kind = _format(out)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # of weights that a font lacks
    with style, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a font that lacks a letter of a label draws a box
        picture = io.BytesIO()
        # No date, so that equal figures give equal files.
        metadata = {"png": {"Software": "dymn"}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        draw().savefig(picture, format=kind, dpi=dpi, metadata=metadata[kind])
    with open_target(out, force=force) as target:
        target.stream.write(picture.getvalue())


def _installed(fonts: Sequence[str]) -> list[str]:
    from matplotlib.font_manager import fontManager

    known = {font.name for font in fontManager.ttflist}
    return [name for name in fonts if name in known]


def _format(out: str) -> str:
    return Path(out).suffix.lower().lstrip(".")
