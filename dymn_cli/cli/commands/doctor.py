"""`dymn doctor`: what this installation is made of, and whether it works."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.groups import BackendName, DeviceName, ListOptions, ModelName
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.cli.terminal.tables import Listing, choose_form, grid, show
from dymn_cli.values import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from dymn_cli.doctor.checks import Check, State

__all__ = ["register"]

HELP = """Check this installation.

  dymn doctor
  dymn doctor -f json

Each check is ok, absent (an extra that is not needed), warn or fail, with what to do about it. The last one
tags a clip that ships with dymn. Exit code 1: a check failed.
In a pipe, tab-separated: name, state, detail, hint. Formats: table, tsv, json.
"""

FAILED = 1
STYLES: dict[State, str] = {"ok": "green", "absent": "dim", "warn": "bold yellow", "fail": "bold red"}
SCHEMA = "dymn.doctor/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor", help=HELP)(doctor)


def doctor(
    *,
    model: ModelName = "dymn04_kd",
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Run all checks and print a line each."""
    from dataclasses import asdict

    from dymn_cli import __version__
    from dymn_cli.doctor.checks import COLUMNS, examine

    choose_form(listing.format)
    checks, times = examine(model, backend, device)

    rows = ((check.name, check.state, check.detail, check.hint) for check in checks)
    document = {
        "schema": SCHEMA,
        "dymn": __version__,
        "checks": [asdict(check) for check in checks],
        "times_ms": None if times is None else {key: round(ms, 2) for key, ms in asdict(times).items()},
    }
    show(Listing(COLUMNS, rows, document, lambda console: _table(checks)), listing, messages)
    states = [check.state for check in checks]
    if is_terminal(sys.stdout):
        messages.note(_summary(states.count("fail"), states.count("warn")))
    if "fail" in states:
        raise typer.Exit(FAILED)


def _table(checks: Sequence[Check]) -> Table:
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


def _summary(n_failed: int, n_warned: int) -> str:
    if n_failed:
        return f"{counted(n_failed, 'check')} failed; what to do is said beside each"
    return f"it works, with {counted(n_warned, 'warning')}" if n_warned else "all is well"
