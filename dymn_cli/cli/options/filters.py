"""The options that select from a finished result: the same for each command that reads one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import Exclude, Label, MinScore, MinScores
from dymn_cli.cli.options.panels import INPUT, SELECT

if TYPE_CHECKING:
    from dymn_cli.readers import SelectionOptions

__all__ = ["AudioRoot", "FilterOptions", "FromFormat"]


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Which rows of a result are taken."""

    label: Label = field(default_factory=list)
    exclude: Exclude = field(default_factory=list)
    descendants: Annotated[
        bool, flag("--descendants", "Also all kinds of these labels, by AudioSet's ontology.", SELECT)
    ] = False
    min_score: MinScore = 0.0
    thresholds: MinScores = None

    def selection(self, *, top: int = 0) -> SelectionOptions:
        """These options as the library takes them.

        Raises:
            UsageError: a value out of range, or a file of thresholds that cannot be read.
        """
        from dymn_cli.readers import SelectionOptions
        from dymn_cli.tagging.thresholds import read_thresholds

        return SelectionOptions(
            labels=tuple(self.label),
            exclude=tuple(self.exclude),
            descendants=self.descendants,
            min_score=self.min_score,
            thresholds=read_thresholds(self.thresholds).pairs,
            top=top,
        )


FromFormat = Annotated[
    str | None,
    opt("--from", "FORMAT", "Format of the result (default: detected).", INPUT),
]
AudioRoot = Annotated[
    str | None,
    opt("--audio", "ROOT", "The recording, or the folder of recordings.", INPUT),
]
