"""The checks of `dymn doctor` as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dymn_cli.cli.terminal.tables import grid
from dymn_cli.doctor.checks import Check, State

if TYPE_CHECKING:
    from rich.table import Table


__all__ = ["checks_table"]

STYLES: dict[State, str] = {"ok": "green", "absent": "dim", "warn": "bold yellow", "fail": "bold red"}


def checks_table(checks: Sequence[Check]) -> Table:
    """State, name and detail of each check, with the hint below."""
    from rich.text import Text

    from dymn_cli.writers.spelling import visible

    table = grid(("", {}), ("", {"style": "bold", "no_wrap": True}), ("", {}), heading=False)
    for check in checks:
        text = Text(visible(check.detail), "dim" if check.state == "absent" else "")
        if check.hint is not None:
            text.append(f"\n→ {visible(check.hint)}", "" if check.state == "absent" else "yellow")
        table.add_row(Text(check.state, STYLES[check.state]), check.name, text)
    return table
