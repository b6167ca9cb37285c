"""The models that have a name: `weights/models.toml`, and where their files lie.

The folder `weights/` is part of the wheel (as `dymn_cli/weights`); in a checkout, editable installs
included, it lies beside the package. A name in the manifest is a file in that folder with a known
SHA-256; any other model is given by its path.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dymn_cli.errors import UsageError, WeightsMissingError

__all__ = [
    "DEFAULT_MODEL",
    "ModelSpec",
    "cache_folder",
    "model_spec",
    "model_specs",
    "resolve",
    "weights_folder",
]

DEFAULT_MODEL = "dymn04_kd"
MANIFEST = "models.toml"
PATH_SUFFIXES = (".safetensors", ".onnx")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the manifest says of a model.

    Args:
        name: what `-m` takes.
        architecture: name in `dymn_cli.model.config.ARCHITECTURES`.
        file: file name in the folder of weights.
        sha256: of that file.
        size_bytes: of that file.
        parameters: number of trained values.
        macs: multiply-accumulates for 10 s of audio.
        embedding_size: values in an embedding.
        temperature: of the Dy-Conv attention at inference; 1 for static models.
        licence: SPDX expression.
        source: who trained it, from what.
        summary: one line for lists.
    """

    name: str
    architecture: str
    file: str
    sha256: str
    size_bytes: int
    parameters: int
    macs: int
    embedding_size: int
    temperature: float
    licence: str
    source: str
    summary: str

    @property
    def path(self) -> Path:
        """Where the file should lie; it is not checked."""
        return weights_folder() / self.file


@cache
def weights_folder() -> Path:
    """The folder of weights: inside an installed package, or beside it in a checkout.

    Raises:
        WeightsMissingError: neither is there, so the installation is broken.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "weights", package.parent / "weights"):
        if (folder / MANIFEST).is_file():
            return folder
    raise WeightsMissingError(
        "this installation has no folder of weights", hint="reinstall: pip install --force-reinstall dymn"
    )


def cache_folder() -> Path:
    """Where files that can be fetched again are kept: DYMN_HOME, else the platform's cache folder.

    It need not exist.
    """
    home = os.environ.get("DYMN_HOME")
    if home:
        return Path(home).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("dymn", appauthor=False)


@cache
def model_specs() -> tuple[ModelSpec, ...]:
    """All models of the manifest, in its order.

    Raises:
        WeightsMissingError: the manifest is missing or not readable.
    """
    path = weights_folder() / MANIFEST
    try:
        tables: list[dict[str, Any]] = tomllib.loads(path.read_text("utf-8"))["model"]
        return tuple(ModelSpec(**table) for table in tables)
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise WeightsMissingError(f"{path}: not a readable manifest: {exc}") from exc


def model_spec(name: str) -> ModelSpec:
    """The model of that name.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    specs = {spec.name: spec for spec in model_specs()}
    if name in specs:
        return specs[name]
    near = ", ".join(difflib.get_close_matches(name, specs, n=3, cutoff=0.4) or list(specs)[:3])
    raise UsageError(
        f"no model is called {name!r}",
        hint=f"nearest: {near}; all: dymn models list; or the path of a {' or '.join(PATH_SUFFIXES)} file",
    )


def resolve(name_or_path: str) -> ModelSpec | Path:
    """A model by name, or a file by path: what has a known suffix or a slash is a path.

    Raises:
        UsageError: no model of that name.
        WeightsMissingError: no file at that path, or the named model's file is gone.
    """
    path = Path(name_or_path)
    if path.suffix in PATH_SUFFIXES or len(path.parts) > 1:
        if not _is_file(path):
            raise WeightsMissingError(f"{name_or_path}: no such file", hint="named models: dymn models list")
        return path
    spec = model_spec(name_or_path)
    if not spec.path.is_file():
        raise WeightsMissingError(
            f"the weights of {spec.name} are missing: {spec.file}",
            hint="reinstall: pip install --force-reinstall dymn",
        )
    return spec


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may not be searched, a name that is too long
        return False
