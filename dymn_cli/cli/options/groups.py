"""The options that commands share: one spelling and one meaning everywhere.

Each group is a frozen dataclass whose fields carry their declaration. A command takes groups,

    def tag(inputs: InputOptions, model: ModelOptions, ...) -> None: ...

and `dymn_cli.cli.options.command.command` shows Typer the flat signature of all their fields, in that order,
and hands the function the filled groups. Parameters of a command that are no group are passed on as they are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.panels import BATCH, INPUT, MODEL, OUTPUT, SELECT, TIME
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.tagger import Tagger

__all__ = [
    "BackendName",
    "BatchOptions",
    "Channel",
    "ClockTime",
    "Concat",
    "Descendants",
    "DeviceName",
    "Exclude",
    "ExecOptions",
    "FileOptions",
    "Force",
    "InputOptions",
    "Label",
    "ListOptions",
    "MinScore",
    "MinScores",
    "ModelName",
    "ModelOptions",
    "OutputOptions",
    "Precision",
    "Recurse",
    "ResultOptions",
    "Scores",
    "SelectOptions",
    "Strict",
    "TimeOptions",
    "UpdateOptions",
    "WorkOptions",
    "complete_format",
    "complete_label",
    "complete_model",
]

DEFAULT_MODEL = "dymn04_kd"
MODEL_VARIABLE = "DYMN_MODEL"


def complete_label(incomplete: str) -> list[str]:
    """Labels for the completion of shells: slugs, or names of one word, which need no quotes."""
    from dymn_cli.labels import Vocabulary

    is_name = incomplete[:1].isupper()
    texts = (label.name if is_name else label.slug for label in Vocabulary.audioset())
    return [text for text in texts if text.startswith(incomplete) and " " not in text]


def complete_model(incomplete: str) -> list[str]:
    """Names of models for the completion of shells; where none fits, they complete files."""
    from dymn_cli.store.registry import known_names

    return [name for name in known_names() if name.startswith(incomplete)]


def complete_format(ctx: typer.Context, incomplete: str) -> list[str]:
    """Formats that a command writes, for the completion of shells."""
    from dymn_cli.convert import FORMATS

    kinds = {"tag": ("tags",), "events": ("events",), "embed": ("embeddings",)}.get(ctx.command.name or "")
    names = dict.fromkeys(name for kind in kinds or FORMATS for name in FORMATS[kind])
    return [name for name in names if name.startswith(incomplete)]


# ---------------------------------------------------------------------- input

Recurse = Annotated[bool, flag("--recurse/--no-recurse", "Look into subfolders.", INPUT)]

Strict = Annotated[bool, flag("--strict", "Refuse damaged files; use no part of them.", INPUT)]

Channel = Annotated[str, opt("--channel", "mix|N|each", "Mean, channel N (from 0), or each.", INPUT)]


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Which sources a command works on."""

    inputs: Annotated[list[str], arg("INPUT", "Files, folders, URIs, or - for standard input.")] = field(
        default_factory=list
    )
    files_from: Annotated[
        str | None,
        opt("--files-from", "FILE", "Also the names in FILE, one per line; - is stdin.", INPUT),
    ] = None
    null: Annotated[bool, flag("-0 --null", "Names in lists end with a NUL byte.", INPUT)] = False
    ext: Annotated[
        str | None, opt("--ext", "wav,flac,...", "In folders, only files with these suffixes.", INPUT)
    ] = None
    recurse: Recurse = True
    dry_run: Annotated[bool, flag("--dry-run", "List the names of the inputs and stop.", INPUT)] = False
    fail_fast: Annotated[bool, flag("--fail-fast", "Stop at the first input that fails.", INPUT)] = False
    failures: Annotated[str | None, opt("--failures", "FILE", "CSV of failed inputs.", INPUT)] = None
    max_input: Annotated[
        str | None,
        opt("--max-input", "SIZE", "Limit stdin, say 20G (default: leave 1 GB disk).", INPUT),
    ] = None
    strict: Strict = False


@dataclass(frozen=True, slots=True)
class InputOptions(FileOptions):
    """Which sources a command works on whose results may go to a file, and which of their channels."""

    failures: Annotated[
        str | None,
        opt("--failures", "FILE", "CSV of failed inputs (default: OUT.failures.csv).", INPUT),
    ] = None
    channel: Channel = "mix"


# ---------------------------------------------------------------------- model

ModelName = Annotated[
    str,
    opt(
        "-m --model",
        "NAME|PATH",
        "Model name or file.",
        MODEL,
        envvar=MODEL_VARIABLE,
        autocompletion=complete_model,
    ),
]

BackendName = Annotated[str, opt("--backend", "auto|onnx|torch", "Runtime.", MODEL, envvar="DYMN_BACKEND")]

DeviceName = Annotated[
    str,
    opt(
        "--device",
        "NAME",
        "auto (the CPU), cpu, cuda[:N], mps, coreml, directml, openvino, ...; dymn doctor lists those here."
        " Training: cpu, cuda[:N] or mps.",
        MODEL,
        envvar="DYMN_DEVICE",
    ),
]

Concat = Annotated[bool, flag("--concat", "Concatenate the embeddings of several models.", MODEL)]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model or models, and what runs them."""

    model: Annotated[
        list[str],
        opt(
            # Not read by typer, which would split the path of a file at its spaces.
            "-m --model",
            "NAME|PATH",
            "Model name or file; repeat for an ensemble."
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
        opt("--threads", "N", "Windows at once (default: one per core).", MODEL),
    ] = None
    batch_size: Annotated[
        int | None,
        opt("--batch-size", "N", "Windows per network call (default: 1; GPUs: 16).", MODEL),
    ] = None

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are asked for, or the usual one."""
        return tuple(self.model) or (os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL,)

    def open_tagger(self, options: TagOptions) -> Tagger:
        """Load the models.

        Raises:
            ModelError: they cannot be loaded.
        """
        from dymn_cli.tagging.tagger import Tagger

        return Tagger(
            self.models,
            backend=self.backend,
            device=self.device,
            threads=self.threads,
            batch_size=self.batch_size,
            options=options,
        )


# ---------------------------------------------------------------------- windows and tags


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """How a source is cut into windows; None is the default of the analysis."""

    window: Annotated[
        float | None, opt("--window", "S", "Seconds per window (default: 10, as in training).", TIME)
    ] = None
    hop: Annotated[
        float | None,
        opt("--hop", "S", "Seconds from one window to the next (default: the window).", TIME),
    ] = None
    pad: Annotated[
        str | None,
        opt(
            "--pad",
            "repeat|zero|none",
            "How to fill up shorter sources (default: repeat).",
            TIME,
        ),
    ] = None


Label = Annotated[
    list[str],
    opt(
        "-l --label",
        "LABEL",
        "Only this label: name, /m/... id, slug or a word of its name. Repeat for more.",
        SELECT,
        autocompletion=complete_label,
    ),
]

Exclude = Annotated[
    list[str],
    opt("--exclude", "LABEL", "All but this label. Repeat for more.", SELECT, autocompletion=complete_label),
]

Descendants = Annotated[
    bool,
    flag(
        "--descendants",
        "Also all kinds of these labels; -l and --exclude then take any AudioSet sound.",
        SELECT,
    ),
]


MinScore = Annotated[float, opt("-t --min-score", "X", "Only scores of X or more.", SELECT)]

MinScores = Annotated[
    str | None,
    opt("--thresholds", "FILE.csv", "Minimum score by label: columns mid,label,threshold.", SELECT),
]


@dataclass(frozen=True, slots=True)
class SelectOptions:
    """Which tags are kept."""

    top: Annotated[int, opt("-k --top", "N", "The N best tags; 0 for all.", SELECT)] = 5
    min_score: MinScore = 0.0
    label: Label = field(default_factory=list)
    exclude: Exclude = field(default_factory=list)
    descendants: Descendants = False
    specific: Annotated[
        bool, flag("--specific", "Of Animal, Dog and Bark, all above -t, keep only Bark.", SELECT)
    ] = False
    thresholds: MinScores = None
    aggregate: Annotated[
        str, opt("--aggregate", "max|mean", "How scores of windows become one per clip.", SELECT)
    ] = "max"


# ---------------------------------------------------------------------- output

Force = Annotated[bool, flag("--force", "Replace FILE if it exists.", OUTPUT)]

Precision = Annotated[int, opt("--precision", "N", "Decimals of scores.", OUTPUT)]

Scores = Annotated[bool, flag("--scores", "audacity: the score behind each label.", OUTPUT)]

ClockTime = Annotated[
    str | None,
    opt(
        "--clock",
        "auto|FORMAT|START",
        "Add clock times: from metadata or file names, names like %Y%m%d_%H%M%S, or from START.",
        OUTPUT,
    ),
]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where results go, and in which form."""

    format: Annotated[
        str | None,
        opt(
            "-f --format",
            "FORMAT",
            "Default: by the suffix of --out (see above).",
            OUTPUT,
            autocompletion=complete_format,
        ),
    ] = None
    out: Annotated[
        str | None,
        opt("-o --out", "FILE", "Write to FILE or URI; - is standard output.", OUTPUT),
    ] = None
    force: Force = False
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
class ResultOptions(OutputOptions):
    """Where the results of an analysis go: one file, or one for each input."""

    out_dir: Annotated[
        str | None, opt("--out-dir", "DIR", "A file per recording, in the same folders.", OUTPUT)
    ] = None
    csv_safe: Annotated[
        bool, flag("--csv-safe", "csv: ' before text that a spreadsheet would run.", OUTPUT)
    ] = False


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The form of a list."""

    format: Annotated[
        str | None, opt("-f --format", "table|tsv|json", "Default: a table on a terminal, else tsv.", OUTPUT)
    ] = None
    header: Annotated[bool, flag("--header/--no-header", "Column names in tsv.", OUTPUT)] = False


# ---------------------------------------------------------------------- many files


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """Who works, and from where."""

    jobs: Annotated[
        int | None, opt("-j --jobs", "N", "Workers (default: cores).", BATCH, envvar="DYMN_JOBS")
    ] = None
    resume: Annotated[bool, flag("--resume/--no-resume", "Continue an earlier run.", BATCH)] = True
    limit_per_file: Annotated[
        float | None, opt("--limit-per-file", "S", "Fail a file that takes longer than S seconds.", BATCH)
    ] = None


@dataclass(frozen=True, slots=True)
class BatchOptions(WorkOptions):
    """How many sources are worked through."""

    shard: Annotated[
        str | None, opt("--shard", "I/N", "Only part I of N of the inputs, counted from 1.", BATCH)
    ] = None


@dataclass(frozen=True, slots=True)
class UpdateOptions(BatchOptions):
    """How many sources are worked through, and whether a finished result grows."""

    update: Annotated[bool, flag("--update", "Add new and changed inputs to a result.", BATCH)] = False
    prune: Annotated[bool, flag("--prune", "Also drop the results of missing inputs.", BATCH)] = False
    engine: Annotated[str, opt("--engine", "local|ray", "ray: a cluster, Parquet in -o.", BATCH)] = "local"
    ray_address: Annotated[
        str | None, opt("--ray-address", "ADDR", "Its address (default: start one here).", BATCH)
    ] = None


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """What is run for each result.

    Raises:
        UsageError: no time to run in.
    """

    exec_: Annotated[
        str | None, opt("--exec", "CMD", "Run CMD for each result, with its JSON on stdin.", OUTPUT)
    ] = None
    exec_timeout: Annotated[float, opt("--exec-timeout", "S", "Stop CMD after S seconds.", OUTPUT)] = 60.0
    exec_limit: Annotated[
        float | None, opt("--exec-limit", "S", "Once the name of --exec-timeout.", OUTPUT, hidden=True)
    ] = None

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise UsageError(f"--exec-timeout must be more than 0 s, not {self.timeout_s:g}")

    @property
    def timeout_s(self) -> float:
        """After which the command is stopped."""
        return self.exec_timeout if self.exec_limit is None else self.exec_limit
