"""Reading `--thresholds FILE.csv`: the lowest score by label."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from dymn_cli.datasets.tables import small_table
from dymn_cli.errors import UsageError
from dymn_cli.labels import Vocabulary
from dymn_cli.values import score_of

__all__ = ["Thresholds", "read_thresholds"]

COLUMNS = ("mid", "label", "threshold")
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
    """Read a table with columns `mid,label,threshold`; where no file is named, there are no thresholds.

    Either of `mid` and `label` may be empty or missing as a column; where both are there, `mid` counts. The
    labels are looked up when a model is known.

    Raises:
        UsageError: the file cannot be read, lacks a column or has one twice; a row names no label, that of
            another row, an id and a label of AudioSet that differ, or no score in [0, 1].
    """
    if path is None:
        return Thresholds()
    table = small_table(path, UsageError, errors="strict")
    if "threshold" not in table.columns or not {"mid", "label"} & set(table.columns):
        raise UsageError(f"{path}: the first line must name the columns {','.join(COLUMNS)}")
    found: dict[str, tuple[float, str]] = {}
    for line, row in table:
        place = table.at(line)
        label, threshold = _pair(row, place)
        if label in found:
            raise UsageError(f"{place}: {label!r} has a threshold already: {found[label][1]}")
        found[label] = threshold, place
    return Thresholds(
        tuple((label, threshold) for label, (threshold, _) in found.items()),
        tuple(place for _, place in found.values()),
    )


def _pair(row: dict[str, str], where: str) -> tuple[str, float]:
    mid, label, text = (row.get(column, "") for column in COLUMNS)
    name = mid or label
    if not name:
        raise UsageError(f"{where}: no label")
    if len(name) > LONGEST_LABEL:
        raise UsageError(f"{where}: {name[:20]!r}… is too long for a label")
    known = _audioset_ids().get(label, mid)
    if mid and known != mid:
        raise UsageError(
            f"{where}: the id of {label!r} is {known}, not {mid}", hint="leave one of them empty"
        )
    return name, score_of(text, where, error=UsageError)


@functools.cache
def _audioset_ids() -> dict[str, str]:
    """The ids of AudioSet's labels by name."""
    return {label.name: label.mid for label in Vocabulary.audioset()}
