"""Reading `--thresholds FILE.csv`: the lowest score by label."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dymn_cli.errors import UsageError
from dymn_cli.small_files import read_small_text

if TYPE_CHECKING:
    from dymn_cli.labels import Vocabulary

__all__ = ["Thresholds", "read_thresholds"]

COLUMNS = ("mid", "label", "threshold")
TOO_MANY = "cells without a column"


LONGEST_LABEL = 200  # three times the longest of AudioSet's


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a file of thresholds says.

    Args:
        pairs: (label, lowest score), the label as it is spelled there.
        places: file and line of each of them.
    """

    pairs: tuple[tuple[str, float], ...] = ()
    places: tuple[str, ...] = ()

    def require_known(self, vocabulary: Vocabulary) -> None:
        """See that the model has all these labels, each once.

        Raises:
            UsageError: it lacks one, or two spellings mean the same; the message says where that stands, the
                hint has the nearest.
        """
        first: dict[int, str] = {}
        for (label, _), place in zip(self.pairs, self.places, strict=True):
            try:
                index = vocabulary.find(label).index
            except UsageError as exc:
                raise UsageError(f"{place}: {exc.message}", hint=exc.hint) from exc
            if index in first:
                raise UsageError(f"{place}: {label!r} has a threshold already: {first[index]}")
            first[index] = place


def read_thresholds(path: str | None) -> Thresholds:
    """Read a CSV file with columns `mid,label,threshold`; where no file is named, there are no thresholds.

    Either of `mid` and `label` may be empty or missing as a column; where both are there, `mid` counts. The
    labels are looked up when a model is known.

    Raises:
        UsageError: the file cannot be read, lacks a column or has one twice; a row names no label, that of
            another row, or no score in [0, 1].
    """
    if path is None:
        return Thresholds()
    text = read_small_text(path, UsageError)
    found: dict[str, tuple[float, str]] = {}
    rows = csv.DictReader(io.StringIO(text, newline=""), restkey=TOO_MANY)
    try:
        header = rows.fieldnames or []
        if "threshold" not in header or not {"mid", "label"} & set(header):
            raise UsageError(f"{path}: the first line must name the columns {','.join(COLUMNS)}")
        twice = [name for name, n in Counter(header).items() if n > 1]
        if twice:
            raise UsageError(f"{path}, line 1: two columns have the name {twice[0]!r}")
        for row in rows:
            place = f"{path}, line {rows.line_num}"
            label, threshold = _pair(row, place)
            if label in found:
                raise UsageError(f"{place}: {label!r} has a threshold already: {found[label][1]}")
            found[label] = threshold, place
    except csv.Error as exc:
        raise UsageError(f"{path}: not a CSV file: {exc}") from exc
    return Thresholds(
        tuple((label, threshold) for label, (threshold, _) in found.items()),
        tuple(place for _, place in found.values()),
    )


def _pair(row: dict[str, str | None], where: str) -> tuple[str, float]:
    if TOO_MANY in row:
        raise UsageError(
            f"{where}: more cells than columns", hint='labels with commas stand in quotes: "a, b"'
        )
    name = (row.get("mid") or "").strip() or (row.get("label") or "").strip()
    if not name:
        raise UsageError(f"{where}: no label")
    if len(name) > LONGEST_LABEL:
        raise UsageError(f"{where}: {name[:20]!r}… is too long for a label")
    text = row.get("threshold") or ""
    try:
        threshold = float(text)
    except ValueError:
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise UsageError(f"{where}: {text!r} is not a score between 0 and 1")
    return name, threshold
