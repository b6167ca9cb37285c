"""What no command line may say, whichever the command is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dymn_cli.cli.options.panels import OUTPUT
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from dymn_cli.cli.options.command import Command

__all__ = ["require_one_model", "require_values", "typed_options"]


def require_values(command: Command, ctx: Any) -> None:
    """Refuse names and values that are empty; where results go is said by who opens the place.

    Raises:
        UsageError: an argument or option is given as an empty text.
    """
    for parameter in command.get_params(ctx):
        value = ctx.params.get(parameter.name)
        is_output = getattr(parameter, "rich_help_panel", None) == OUTPUT
        if is_output or "" not in (value if isinstance(value, list | tuple) else [value]):
            continue
        called = parameter.opts[-1] if parameter.param_type_name == "option" else parameter.metavar
        raise UsageError(f"{called} is empty", hint=f"is a shell variable unset? {ctx.command_path} --help")


def require_one_model(command: Command, ctx: Any, words: list[str]) -> None:
    """Refuse a second -m where only the last one would count: elsewhere it means an ensemble.

    Raises:
        UsageError: a command of one model is given several.
    """
    given = command.make_parser(ctx).parse_args(words)[2]
    n_given = sum(parameter.name == "model" and not parameter.multiple for parameter in given)
    if n_given > 1:
        raise UsageError(f"{ctx.command_path} takes one model, not {n_given}", hint="give -m once")


def typed_options(ctx: Any, names: Collection[str]) -> list[str]:
    """The options among these parameters that the command line sets; the environment may set others."""
    return [
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name in names and ctx.get_parameter_source(parameter.name).name == "COMMANDLINE"
    ]
