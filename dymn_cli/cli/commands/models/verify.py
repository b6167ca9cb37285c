"""`dymn models verify`: are the models that are here what they should be, and do they answer?"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, opt
from dymn_cli.cli.options.groups import ListOptions, complete_model
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import choose_form, draw, grid, print_bytes
from dymn_cli.errors import ModelError, UsageError, WeightsMissingError, with_hint

if TYPE_CHECKING:
    from dymn_cli.doctor.self_test import ExampleCheck

__all__ = ["register"]

HELP = """Check model files, and that each model loads and gives the right scores.

  dymn models verify
  dymn models verify my-model.safetensors
  dymn models verify mn04_as --clip metro_station-paris.wav

Without names, all models that are here. Per model: the SHA-256 of its file, finite answers to a synthetic
sound, the same ones twice and, where PyTorch is installed, the same from it within 1e-4. With --clip also the
scores of the example clip of the published models, for those where they are known: mn04_as, dymn10_as. Exit
code 1: one of them failed; 4: its file is missing.

In a pipe, tab-separated: name, state (ok, failed, missing), detail. Formats: table, tsv, json.
"""

FAILED = 1
COLUMNS = ("name", "state", "detail")
STYLES = {"ok": "bold green", "failed": "bold red", "missing": "yellow"}


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "verify", help=HELP)(verify)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out about a model: ok, failed or missing, and one line that says more."""

    name: str
    state: Literal["ok", "failed", "missing"]
    detail: str
    sha256: str | None = None
    difference: float | None = None
    example: ExampleCheck | None = None


def verify(
    *,
    names: Annotated[
        list[str] | None,
        arg(
            "NAME",
            "Models by name, or model files; all models without it.",
            autocompletion=complete_model,
        ),
    ] = None,
    clip: Annotated[
        str | None, opt("--clip", "FILE", "Your copy of the published example clip.", "What to verify")
    ] = None,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Check models one by one and print a line each."""
    from dymn_cli.store.registry import resolve
    from dymn_cli.writers.to_json import json_document
    from dymn_cli.writers.to_tsv import tsv_line

    form = choose_form(listing.format)
    wanted = names or _here(with_example=clip is not None)
    for name in wanted:
        with contextlib.suppress(ModelError):
            resolve(name)  # a name that is none is said before any work is done
    if clip is not None:
        _require_examples(wanted)
    if form == "tsv" and listing.header:
        print_bytes(tsv_line(COLUMNS))
    verdicts = []
    for name in wanted:
        verdicts.append(_verdict(name, clip))
        if form != "json":
            _print(verdicts[-1], form, messages, name_width=max(map(len, wanted)))
    if form == "json":
        objects = [_object(verdict) for verdict in verdicts]
        print_bytes(json_document({"schema": "dymn.verification/1", "models": objects}))
    states = {verdict.state for verdict in verdicts}
    if "failed" in states:
        raise typer.Exit(FAILED)
    if "missing" in states:
        raise typer.Exit(WeightsMissingError.exit_code)


def _here(*, with_example: bool) -> list[str]:
    """Names of the models that should be here; with a clip, of those whose scores of it are known."""
    from dymn_cli.store.registry import known_specs

    specs = [spec for spec in known_specs() if spec.file]
    if not with_example:
        return [spec.name for spec in specs]
    found = [spec.name for spec in specs if spec.example is not None]
    if not found:
        raise UsageError(
            "no model is here whose scores of the example clip were published",
            hint="dymn models pull mn04_as",
        )
    return found


def _require_examples(names: list[str]) -> None:
    from dymn_cli.store.registry import model_specs

    with_scores = [spec.name for spec in model_specs() if spec.example is not None]
    for name in names:
        if name not in with_scores:
            raise UsageError(
                f"no scores of the example clip were published for {name}",
                hint=f"--clip is for {' and '.join(with_scores)}",
            )


def _verdict(name: str, clip: str | None) -> Verdict:
    from dymn_cli.doctor.self_test import check_example, check_model

    try:
        check = check_model(name)
        example = None if clip is None else check_example(name, clip)
    except WeightsMissingError as error:
        return Verdict(name, "missing", with_hint(error.message, error.hint))
    except ModelError as error:
        return Verdict(name, "failed", with_hint(error.message, error.hint))
    against = f"PyTorch not asked: {check.unasked}"
    if check.difference is not None:
        against = f"PyTorch within {check.difference:.1e}"
    detail = f"SHA-256 {check.info.sha256[:12]}…, {check.info.backend} runs it, {against}"
    if example is None:
        return Verdict(name, "ok", detail, check.info.sha256, check.difference)
    label, published, here = max(example.rows, key=lambda row: abs(row[1] - row[2]))
    detail += (
        f"; example clip: within {example.difference:.1e} of the published scores ({example.tolerance:g}"
        f" allowed; {example.source}), farthest {label}: {here:.4f} here, {published:.4f} there"
    )
    state: Literal["ok", "failed"] = "ok" if example.holds else "failed"
    return Verdict(name, state, detail, check.info.sha256, check.difference, example)


def _object(verdict: Verdict) -> dict[str, object]:
    facts = dataclasses.asdict(verdict)
    if (example := verdict.example) is not None:
        facts["example"] = {
            "source": example.source,
            "tolerance": example.tolerance,
            "difference": example.difference,
            "scores": [
                {"label": label, "published": published, "here": here}
                for label, published, here in example.rows
            ],
        }
    return facts


def _print(verdict: Verdict, form: str, messages: Messages, *, name_width: int) -> None:
    """Print a verdict at once: the next one takes its time."""
    if form == "tsv":
        from dymn_cli.writers.to_tsv import tsv_line

        print_bytes(tsv_line((verdict.name, verdict.state, verdict.detail)))
        return
    from rich.text import Text

    from dymn_cli.writers.spelling import visible

    table = grid(
        ("", {"min_width": 7}), ("", {"style": "bold", "min_width": name_width}), ("", {}), heading=False
    )
    state = Text(verdict.state, STYLES[verdict.state])
    table.add_row(state, visible(verdict.name), visible(verdict.detail))
    parts = [table]
    if verdict.example is not None:
        right = {"justify": "right"}
        scores = grid(("  label", {}), ("published", right), ("here", right))
        for label, published, here in verdict.example.rows:
            scores.add_row(f"  {label}", f"{published:.4f}", f"{here:.4f}")
        parts.append(scores)
    draw(messages.stdout_console(), *parts)
