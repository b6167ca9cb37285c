"""`dymn export`: a model as an ONNX file, with the proof that it is the same model."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, cast

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.groups import ListOptions, complete_model
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.cli.terminal.tables import Listing, choose_form, grid, show
from dymn_cli.errors import UsageError
from dymn_cli.values import bytes_text, require_choice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from dymn_cli.export.onnx_file import ExportForm, ExportReport, TensorInfo
    from dymn_cli.export.parity import ParityCase
    from dymn_cli.export.precision import Precision

__all__ = ["register"]

HELP = """Export a model to one ONNX file, with a parity report.

  dymn export dymn04_kd -o model.onnx
  dymn export dymn04_kd -o fast.onnx --batch one
  dymn export dymn04_kd -o web.onnx --with-frontend --int8
  dymn export dymn04_kd recordings/*.wav -o half.onnx --fp16
  dymn export dymn04_kd -o frames.onnx --frames

Input mel (batch, 1, n_mels, n_frames), outputs logits (batch, n_classes) and embedding (batch, D). With
--with-frontend, input waveform (batch, n_samples), mono at 32 kHz, and scores before the other outputs. All
are float32; ONNX opset 18. batch and n_frames take any size, n_samples any from 514 on (17 ms; the file says
how many). dymn tag -m takes the file, unless its front end is in it.

--frames adds the output frame_logits (batch, n_steps, n_classes), with most models a step for each 0.32 s,
which dymn events asks for; it costs about a tenth more time.

--fp16 stores the weights in half of the space and --int8 in a third; they are float32 again once the file is
loaded, so it is as fast as before.

Prints the parity report: the largest differences from PyTorch on synthetic sounds, on the clips of dymn demo
and on yours. Nothing is written and the exit code is 4 if they exceed 1e-4 for logits (relative to the
largest of the same sound, at least 1), scores, embedding (relative to its largest value), frame logits (as
logits) and frame scores; with a front end, 1e-4 for scores and 5e-5 for log-mels of the demo clips (5e-3 for
an fmn, whose floor is lower); 0.01 for scores with --fp16 and 0.05 with --int8. The same if another class
comes out on top although PyTorch scores the two further apart than that.

In a pipe, tab-separated: signals, n_frames, logit, score, embedding, log_mel, n_windows, n_same_top,
frame_logit, frame_score. Formats: table, tsv, json. Needs: pip install 'dymn[export]'.
"""

SCHEMA = "dymn.export/1"
COLUMNS = (
    "signals",
    "n_frames",
    "logit",
    "score",
    "embedding",
    "log_mel",
    "n_windows",
    "n_same_top",
    "frame_logit",
    "frame_score",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "export", help=HELP)(export)


def export(
    *,
    model: Annotated[
        str, arg("MODEL", "A model by name, or a .safetensors or .pt file.", autocompletion=complete_model)
    ],
    clips: Annotated[list[str] | None, arg("CLIP", "More recordings to compare on.")] = None,
    out: Annotated[
        str,
        opt(
            "-o --out",
            "FILE",
            "Write to FILE; - for standard output, without the report.",
            OUTPUT_PANEL,
            show_default=False,
        ),
    ],
    batch: Annotated[
        str,
        opt(
            "--batch",
            "any|one",
            "Clips per call: any number, or one, which is faster on a CPU.",
            OUTPUT_PANEL,
        ),
    ] = "any",
    with_frontend: Annotated[
        bool,
        flag("--with-frontend", "Samples in, scores out: for other runtimes and browsers.", OUTPUT_PANEL),
    ] = False,
    frames: Annotated[bool, flag("--frames", "Also score each step of time.", OUTPUT_PANEL)] = False,
    fp16: Annotated[bool, flag("--fp16", "Weights in half precision.", OUTPUT_PANEL)] = False,
    int8: Annotated[bool, flag("--int8", "Weights in 8 bits.", OUTPUT_PANEL)] = False,
    force: Annotated[bool, flag("--force", "Replace FILE if it exists.", OUTPUT_PANEL)] = False,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Export a model and print the parity report."""
    choose_form(listing.format)
    require_choice("--batch", batch, ("any", "one"))
    precision, clips = _precision(fp16=fp16, int8=int8), clips or []
    to_stdout = out in ("-", "/dev/stdout")
    if to_stdout and is_terminal(sys.stdout):
        raise UsageError("ONNX is a binary format, not for a terminal", hint="-o model.onnx")
    from dymn_cli.store.registry import resolve
    from dymn_cli.writers import check_target
    from dymn_cli.writers.target import input_guard

    resolve(model)  # before PyTorch is loaded, which takes seconds; so are the clips, the place to write to
    if not to_stdout:
        check_target(out, force=force)
    input_guard(out)(model, *clips)
    _check_clips(clips)
    from dymn_cli.export.onnx_file import ExportOptions, export_onnx, exportable

    options = ExportOptions(cast("ExportForm", batch), precision, with_frontend, frames)
    report = export_onnx(exportable(model), out, options, clips=clips, force=force)
    if not to_stdout:
        show(_listing(report, out), listing, messages)
    for line in _summary(report, out):
        messages.note(line)


def _precision(*, fp16: bool, int8: bool) -> Precision:
    if fp16 and int8:
        raise UsageError("--fp16 and --int8 exclude each other", hint="choose one")
    if int8:
        return "int8"
    return "float16" if fp16 else "float32"


def _check_clips(clips: Sequence[str]) -> None:
    from dymn_cli.audio.decode import open_audio

    for clip in clips:
        open_audio(clip).close()


def _summary(report: ExportReport, out: str) -> Iterator[str]:
    """What there is to know of the file, for reading."""
    size = bytes_text(report.size_bytes)
    if report.float32_bytes != report.size_bytes:
        size += f" ({bytes_text(report.float32_bytes)} in float32)"
    parts = ", ".join(f"{part.replace('_', ' ')}s" for part in report.bounds.parts)
    yield (
        f"{out}: {size}, opset {report.opset}, SHA-256 {report.sha256[:12]}…;"
        f" {parts} within {report.worst:.1e} of PyTorch ({report.bounds.largest:g} allowed),"
        f" the same top tag in {report.n_same_top} of {report.n_windows} windows"
    )
    yield f"{', '.join(map(str, report.inputs))} -> {', '.join(map(str, report.outputs))}"
    if report.timing is not None:
        plain = "NumPy front end and float32 file" if report.options.with_frontend else "float32 file"
        yield (
            f"{report.timing.file_ms:.1f} ms for 10 s on one core, {plain} {report.timing.plain_ms:.1f} ms:"
            f" {report.timing.ratio:.2f} times as fast"
        )


def _listing(report: ExportReport, out: str) -> Listing:
    from pathlib import Path

    from dymn_cli.writers.spelling import readable

    rows = [
        (
            " ".join(case.signals),
            case.n_frames,
            *map(_text, _differences(case)),
            case.n_windows,
            case.n_same_top,
            _text(case.frame_logit),
            _text(case.frame_score),
        )
        for case in report.cases
    ]

    document = {
        "schema": SCHEMA,
        "model": report.name,
        "file": readable(Path(out).name),
        "batch": report.options.form,
        "precision": report.options.precision,
        "with_frontend": report.options.with_frontend,
        "frames": report.options.frames,
        "sha256": report.sha256,
        "size_bytes": report.size_bytes,
        "float32_bytes": report.float32_bytes,
        "opset": report.opset,
        "inputs": [_tensor(given) for given in report.inputs],
        "outputs": [_tensor(given) for given in report.outputs],
        "tolerance": report.bounds.largest,
        "tolerance_of": list(report.bounds.parts),
        "tolerance_log_mel": report.bounds.log_mel,
        "worst": report.worst,
        "n_windows": report.n_windows,
        "n_same_top": report.n_same_top,
        "timing": None
        if report.timing is None
        else {"plain_ms": round(report.timing.plain_ms, 3), "file_ms": round(report.timing.file_ms, 3)},
        "cases": [
            {**asdict(case), "signals": [readable(signal) for signal in case.signals]}
            for case in report.cases
        ],
    }
    return Listing(COLUMNS, rows, document, lambda console: _table(report))


def _table(report: ExportReport) -> Table:
    from dymn_cli.writers.spelling import visible

    names = ["frames", "logits", "scores", "embedding", "log-mel", "frame scores", "same top"]
    if not report.options.with_frontend:
        names.remove("log-mel")
    if not report.options.frames:
        names.remove("frame scores")
    table = grid(("sounds", {}), *((name, {"justify": "right"}) for name in names))
    for case in report.cases:
        values = (*_differences(case), case.frame_score)
        figures = [f"{value:.2e}" for value in values if value is not None]
        top = f"{case.n_same_top}/{case.n_windows}"
        table.add_row(visible(", ".join(case.signals)), str(case.n_frames), *figures, top)
    return table


def _tensor(info: TensorInfo) -> dict[str, object]:
    return {"name": info.name, "type": "float32", "shape": list(info.shape)}


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:.2e}"


def _differences(case: ParityCase) -> tuple[float | None, ...]:
    return case.logit, case.score, case.embedding, case.log_mel
