"""Reading `--thresholds FILE.csv`: the lowest score by label."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from dymn_cli.errors import UsageError

__all__ = ["read_thresholds"]

COLUMNS = ("mid", "label", "threshold")
TOO_MANY = "cells without a column"


LONGEST_LABEL = 200  # three times the longest of AudioSet's


def read_thresholds(path: str) -> tuple[tuple[str, float], ...]:
    """Read (label, lowest score) pairs from a CSV file with columns `mid,label,threshold`.

    Either of `mid` and `label` may be empty or missing as a column; where both are there, `mid` counts. The
    labels are looked up when a model is known.

    Raises:
        UsageError: the file cannot be read, lacks a column, or a row names no label or no score in [0, 1].
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restkey=TOO_MANY)
            header = rows.fieldnames or []
            if "threshold" not in header or not {"mid", "label"} & set(header):
                raise UsageError(f"{path}: the first line must name the columns {','.join(COLUMNS)}")
            return tuple(_pair(row, f"{path}, line {rows.line_num}") for row in rows)
    except OSError as exc:
        raise UsageError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise UsageError(f"{path}: not a CSV file in UTF-8: {exc}") from exc


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
