"""The options that commands share: one spelling and one meaning everywhere.

Each group is a frozen dataclass whose fields carry their Typer declaration. A command takes groups,

    @command(app)
    def tag(inputs: InputOptions, model: ModelOptions, ...) -> None: ...

and `command` shows Typer the flat signature of all their fields, in that order, and hands the function
the filled groups. Parameters of a command that are no group are passed on as they are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated

import typer

from dymn_cli.cli.options.panels import BATCH, INPUT, MODEL, OUTPUT, SELECT, TALK, TIME

__all__ = [
    "BackendName",
    "BatchOptions",
    "Concat",
    "CsvSafe",
    "DeviceName",
    "FileOptions",
    "InputOptions",
    "ListOptions",
    "ModelName",
    "ModelOptions",
    "OutDir",
    "OutputOptions",
    "SelectOptions",
    "TalkOptions",
    "TimeOptions",
    "complete_label",
    "complete_model",
]

DEFAULT_MODEL = "dymn04_kd"
MODEL_VARIABLE = "DYMN_MODEL"


def complete_label(incomplete: str) -> list[str]:
    """Labels for the completion of shells: their slugs, which need no quotes."""
    from dymn_cli.labels import Vocabulary

    return [label.slug for label in Vocabulary.audioset() if label.slug.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Names of models for the completion of shells; where none fits, they complete files."""
    from dymn_cli.store.registry import known_names

    return [name for name in known_names() if name.startswith(incomplete)]


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Which sources a command works on."""

    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Files, folders, or - for standard input.", show_default=False),
    ] = field(default_factory=list)
    files_from: Annotated[
        str | None,
        typer.Option(
            "--files-from",
            metavar="FILE",
            help="Also the names in FILE, a line each; - for stdin.",
            rich_help_panel=INPUT,
        ),
    ] = None
    null: Annotated[
        bool,
        typer.Option(
            "-0",
            "--null",
            metavar="",
            help="Names in --files-from end with a NUL byte.",
            rich_help_panel=INPUT,
        ),
    ] = False
    ext: Annotated[
        str | None,
        typer.Option(
            "--ext", metavar="wav,flac,...", help="In folders: only files that end so.", rich_help_panel=INPUT
        ),
    ] = None
    recurse: Annotated[
        bool,
        typer.Option(
            "--recurse/--no-recurse",
            metavar="",
            help="Look into folders within folders.",
            rich_help_panel=INPUT,
        ),
    ] = True
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", metavar="", help="Print the names of the inputs and stop.", rich_help_panel=INPUT
        ),
    ] = False
    fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast", metavar="", help="Stop at the first input that fails.", rich_help_panel=INPUT
        ),
    ] = False
    failures: Annotated[
        str | None,
        typer.Option("--failures", metavar="FILE", help="CSV of inputs that failed.", rich_help_panel=INPUT),
    ] = None
    max_input: Annotated[
        str | None,
        typer.Option(
            "--max-input",
            metavar="SIZE",
            help="Refuse more than SIZE from standard input, say 20G (default: 1 GB of the disk stays free).",
            rich_help_panel=INPUT,
        ),
    ] = None
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            metavar="",
            help="Refuse damaged files instead of reading what is left of them.",
            rich_help_panel=INPUT,
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class InputOptions(FileOptions):
    """Which sources a command works on whose results may go to a file, and which of their channels."""

    failures: Annotated[
        str | None,
        typer.Option(
            "--failures",
            metavar="FILE",
            help="CSV of inputs that failed (default: OUT.failures.csv, beside a file of results).",
            rich_help_panel=INPUT,
        ),
    ] = None
    channel: Annotated[
        str,
        typer.Option(
            "--channel",
            metavar="mix|N|each",
            help="Mean of the channels (a warning says if they cancel out), one (from 0), or each.",
            rich_help_panel=INPUT,
        ),
    ] = "mix"


ModelName = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME|PATH",
        envvar=MODEL_VARIABLE,
        help="A model by name, or its file.",
        rich_help_panel=MODEL,
        autocompletion=complete_model,
    ),
]


BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="auto|onnx|torch",
        envvar="DYMN_BACKEND",
        help="Runtime.",
        rich_help_panel=MODEL,
    ),
]

DeviceName = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N]|mps|...",
        envvar="DYMN_DEVICE",
        help="Where it runs; auto is the CPU: a GPU works where it is named. Also coreml, directml, openvino,"
        " ...: dymn doctor says what is there. Training: cpu, cuda[:N] or mps.",
        rich_help_panel=MODEL,
    ),
]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model or models, and what runs them."""

    model: Annotated[
        list[str],
        typer.Option(
            "-m",
            "--model",
            metavar="NAME|PATH",
            # Not read by typer, which would split the path of a file at its spaces.
            help="A model by name, or its file; repeat it for an ensemble."
            f"  [env var: {MODEL_VARIABLE}; default: {DEFAULT_MODEL}]",
            show_default=False,
            rich_help_panel=MODEL,
            autocompletion=complete_model,
        ),
    ] = field(default_factory=list)
    backend: BackendName = "auto"
    device: DeviceName = "auto"
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            help="Windows of a file at the same time (default: one a core; 1 with processes).",
            rich_help_panel=MODEL,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            help="Windows in one call of the network (default: 1, on GPUs 16).",
            rich_help_panel=MODEL,
        ),
    ] = None

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are asked for, or the usual one."""
        return tuple(self.model) or (os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL,)


Concat = Annotated[
    bool,
    typer.Option(
        "--concat",
        metavar="",
        help="Of several models: their embeddings one after the other.",
        rich_help_panel=MODEL,
    ),
]


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """How a source is cut into windows."""

    window: Annotated[
        float,
        typer.Option(
            "--window", metavar="S", help="Seconds in a window; the models know 10.", rich_help_panel=TIME
        ),
    ] = 10.0
    hop: Annotated[
        float | None,
        typer.Option(
            "--hop",
            metavar="S",
            help="Seconds from one window to the next (default: the window).",
            rich_help_panel=TIME,
        ),
    ] = None
    pad: Annotated[
        str,
        typer.Option(
            "--pad",
            metavar="repeat|zero|none",
            help="What fills up a source shorter than a window.",
            rich_help_panel=TIME,
        ),
    ] = "repeat"


@dataclass(frozen=True, slots=True)
class SelectOptions:
    """Which tags are kept."""

    top: Annotated[
        int,
        typer.Option(
            "-k",
            "--top",
            metavar="N",
            help="At most N tags of those that the model has; 0 for all.",
            rich_help_panel=SELECT,
        ),
    ] = 5
    min_score: Annotated[
        float,
        typer.Option(
            "-t", "--min-score", metavar="X", help="Only scores of at least X.", rich_help_panel=SELECT
        ),
    ] = 0.0
    label: Annotated[
        list[str],
        typer.Option(
            "-l",
            "--label",
            metavar="LABEL",
            help="Only this label: name, /m/... id or slug. Repeat it for more.",
            rich_help_panel=SELECT,
            autocompletion=complete_label,
        ),
    ] = field(default_factory=list)
    thresholds: Annotated[
        str | None,
        typer.Option(
            "--thresholds",
            metavar="FILE.csv",
            help="Lowest score by label: columns mid,label,threshold.",
            rich_help_panel=SELECT,
        ),
    ] = None
    aggregate: Annotated[
        str,
        typer.Option(
            "--aggregate", metavar="max|mean", help="How windows become one clip.", rich_help_panel=SELECT
        ),
    ] = "max"


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where results go, and in which form."""

    format: Annotated[
        str | None,
        typer.Option(
            "-f",
            "--format",
            metavar="FORMAT",
            help="Default: by the suffix of --out; without one, as said above.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write to FILE; - for standard output.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Replace FILE if it exists.", rich_help_panel=OUTPUT)
    ] = False
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            metavar="",
            help="Column names in tsv and csv (default: csv only).",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The form of a list."""

    format: Annotated[
        str | None,
        typer.Option(
            "-f",
            "--format",
            metavar="table|tsv|json",
            help="Default: a table on a terminal, else tsv.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    header: Annotated[
        bool,
        typer.Option("--header/--no-header", metavar="", help="Column names in tsv.", rich_help_panel=OUTPUT),
    ] = False


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How many sources are worked through."""

    jobs: Annotated[
        int | None,
        typer.Option(
            "-j",
            "--jobs",
            metavar="N",
            envvar="DYMN_JOBS",
            help="Files at a time, each in a process (default: one a core); few small files: threads.",
            rich_help_panel=BATCH,
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            metavar="",
            help="Go on where an earlier run to the same output stopped.",
            rich_help_panel=BATCH,
        ),
    ] = True
    limit_per_file: Annotated[
        float | None,
        typer.Option(
            "--limit-per-file",
            metavar="S",
            help="A file that takes longer than S seconds fails.",
            rich_help_panel=BATCH,
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Only share I of N of the inputs, from 1.", rich_help_panel=BATCH
        ),
    ] = None


OutDir = Annotated[
    str | None,
    typer.Option(
        "--out-dir",
        metavar="DIR",
        help="A file for each input, in DIR, which mirrors their folders.",
        rich_help_panel=OUTPUT,
    ),
]


CsvSafe = Annotated[
    bool,
    typer.Option(
        "--csv-safe",
        metavar="",
        help="csv: an apostrophe before texts that a spreadsheet would run as a formula.",
        rich_help_panel=OUTPUT,
    ),
]


@dataclass(frozen=True, slots=True)
class TalkOptions:
    """What is said on stderr, and in which colours."""

    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", metavar="", help="Only errors.", rich_help_panel=TALK)
    ] = False
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            metavar="",
            help="More; -vv with traces of errors.",
            show_default=False,
            rich_help_panel=TALK,
        ),
    ] = 0
    color: Annotated[
        str, typer.Option("--color", metavar="auto|always|never", help="Colours.", rich_help_panel=TALK)
    ] = "auto"
    progress: Annotated[
        str,
        typer.Option(
            "--progress",
            metavar="auto|always|never",
            help="Bar; always: lines in logs.",
            rich_help_panel=TALK,
        ),
    ] = "auto"
