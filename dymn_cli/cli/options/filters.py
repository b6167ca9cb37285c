"""The options that select from a finished result: the same for each command that reads one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import complete_label

if TYPE_CHECKING:
    from dymn_cli.readers import SelectionOptions

__all__ = ["AudioRoot", "FilterOptions", "FromFormat"]

ROWS = "Which rows"
INPUT = "What to read"


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Which rows of a result are taken."""

    label: Annotated[
        list[str],
        opt(
            "-l --label",
            "LABEL",
            "Only this label: name, /m/... id or slug. Repeat it for more.",
            ROWS,
            autocompletion=complete_label,
        ),
    ] = field(default_factory=list)
    exclude: Annotated[
        list[str],
        opt(
            "--exclude",
            "LABEL",
            "All but this label. Repeat it for more.",
            ROWS,
            autocompletion=complete_label,
        ),
    ] = field(default_factory=list)
    descendants: Annotated[
        bool, flag("--descendants", "Also all kinds of these labels, by AudioSet's ontology.", ROWS)
    ] = False
    min_score: Annotated[float, opt("-t --min-score", "X", "Only scores of at least X.", ROWS)] = 0.0
    thresholds: Annotated[
        str | None,
        opt("--thresholds", "FILE.csv", "Lowest score by label: columns mid,label,threshold.", ROWS),
    ] = None

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
    opt("--from", "FORMAT", "The format of the result (default: as its beginning tells).", INPUT),
]
AudioRoot = Annotated[
    str | None,
    opt("--audio", "ROOT", "The folder that the recordings are in, or the one recording.", INPUT),
]
