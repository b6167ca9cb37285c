"""How help looks: plain lines under headings, by group of options.

Typer's own help draws with rich, which takes as long to load as all the rest of the program's start; this
one needs nothing. Headings and options are emphasised on terminals; colour goes when nobody sees it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from dymn_cli.errors import UsageError

__all__ = ["Command", "Program", "command"]

OWN = "Help"


def _heading(text: str) -> str:
    return typer.style(text, bold=True)


def _option(text: str) -> str:
    return typer.style(text, fg="cyan")


def _write_text(text: str | None, formatter: Any) -> None:
    """Paragraphs as they stand; lines that are indented, the examples, keep their indentation."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        formatter.write_paragraph()
        if paragraph.startswith(" "):
            formatter.write("".join(f"{line}\n" for line in paragraph.splitlines()))
        else:  # an option that is torn at its hyphens cannot be copied
            lines = textwrap.wrap(" ".join(paragraph.split()), formatter.width, break_on_hyphens=False)
            formatter.write("".join(f"{line}\n" for line in lines))


class Command(TyperCommand):
    """A command whose help shows its options by group."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; an error knows which command's help explains it.

        Raises:
            UsageError: a value is empty, or a command of one model is given several.
        """
        words = list(args)  # reading them takes them away
        try:
            rest = super().parse_args(ctx, args)
        except typer.TyperException as exc:
            if getattr(exc, "ctx", None) is None:
                exc.ctx = ctx  # type: ignore[attr-defined]
            raise
        if not ctx.resilient_parsing:  # a line that is being completed may say anything
            from dymn_cli.cli.options.requirements import require_one_model, require_values

            require_values(self, ctx)
            require_one_model(self, ctx, words)
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments as in every manual: what must be there has no brackets."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Summary and examples."""
        _write_text(self.help, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options, a section for each group."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "argument":
                row = (_option(parameter.metavar or "ARGUMENT"), getattr(parameter, "help", None) or "")
                sections.setdefault("Arguments", []).append(row)
            elif (record := parameter.get_help_record(ctx)) is not None:
                panel = getattr(parameter, "rich_help_panel", None) or OWN
                sections.setdefault(panel, []).append((_option(record[0].rstrip()), record[1]))
        for name in sorted(sections, key=OWN.__eq__):
            with formatter.section(_heading(name)):
                formatter.write_dl(sections[name], col_max=34)


class Program(TyperGroup):
    """The program: its commands, a line each.

    Attributes:
        groups: headings and the names of the commands under them; the others come last, under "Commands".
    """

    groups: Mapping[str, Sequence[str]] = {}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named.

        Raises:
            UsageError: there is none; the hint has the nearest.
        """
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            from difflib import get_close_matches  # only a misspelt command needs it

            near = get_close_matches(args[0], self.list_commands(ctx), n=3, cutoff=0.4)
            hint = f"nearest: {', '.join(near)}" if near else f"{ctx.command_path} --help lists them"
            raise UsageError(f"no such command: {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """What it is, and the first things to type."""
        _write_text(self.help, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Commands first: they are what one looks for."""
        group_of = {name: group for group, names in self.groups.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in (*self.groups, "Commands")}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                row = (_option(name.ljust(8)), command.get_short_help_str(limit=120))
                rows[group_of.get(name, "Commands")].append(row)
        for group, of_group in rows.items():
            if of_group:
                with formatter.section(_heading(group)):
                    formatter.write_dl(of_group)
        options = [p.get_help_record(ctx) for p in self.get_params(ctx)]
        with formatter.section(_heading("Options")):
            formatter.write_dl([(_option(o[0].rstrip()), o[1]) for o in options if o is not None])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The environment."""
        _write_text(self.epilog, formatter)


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def command(
    app: typer.Typer, name: str | None = None, **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command; parameters that are dataclasses become their fields."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        groups = {
            key: hint
            for key, hint in hints.items()
            if isinstance(hint, type) and dataclasses.is_dataclass(hint)
        }
        flat: list[inspect.Parameter] = []
        for key, parameter in inspect.signature(function).parameters.items():
            if key not in groups:
                flat.append(parameter.replace(annotation=hints[key], kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            types = get_type_hints(groups[key], include_extras=True)
            flat.extend(
                inspect.Parameter(
                    part.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=_default(part),
                    annotation=types[part.name],
                )
                for part in dataclasses.fields(groups[key])
            )

        @functools.wraps(function)
        def call(**given: Any) -> None:
            filled = {
                key: group(**{part.name: given.pop(part.name) for part in dataclasses.fields(group)})
                for key, group in groups.items()
            }
            function(**filled, **given)

        call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
        del call.__wrapped__  # typer would look through to the groups
        app.command(name, cls=Command, context_settings=CONTEXT, **settings)(call)
        return function

    return register


def _default(part: dataclasses.Field[Any]) -> Any:
    if part.default_factory is not dataclasses.MISSING:
        return part.default_factory()
    return inspect.Parameter.empty if part.default is dataclasses.MISSING else part.default
