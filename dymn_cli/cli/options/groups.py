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

from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.panels import BATCH, INPUT, MODEL, OUTPUT, SELECT, TIME

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
        opt("--files-from", "FILE", "Also the names in FILE, a line each; - for stdin.", INPUT),
    ] = None
    null: Annotated[
        bool,
        flag("-0 --null", "Names in --files-from end with a NUL byte.", INPUT),
    ] = False
    ext: Annotated[
        str | None,
        opt("--ext", "wav,flac,...", "In folders: only files that end so.", INPUT),
    ] = None
    recurse: Annotated[
        bool,
        flag("--recurse/--no-recurse", "Look into folders within folders.", INPUT),
    ] = True
    dry_run: Annotated[
        bool,
        flag("--dry-run", "Print the names of the inputs and stop.", INPUT),
    ] = False
    fail_fast: Annotated[
        bool,
        flag("--fail-fast", "Stop at the first input that fails.", INPUT),
    ] = False
    failures: Annotated[
        str | None,
        opt("--failures", "FILE", "CSV of inputs that failed.", INPUT),
    ] = None
    max_input: Annotated[
        str | None,
        opt(
            "--max-input",
            "SIZE",
            "Refuse more than SIZE from standard input, say 20G (default: 1 GB of the disk stays free).",
            INPUT,
        ),
    ] = None
    strict: Annotated[
        bool,
        flag("--strict", "Refuse damaged files instead of reading what is left of them.", INPUT),
    ] = False


@dataclass(frozen=True, slots=True)
class InputOptions(FileOptions):
    """Which sources a command works on whose results may go to a file, and which of their channels."""

    failures: Annotated[
        str | None,
        opt(
            "--failures",
            "FILE",
            "CSV of inputs that failed (default: OUT.failures.csv, beside a file of results).",
            INPUT,
        ),
    ] = None
    channel: Annotated[
        str,
        opt(
            "--channel",
            "mix|N|each",
            "Mean of the channels (a warning says if they cancel out), one (from 0), or each.",
            INPUT,
        ),
    ] = "mix"


ModelName = Annotated[
    str,
    opt(
        "-m --model",
        "NAME|PATH",
        "A model by name, or its file.",
        MODEL,
        envvar=MODEL_VARIABLE,
        autocompletion=complete_model,
    ),
]


BackendName = Annotated[
    str,
    opt("--backend", "auto|onnx|torch", "Runtime.", MODEL, envvar="DYMN_BACKEND"),
]

DeviceName = Annotated[
    str,
    opt(
        "--device",
        "auto|cpu|cuda[:N]|mps|...",
        "Where it runs; auto is the CPU: a GPU works where it is named. Also coreml, directml, openvino,"
        " ...: dymn doctor says what is there. Training: cpu, cuda[:N] or mps.",
        MODEL,
        envvar="DYMN_DEVICE",
    ),
]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model or models, and what runs them."""

    model: Annotated[
        list[str],
        opt(
            # Not read by typer, which would split the path of a file at its spaces.
            "-m --model",
            "NAME|PATH",
            "A model by name, or its file; repeat it for an ensemble."
            f"  [env var: {MODEL_VARIABLE}; default: {DEFAULT_MODEL}]",
            MODEL,
            show_default=False,
            autocompletion=complete_model,
        ),
    ] = field(default_factory=list)
    backend: BackendName = "auto"
    device: DeviceName = "auto"
    threads: Annotated[
        int | None,
        opt(
            "--threads",
            "N",
            "Windows of a file at the same time (default: one a core; 1 with processes).",
            MODEL,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        opt("--batch-size", "N", "Windows in one call of the network (default: 1, on GPUs 16).", MODEL),
    ] = None

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are asked for, or the usual one."""
        return tuple(self.model) or (os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL,)


Concat = Annotated[
    bool,
    flag("--concat", "Of several models: their embeddings one after the other.", MODEL),
]


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """How a source is cut into windows."""

    window: Annotated[
        float,
        opt("--window", "S", "Seconds in a window; the models know 10.", TIME),
    ] = 10.0
    hop: Annotated[
        float | None,
        opt("--hop", "S", "Seconds from one window to the next (default: the window).", TIME),
    ] = None
    pad: Annotated[
        str,
        opt("--pad", "repeat|zero|none", "What fills up a source shorter than a window.", TIME),
    ] = "repeat"


@dataclass(frozen=True, slots=True)
class SelectOptions:
    """Which tags are kept."""

    top: Annotated[
        int,
        opt("-k --top", "N", "At most N tags of those that the model has; 0 for all.", SELECT),
    ] = 5
    min_score: Annotated[
        float,
        opt("-t --min-score", "X", "Only scores of at least X.", SELECT),
    ] = 0.0
    label: Annotated[
        list[str],
        opt(
            "-l --label",
            "LABEL",
            "Only this label: name, /m/... id or slug. Repeat it for more.",
            SELECT,
            autocompletion=complete_label,
        ),
    ] = field(default_factory=list)
    thresholds: Annotated[
        str | None,
        opt("--thresholds", "FILE.csv", "Lowest score by label: columns mid,label,threshold.", SELECT),
    ] = None
    aggregate: Annotated[
        str,
        opt("--aggregate", "max|mean", "How windows become one clip.", SELECT),
    ] = "max"


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where results go, and in which form."""

    format: Annotated[
        str | None,
        opt("-f --format", "FORMAT", "Default: by the suffix of --out; without one, as said above.", OUTPUT),
    ] = None
    out: Annotated[
        str | None,
        opt("-o --out", "FILE", "Write to FILE; - for standard output.", OUTPUT),
    ] = None
    force: Annotated[bool, flag("--force", "Replace FILE if it exists.", OUTPUT)] = False
    header: Annotated[
        bool | None,
        flag(
            "--header/--no-header",
            "Column names in tsv and csv (default: csv only).",
            OUTPUT,
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The form of a list."""

    format: Annotated[
        str | None,
        opt("-f --format", "table|tsv|json", "Default: a table on a terminal, else tsv.", OUTPUT),
    ] = None
    header: Annotated[
        bool,
        flag("--header/--no-header", "Column names in tsv.", OUTPUT),
    ] = False


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How many sources are worked through."""

    jobs: Annotated[
        int | None,
        opt(
            "-j --jobs",
            "N",
            "Files at a time, each in a process (default: one a core); few small files: threads.",
            BATCH,
            envvar="DYMN_JOBS",
        ),
    ] = None
    resume: Annotated[
        bool,
        flag("--resume/--no-resume", "Go on where an earlier run to the same output stopped.", BATCH),
    ] = True
    limit_per_file: Annotated[
        float | None,
        opt("--limit-per-file", "S", "A file that takes longer than S seconds fails.", BATCH),
    ] = None
    shard: Annotated[
        str | None,
        opt("--shard", "I/N", "Only share I of N of the inputs, from 1.", BATCH),
    ] = None


OutDir = Annotated[
    str | None,
    opt("--out-dir", "DIR", "A file for each input, in DIR, which mirrors their folders.", OUTPUT),
]


CsvSafe = Annotated[
    bool,
    flag("--csv-safe", "csv: an apostrophe before texts that a spreadsheet would run as a formula.", OUTPUT),
]
