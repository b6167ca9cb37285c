"""`dymn models convert` and `import`: models of one's own."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.panels import OUTPUT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.doctor.admission import self_test
from dymn_cli.errors import ModelError, UsageError
from dymn_cli.values import bytes_text, counted

if TYPE_CHECKING:
    from dymn_cli.store.local import Record

__all__ = ["register"]

CONVERT_HELP = """Turn a PyTorch checkpoint of a DyMN, MN or FMN, say a fine-tuned one, into a model for -m.

  dymn models convert best.pt --labels classes.txt --name my-birds
  dymn models convert best.pt --labels classes.txt -o my-birds.safetensors

Any number of classes. It needs no PyTorch, and nothing in the file is executed; one that asks for more than
tensors is refused. --labels has a class name a line, in the order of the outputs, or is a CSV file with a
column display_name, label, name or class; 527 classes without it are those of AudioSet, 447 of an FMN those
of AudioSet Strong. A frame head (strong_head.*) is kept. The model has to pass a self-test.
"""

IMPORT_HELP = """Give a name to a model file that dymn wrote: .safetensors, or .onnx of `dymn export`.

  dymn models import my-birds.safetensors
  dymn models import model.onnx --name my-birds

A copy goes into the local store after a self-test; its SHA-256 is checked at each use. Without --name, the
model is called like the file.
"""

CONTENT = "What the file holds"
MAX_MELS = 512  # that a front end may have

NameOption = Annotated[
    str | None,
    opt("--name", "NAME", "Keep it under NAME, for -m.", OUTPUT),
]
ForceOption = Annotated[
    bool,
    flag("--force", "Replace what has that name.", OUTPUT),
]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    command(group, "convert", help=CONVERT_HELP)(convert)
    command(group, "import", help=IMPORT_HELP)(import_file)


def convert(
    *,
    file: Annotated[str, arg("FILE", "A .pt, .pth, .ckpt or .safetensors file.")],
    labels: Annotated[str | None, opt("--labels", "FILE", "Names of the classes, in order.", CONTENT)] = None,
    temperature: Annotated[
        float | None,
        opt("--temperature", "X", "Of the Dy-Conv attention after training (default: 1).", CONTENT),
    ] = None,
    hop_ms: Annotated[
        int | None, opt("--hop-ms", "N", "Hop of the log-mel frames, in ms (default: 10).", CONTENT, min=1)
    ] = None,
    n_mels: Annotated[
        int | None, opt("--mels", "N", "Bands of the log-mel (default: 128).", CONTENT, min=1, max=MAX_MELS)
    ] = None,
    embeddings: Annotated[
        bool, flag("--embeddings", "For embeddings only: its classes are not sounds.", CONTENT)
    ] = False,
    name: NameOption = None,
    out: Annotated[str | None, opt("-o --out", "FILE", "Write a .safetensors file.", OUTPUT)] = None,
    force: ForceOption = False,
    messages: Messages,
) -> None:
    """Convert, test, and put where it is wanted."""
    if name is None and out is None:
        raise UsageError("no place for the model", hint="give either --name NAME or -o FILE.safetensors")
    if name is not None and out is not None:
        raise UsageError("--name and --out exclude each other", hint="give one of them")
    from dymn_cli.store.registry import require_file

    source = Path(file)
    _check_place(name, out, force=force)
    require_file(source)
    from dymn_cli.store.class_names import read_class_names
    from dymn_cli.store.convert import convert as convert_checkpoint

    vocabulary = None if labels is None else read_class_names(Path(labels))
    header, tensors = convert_checkpoint(
        source,
        name=name or Path(out or "").stem,
        temperature=temperature,
        hop_ms=hop_ms,
        n_mels=n_mels,
        labels=vocabulary,
        purpose="embeddings" if embeddings else "tags",
    )
    if name is not None:
        from dymn_cli.store.install import add_weights

        record = add_weights(name, source, header, tensors, test=self_test, force=force)
        _tell(record, messages)
        return
    from dymn_cli.store.weights import save_weights
    from dymn_cli.writers.target import open_target

    with tempfile.TemporaryDirectory(prefix="dymn-") as folder, open_target(out, force=force) as target:
        made = Path(folder) / "model.safetensors"
        sha256 = save_weights(made, header, tensors)
        _test(made, source)
        target.stream.write(made.read_bytes())
    messages.note(f"{out}: {counted(header.config.n_classes, 'class')}, SHA-256 {sha256[:12]}…")


def _test(made: Path, source: Path) -> None:
    try:
        self_test(made)
    except ModelError as error:
        reason = error.message.removeprefix(f"{made}: ")
        raise ModelError(f"{source}: the self-test failed: {reason}", hint=error.hint) from error


def import_file(
    *,
    file: Annotated[str, arg("FILE", "A .safetensors or .onnx file.")],
    name: NameOption = None,
    force: ForceOption = False,
    messages: Messages,
) -> None:
    """Copy, test, and give it its name."""
    from dymn_cli.store.registry import require_file

    source = Path(file)
    if source.suffix not in (".safetensors", ".onnx"):
        raise UsageError(
            f"{file} is not a .safetensors or .onnx file", hint="checkpoints of PyTorch: dymn models convert"
        )
    wanted = source.stem if name is None else name
    _check_place(wanted, None, force=force)
    require_file(source)
    _tell(_import(wanted, source, force=force), messages)


def _import(name: str, source: Path, *, force: bool) -> Record:
    from dymn_cli.store.install import add_onnx, add_weights
    from dymn_cli.store.weights import read_weights

    if source.suffix == ".onnx":
        return add_onnx(name, source, test=self_test, force=force)
    weights = read_weights(source)
    header = dataclasses.replace(weights.header, name=name)
    return add_weights(name, source, header, weights.tensors, test=self_test, force=force)


def _check_place(name: str | None, out: str | None, *, force: bool) -> None:
    """Find out before any work whether the model may go there."""
    if name is not None:
        from dymn_cli.store.install import check_own_name

        check_own_name(name)
        return
    from dymn_cli.writers import check_target

    if Path(out or "").suffix != ".safetensors":
        raise UsageError(f"--out must end in .safetensors, not {out!r}")
    check_target(out or "", force=force)


def _tell(record: Record, messages: Messages) -> None:
    messages.note(
        f"{record.name}: ready, {bytes_text(record.size_bytes)}, {counted(record.n_classes, 'class')};"
        f" dymn tag -m {record.name} clip.wav"
    )
