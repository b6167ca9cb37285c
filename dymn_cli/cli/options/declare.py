"""Declare an argument or an option in one line: its names, its value, its help and its panel."""

from __future__ import annotations

from typing import Any

import typer

__all__ = ["arg", "flag", "opt"]


def arg(metavar: str, text: str, **settings: Any) -> Any:
    """Declare an argument.

    Args:
        metavar: what help calls it.
        text: its help.
        settings: anything else that `typer.Argument` takes.
    """
    return typer.Argument(metavar=metavar, help=text, show_default=False, **settings)


def opt(names: str, metavar: str, text: str, panel: str | None = None, **settings: Any) -> Any:
    """Declare an option that takes a value.

    Args:
        names: its spellings, separated by spaces, such as `"-o --out"`.
        metavar: what help shows for the value.
        text: its help.
        panel: the heading it stands under.
        settings: anything else that `typer.Option` takes.
    """
    return typer.Option(*names.split(), metavar=metavar, help=text, rich_help_panel=panel, **settings)


def flag(names: str, text: str, panel: str | None = None, **settings: Any) -> Any:
    """Declare an option without a value; `"--a/--no-a"` declares both of its spellings."""
    return opt(names, "", text, panel, **settings)
