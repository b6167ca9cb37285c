"""The names that programs may build on, and that all of them say what they are."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import dymn_cli

HEAVY = {"torch", "onnx", "pyarrow", "av"}  # extras: a module that needs one may be absent


def modules() -> list[str]:
    return [info.name for info in pkgutil.walk_packages(dymn_cli.__path__, "dymn_cli.")]


def load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ModuleNotFoundError, dymn_cli.DymnError) as exc:
        missing = exc if isinstance(exc, ModuleNotFoundError) else exc.__cause__
        if isinstance(missing, ModuleNotFoundError) and missing.name in HEAVY:
            pytest.skip(f"needs {missing.name}")
        raise


def test_the_package_offers_what_it_says_and_nothing_else() -> None:
    assert sorted(dymn_cli.__all__) == [
        "AudioInfo",
        "AudioNotFoundError",
        "BackendUnavailableError",
        "ChecksumError",
        "ClipResult",
        "CorruptAudioError",
        "DymnError",
        "EmptyAudioError",
        "Event",
        "EventOptions",
        "Failure",
        "InputError",
        "ModelError",
        "ModelInfo",
        "OutputError",
        "PartialFailure",
        "SourceEvents",
        "Tag",
        "TagOptions",
        "Tagger",
        "UnsafeWeightsError",
        "UnsupportedAudioError",
        "UsageError",
        "WeightsMissingError",
        "WindowScores",
        "WindowTags",
        "__version__",
    ]
    for name in dymn_cli.__all__:
        assert getattr(dymn_cli, name) is not None
        assert name in dir(dymn_cli)
    star: dict[str, object] = {}
    exec("from dymn_cli import *", star)  # what __all__ is for
    assert set(dymn_cli.__all__) <= set(star)
    with pytest.raises(AttributeError, match="Taggger"):
        dymn_cli.Taggger  # noqa: B018


def test_public_names_are_the_same_as_in_their_modules() -> None:
    from dymn_cli.results import ClipResult
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.tagger import Tagger

    assert (dymn_cli.Tagger, dymn_cli.TagOptions, dymn_cli.ClipResult) == (Tagger, TagOptions, ClipResult)


def test_the_networks_are_imported_from_their_package_when_they_are_used() -> None:
    program = (
        "import sys; from dymn_cli.model import ModelConfig; assert 'torch' not in sys.modules;"
        "import dymn_cli.model as m; assert set(m.__all__) <= set(dir(m)); print(*m.__all__)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"DyMN", "MN", "FMN", "ModelConfig", "restore"} <= set(ran.stdout.split())
    pytest.importorskip("torch")
    from dymn_cli import model
    from dymn_cli.model.backbone import Backbone

    for network in (model.DyMN, model.MN, model.FMN):
        assert issubclass(network, Backbone)
    with pytest.raises(AttributeError, match="DyMM"):
        model.DyMM  # noqa: B018


def test_the_version_is_that_of_the_distribution(repository: object) -> None:
    import tomllib
    from pathlib import Path

    file = tomllib.loads((Path(str(repository)) / "pyproject.toml").read_text("utf-8"))
    assert file["project"]["dynamic"] == ["version"]
    said: dict[str, object] = {}
    exec((Path(str(repository)) / file["tool"]["hatch"]["version"]["path"]).read_text("utf-8"), said)
    assert dymn_cli.__version__ == said["__version__"]


def test_the_tools_of_development_are_the_same_with_and_without_torch(repository: object) -> None:
    import tomllib
    from pathlib import Path

    file = tomllib.loads((Path(str(repository)) / "pyproject.toml").read_text("utf-8"))
    ours = [
        need for need in file["project"]["optional-dependencies"]["dev"] if need[:4] not in ("dymn", "torc")
    ]
    assert ours == file["dependency-groups"]["dev"]


@pytest.mark.parametrize("name", modules())
def test_each_module_says_what_it_is_for_and_what_it_offers(name: str) -> None:
    module = load(name)
    assert (module.__doc__ or "").strip(), f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)  # importable
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"
            first = str(inspect.getdoc(value)).splitlines()[0]
            assert first.endswith((".", "?", ":")) or "(" in first, f"{name}.{public}: {first!r}"
        if inspect.isclass(value) and value.__module__ == name:
            for member, function in vars(value).items():
                inner = function.fget if isinstance(function, property) else function
                if not member.startswith("_") and inspect.isfunction(inner):
                    assert inspect.getdoc(inner), f"{name}.{public}.{member} has no docstring"


def test_the_errors_are_drawn_as_they_are() -> None:
    from dymn_cli import errors

    drawn = errors.__doc__ or ""
    classes = [value for name in errors.__all__ if inspect.isclass(value := getattr(errors, name))]
    for error in classes:
        assert error.__name__ in drawn
        assert issubclass(error, dymn_cli.DymnError)
    codes = {error.exit_code for error in classes}
    assert codes == {2, 3, 4, 5, 6, 70}
