"""The reference of the command line is made from the declarations, and is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from dymn_cli.cli.app import app
from dymn_cli.cli.reference import FILE, MODULE, commands, reference


def test_the_reference_is_up_to_date(repository: Path) -> None:
    file = repository / FILE
    if not file.parent.is_dir():
        pytest.skip("no .github here: not a clone of the repository")
    assert file.read_text("utf-8") == reference(), f"out of date: run python -m {MODULE}, and commit {FILE}"


def test_every_command_option_value_default_and_variable_is_in_it() -> None:
    sections = {part.partition("`")[0]: part for part in reference().split("\n## `")[1:] if "`" in part}
    found = dict(commands(typer.main.get_command(app)))
    assert list(sections) == list(found)
    for name, command in found.items():
        for parameter in command.params:
            if parameter.hidden:
                continue
            spellings = (
                (*parameter.opts, *parameter.secondary_opts)
                if parameter.param_type_name == "option"
                else (parameter.metavar,)
            )
            row = next(line for line in sections[name].splitlines() if line.startswith(f"| `{spellings[0]}`"))
            assert all(f"`{spelling}`" in row for spelling in spellings)
            assert parameter.help.replace("|", "\\|") in row
            if parameter.param_type_name == "option":
                if not (parameter.is_flag or parameter.count):
                    assert f"`{parameter.metavar}`".replace("|", "\\|") in row
                    if isinstance(parameter.default, str | int | float):
                        assert f"`{parameter.default}`" in row
                assert parameter.envvar is None or f"`{parameter.envvar}`" in row
