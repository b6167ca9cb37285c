"""Who may import whom: the way of the data is one way, and what is heavy is loaded where it is needed.

Read from the source with `ast`, so that an import counts wherever it stands, in a function too; those for
type checkers alone do not count.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dymn_cli"
MODULES = {
    ".".join(("dymn_cli", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# What each part of the package may import of it, besides itself: to add to this is a decision.
BASE = {
    "_version",
    "atomic",
    "cores",
    "errors",
    "lazy",
    "prefetch",
    "remote",
    "results",
    "small_files",
    "values",
    "virtual_file",
}
PARTS = {
    "__main__": {"cli.app"},
    "_version": set(),
    "atomic": set(),
    "cores": set(),
    "errors": set(),
    "lazy": set(),
    "prefetch": set(),
    "small_files": {"errors"},
    "remote": {"errors", "virtual_file"},
    "results": set(),
    "values": {"errors"},
    "virtual_file": set(),
    "labels": {"errors"},
    "audio": BASE,
    "frontend": BASE,
    "model": {*BASE, "frontend"},
    "store": {*BASE, "labels", "frontend.melbank", "model.config", "model.infer", "model.layout"},
    "runtime": {*BASE, "labels", "frontend", "model", "store"},
    "tagging": {
        *BASE,
        "labels",
        "audio",
        "datasets.tables",
        "frontend",
        "model.config",
        "store",
        "runtime",
    },
    "writers": {*BASE, "labels"},
    "readers": {*BASE, "labels", "audio.discover", "writers", "datasets.label_tables", "datasets.tables"},
    "cutting": {*BASE, "labels", "audio", "readers", "writers"},
    "live": {*BASE, "labels", "audio", "tagging", "cutting", "writers"},
    "convert": {*BASE, "audio", "readers", "writers"},
    "watching": {*BASE, "audio.discover", "batch.journal"},
    "batch": {*BASE, "labels", "audio", "store", "tagging", "writers", "frontend"},
    "scale": {*BASE, "_version", "labels", "audio", "store.registry", "batch", "tagging", "writers"},
    "report": {
        *BASE,
        "labels",
        "audio",
        "frontend",
        "writers.spelling",
        "readers",
    },
    "search": {*BASE, "labels", "audio", "store.registry", "runtime.ort", "tagging", "readers", "writers"},
    "demo": {*BASE, "audio"},
    "hear": {*BASE, "audio", "frontend", "model", "store"},
    "export": {
        *BASE,
        "labels",
        "audio",
        "demo",
        "frontend",
        "model",
        "runtime",
        "store",
        "tagging.aggregate",
        "writers.target",
    },
    "bench": {
        *BASE,
        "labels",
        "audio",
        "frontend",
        "model",
        "runtime",
        "store",
        "tagging",
        "batch",
        "writers",
        "datasets.label_tables",
        "datasets.name_matching",
        "demo",
        "evaluation.event_metrics",
        "evaluation.event_predictions",
        "evaluation.metrics",
        "search",
    },
    "datasets": {*BASE, "labels", "audio", "frontend"},
    "plotting": {*BASE, "labels", "audio", "frontend", "tagging", "writers"},
    "evaluation": {
        *BASE,
        "plotting.picture",
        "labels",
        "audio",
        "store.registry",
        "tagging",
        "batch",
        "writers",
        "readers",
        "datasets",
    },
    "doctor": {
        *BASE,
        "labels",
        "audio",
        "frontend",
        "store",
        "runtime",
        "tagging",
        "writers.spelling",
        "demo",
        "datasets.audio_cache",
    },
    "train": {
        *BASE,
        "labels",
        "audio",
        "frontend",
        "model",
        "store",
        "tagging.aggregate",
        "writers",
        "datasets",
        "evaluation",
    },
}

# Where a library may be imported: a module, or all below a package.
LIBRARIES = {
    "torch": {
        "model.normalisation",
        "model.attention",
        "model.dynamics",
        "model.blocks",
        "model.max_of_lines",
        "model.backbone",
        "model.dymn",
        "model.mn",
        "model.fmn",
        "model.build",
        "model.infer",
        "frontend.torch_logmel",
        "frontend.torch_resample",
        "runtime.torch",
        "hear",
        "export",
        "bench",
        # The rest of `train` (heads on embeddings, measures, data) works without it.
        "train.augment",
        "train.distill.clip_scores",
        "train.state",
        "train.device",
        "train.distill.run",
        "train.distill.task",
        "train.finetune.run",
        "train.finetune.task",
        "train.finetune.head_init",
        "train.ema",
        "train.distill.validation",
        "train.parallel",
        "train.run",
        "train.distill.data",
        "train.loop",
        "train.losses",
        "train.distill.student",
        "train.distill.teachers",
        "train.inference",
    },
    "h5py": {"datasets.audioset_hdf5"},
    "matplotlib": {"evaluation.plots", "plotting"},
    "torchaudio": {"bench.baseline"},
    "onnxruntime": {"runtime.ort"},
    "onnx": {"export"},
    "soundfile": {"audio", "demo", "bench"},
    "soxr": {"audio", "bench"},
    "av": {"audio"},
    "sounddevice": {"live.microphone"},
    "typer": {"cli"},
    "rich": {"cli", "writers.to_table"},
    "jinja2": {"report.page"},
    "safetensors": {"store", "export", "train.state"},
    "pyarrow": {"writers", "readers.from_parquet", "scale"},
    "ray": {"scale"},
    "filelock": {"cli.batch_run.library", "search.approximate", "store.local", "train.run_folder"},
    "usearch": {"search.approximate"},
    "umap": {"search.projection"},
    "openTSNE": {"search.projection"},
    # The network: `dymn models pull` goes there, who names a URI, `dymn listen ADDRESS` by `audio.network`,
    # Ray where its cluster is; `bench.live` serves a stream on loopback.
    "fsspec": {"remote"},
    "http": {"store.download", "bench.live"},
    "socket": {"store.download", "scale.cluster"},
    "ssl": {"store.download"},
    "urllib": {"store.download", "store.pull", "store.registry"},
}
NOWHERE = {"click", "librosa", "scipy", "pandas", "requests", "pydantic", "pickle"}


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports when it runs."""
    left: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            left.extend(node.orelse)
        elif not isinstance(node, ast.expr):  # none holds a statement
            left.extend(ast.iter_child_nodes(node))


def below(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


@functools.cache
def imported() -> dict[str, list[str]]:
    """What each module imports; read by the first test that asks, not wherever tests are collected."""
    return {name: sorted(set(imports(path))) for name, path in MODULES.items()}


@pytest.mark.parametrize("module", [name for name in MODULES if name.count(".")])
def test_imports_follow_the_way_of_the_data(module: str) -> None:
    inside = module.removeprefix("dymn_cli.")
    part = inside.partition(".")[0]
    if part == "cli":
        return
    assert part in PARTS, f"say in PARTS what {part} may import"
    for target in imported()[module]:
        if target.startswith("dymn_cli."):
            wanted = target.removeprefix("dymn_cli.")
            assert below(wanted, {part} | PARTS[part]), f"{module} imports {target}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_are_imported_where_they_belong(library: str) -> None:
    users = {
        module.removeprefix("dymn_cli.")
        for module, targets in imported().items()
        if any(target.partition(".")[0] == library for target in targets)
    }
    assert {user for user in users if not below(user, LIBRARIES[library])} == set()


def test_some_libraries_are_not_needed_at_all() -> None:
    for module, targets in imported().items():
        assert not {target.partition(".")[0] for target in targets} & NOWHERE, module


# Who else gives a file its name: the store, in a model's folder that it has locked, and the cache of
# decoded audio, whose rows are as large as the disk.
RENAME = {"atomic", "store.local", "store.pull", "datasets.audio_cache"}


def test_files_are_put_in_place_by_one_module() -> None:
    for module, path in MODULES.items():
        text = path.read_text("utf-8")
        if not re.search(r"\b(replace|rename|move)\b", text):
            continue
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        renames = [
            ast.unparse(call)
            for call in calls
            if isinstance(call.func, ast.Attribute)
            and (
                # Of a path; that of a text has two arguments, that of a dataclass has keywords.
                (call.func.attr in ("replace", "rename") and len(call.args) == 1 and not call.keywords)
                or ast.unparse(call.func) in ("os.replace", "os.rename", "shutil.move")
            )
        ]
        assert not renames or module.removeprefix("dymn_cli.") in RENAME, f"{module}: {renames}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {
        module: {target for target in imported()[module] if target in MODULES} - {module}
        for module in MODULES
    }
    while free := {module for module, targets in left.items() if not targets & left.keys()}:
        left = {module: targets for module, targets in left.items() if module not in free}
    assert sorted(left) == []


def test_nothing_reaches_into_the_private_parts_of_typer() -> None:
    for module, targets in imported().items():
        assert not [t for t in targets if t.startswith("typer._")], module


def test_the_package_has_no_cycles_between_its_parts() -> None:
    parts = {
        (module.split(".")[1], target.split(".")[1])
        for module, targets in imported().items()
        for target in targets
        if module.count(".") and target.startswith("dymn_cli.")
    }
    edges = {(one, other) for one, other in parts if one != other}
    # frontend.melbank and model.config are plain data that both sides of the network share.
    order = [
        "errors",
        "results",
        "labels",
        "audio",
        "frontend",
        "model",
        "store",
        "runtime",
        "tagging",
        "writers",
    ]
    for one, other in edges:
        if one in order and other in order:
            assert order.index(other) < order.index(one), f"{one} imports {other}"


HEAVY = ("numpy", "onnxruntime", "torch", "soundfile", "soxr", "rich", "av", "onnx", "safetensors")
SHOW = f"; import sys; print(*[name for name in {HEAVY} if name in sys.modules])"
RUN = "from dymn_cli.cli.app import run; import io, contextlib\n"
RUN += "with contextlib.redirect_stdout(io.StringIO()): "


@pytest.mark.parametrize(
    "code",
    [
        "import dymn_cli",
        "import dymn_cli; dymn_cli.DymnError, dymn_cli.ClipResult, dir(dymn_cli)",
        "import dymn_cli.results, dymn_cli.labels, dymn_cli.writers, dymn_cli.audio.discover",
        RUN + "assert run(['--help']) == 0\nprint(end='')",
        RUN + "assert run(['tag', '--help']) == 0\nprint(end='')",
        RUN + "assert run(['--version']) == 0\nprint(end='')",
    ],
    ids=["package", "names", "base", "help", "help of tag", "version"],
)
def test_what_is_light_stays_light(code: str, repository: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + SHOW],
        capture_output=True,
        text=True,
        cwd=repository,
        check=True,
    )
    assert ran.stdout.split() == []
