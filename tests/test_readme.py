"""The README speaks of what there is, and of all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dymn_cli.cli.app import app
from dymn_cli.writers import TAG_FORMATS

COMMANDS = [
    name
    for name in (
        *(command.name for command in app.registered_commands),
        *(group.name for group in app.registered_groups),
    )
    if name
]


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text("utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown(command: str, readme: str) -> None:
    assert f"dymn {command} " in readme or f"`dymn {command}`" in readme


def test_no_command_is_shown_that_there_is_not(readme: str) -> None:
    shown = set(re.findall(r"(?:^|\| )dymn ([a-z]+)", readme, flags=re.MULTILINE))
    assert shown <= set(COMMANDS)


@pytest.mark.parametrize("name", TAG_FORMATS)
def test_every_format_is_described(name: str, readme: str) -> None:
    assert f"`{name}`" in readme
