"""Reading `--thresholds FILE.csv`: the lowest score by label."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.errors import UsageError

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
        """See that the model has all these labels.

        Raises:
            UsageError: it lacks one; the message says where that stands, the hint has the nearest.
        """
        for (label, _), place in zip(self.pairs, self.places, strict=True):
            try:
                vocabulary.find(label)
            except UsageError as exc:
                raise UsageError(f"{place}: {exc.message}", hint=exc.hint) from exc


def read_thresholds(path: str | None) -> Thresholds:
    """Read a CSV file with columns `mid,label,threshold`; where no file is named, there are no thresholds.

    Either of `mid` and `label` may be empty or missing as a column; where both are there, `mid` counts. The
    labels are looked up when a model is known.

    Raises:
        UsageError: the file cannot be read, lacks a column, or a row names no label or no score in [0, 1].
    """
    if path is None:
        return Thresholds()
    pairs, places = [], []
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restkey=TOO_MANY)
            header = rows.fieldnames or []
            if "threshold" not in header or not {"mid", "label"} & set(header):
                raise UsageError(f"{path}: the first line must name the columns {','.join(COLUMNS)}")
            for row in rows:
                places.append(f"{path}, line {rows.line_num}")
                pairs.append(_pair(row, places[-1]))
    except OSError as exc:
        raise UsageError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path}: not text in UTF-8", hint="save it as CSV in UTF-8") from exc
    except csv.Error as exc:
        raise UsageError(f"{path}: not a CSV file: {exc}") from exc
    return Thresholds(tuple(pairs), tuple(places))


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
        raise UsageError(f"{where}: {text!r} is no score between 0 and 1")
    return name, threshold
