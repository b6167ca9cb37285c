"""`dymn models pull` and `remove`: published models come, and models go."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.groups import complete_model
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.doctor.admission import self_test
from dymn_cli.errors import ModelError, PartialFailure, UsageError, WeightsMissingError
from dymn_cli.values import bytes_text

if TYPE_CHECKING:
    from dymn_cli.store.pull import Pulled, Source

__all__ = ["register"]

PULL_HELP = """Download published models for -m.

  dymn models pull dymn10_as
  dymn models pull mn04_as --from mn04_as_mAP_432.pt

A checkpoint is recognised by its SHA-256 or git hash. Where none is
known, you are told, the first file is trusted, and a different one is refused from then on (--repin accepts
it). It is converted without executing anything in it and must pass a self-test before it gets its name; if it
fails, the model that was there before stays. An interrupted download, also by Ctrl-C, continues when the
command is given again.

DYMN_MIRROR=ADDRESS: a web folder with files of the same names. DYMN_OFFLINE=1: only --from works.
https_proxy, http_proxy and no_proxy are respected. Exit codes: 4 not available, or not the expected file;
5 no space; 6 some models were pulled, others not.
"""

REMOVE_HELP = """Remove models that were pulled or added, or what a broken download left.

  dymn models remove dymn10_as
  dymn models remove my-birds mn40_as

What ships with dymn stays. The hash of a checkpoint that was trusted when it was first seen is remembered.
"""

SOURCE, STORE = "Where from", "What is here"
HOW = {
    "sha256": "recognised by its SHA-256",
    "git-blob": "recognised by its git hash",
    "pin": "the same file as when it was first seen",
    "first-seen": "a file without a published hash",
}


def register(group: typer.Typer) -> None:
    """Add the commands."""
    command(group, "pull", help=PULL_HELP)(pull)
    command(group, "remove", help=REMOVE_HELP)(remove)


def pull(
    *,
    names: Annotated[list[str], arg("NAME", "Models by name.", autocompletion=complete_model)],
    url: Annotated[str | None, opt("--url", "ADDRESS", "Download the file from ADDRESS.", SOURCE)] = None,
    file: Annotated[
        str | None, opt("--from", "FILE|DIR", "Use a local file, or the files in DIR by their names.", SOURCE)
    ] = None,
    force: Annotated[bool, flag("--force", "Download again even if the model is here.", STORE)] = False,
    repin: Annotated[
        bool, flag("--repin", "Download again, and trust a file that is not the one seen first.", STORE)
    ] = False,
    keep: Annotated[bool, flag("--keep", "Keep the original checkpoint, too.", STORE)] = False,
    messages: Messages,
) -> None:
    """Pull models one after the other; one that fails does not keep the others from coming."""
    sources = _sources(list(dict.fromkeys(names)), url, file)
    errors: list[ModelError] = []
    for name, source in sources.items():
        try:
            _tell(_pull(name, source, messages, force=force or repin, repin=repin, keep=keep), messages)
        except ModelError as error:
            if len(sources) == 1:
                raise
            messages.error(error)
            errors.append(error)
    if len(errors) == len(sources) and errors:
        raise typer.Exit(errors[0].exit_code)
    if errors:
        raise typer.Exit(PartialFailure.exit_code)


def _sources(names: list[str], url: str | None, file: str | None) -> dict[str, Source]:
    """Where each model comes from; what is asked for wrongly is said before anything is fetched."""
    from dymn_cli.store.pull import source_of
    from dymn_cli.store.registry import model_spec

    path = None if file is None else Path(file)
    if len(names) > 1 and (url is not None or (path is not None and not path.is_dir())):
        raise UsageError(f"one file cannot be {len(names)} models", hint="--from DIR, or DYMN_MIRROR")
    return {name: source_of(model_spec(name), url=url, file=path) for name in names}


def _pull(name: str, source: Source, messages: Messages, *, force: bool, repin: bool, keep: bool) -> Pulled:
    from dymn_cli.cli.terminal.progress import Download
    from dymn_cli.store.pull import pull as pull_model

    with Download(name, messages.note, messages.display(in_logs=True)) as watch:
        try:
            return pull_model(name, source, test=self_test, watch=watch, force=force, repin=repin, keep=keep)
        except KeyboardInterrupt:
            if source.file is None:
                messages.note(f"{name}: what has come is kept; run the same command to continue")
            raise


def _tell(pulled: Pulled, messages: Messages) -> None:
    spec = pulled.spec
    if pulled.was_there:
        messages.note(f"{spec.name}: already here (--force downloads it again)")
        return
    messages.note(f"{spec.name}: ready, {bytes_text(spec.size_bytes or 0)}, {HOW[pulled.recognised_by]}")
    if spec.purpose == "embeddings":
        messages.note(f"{spec.name}: for embeddings and fine-tuning; it has no labels to tag with")


def remove(
    *,
    names: Annotated[list[str], arg("NAME", "Models by name.", autocompletion=complete_model)],
    messages: Messages,
) -> None:
    """Remove models from the local store."""
    from dymn_cli.store import local
    from dymn_cli.store.registry import known_names, model_spec, model_specs

    bundled = [spec.name for spec in model_specs() if spec.origin == "bundled"]
    for name in names:
        if name in bundled:
            raise UsageError(f"{name} ships with dymn and cannot be removed", hint="pip uninstall dymn")
        if name not in known_names():
            model_spec(name)  # says that there is none, and what is near
    for name in dict.fromkeys(names):
        with local.locked(name, partial(messages.note, f"{name}: waiting for another dymn")) as folder:
            if not any(folder.iterdir()):
                raise WeightsMissingError(f"{name} is not on this machine: there is nothing to remove")
            n_bytes = local.discard(name)
        messages.note(f"{name}: removed, {bytes_text(n_bytes)} freed")
