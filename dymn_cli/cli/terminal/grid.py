"""A table whose figures stay whole, however narrow the terminal is. Imports rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = ["GAP", "Grid"]

GAP = 2  # blanks between columns
FOLDED = 12  # a column of text gives way down to this
ENDLESS = 1 << 16


class Grid(Table):
    """Columns without lines between them: those of text fold, those that may not wrap keep their width.

    Where that is not enough it is drawn wider than the console: a line that a terminal wraps is still
    copied whole, a figure in two cells is not.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it, as wide as it must be."""
        endless = options.update(width=ENDLESS)
        for column in self.columns:
            cells = [*([column.header] if self.show_header else []), *column.cells]
            widest = max((Measurement.get(console, endless, cell).maximum for cell in cells), default=0)
            lowest = widest if column.no_wrap else min(widest, FOLDED)
            column.min_width = max(column.min_width or 0, lowest)
        needed = sum(column.min_width or 0 for column in self.columns) + GAP * (len(self.columns) - 1)
        yield from super().__rich_console__(console, options.update(width=max(options.max_width, needed)))
