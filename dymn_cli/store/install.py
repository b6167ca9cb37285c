"""Install models into the local store, after a self-test.

Also the entry for the user's own models: converted checkpoints, and ONNX files of `dymn export`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import ModelError, OutputError, UsageError
from dymn_cli.frontend.melbank import RATE_HZ
from dymn_cli.model.config import architecture_of
from dymn_cli.model.layout import layers
from dymn_cli.store import local
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.identity import identify
from dymn_cli.store.registry import model_specs
from dymn_cli.store.weights import save_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SelfTest", "SourceCheckpoint", "add_onnx", "add_weights", "check_own_name", "install"]

UNTESTED = "untested"
SECONDS = 10  # of audio, for which MACs are counted

SelfTest = Callable[[Path], ModelHeader]
"""Loads and runs a model file and returns its header; raises `ModelError` if it does not work."""


@dataclass(frozen=True, slots=True)
class SourceCheckpoint:
    """What a model was made from: the fields of the same names of `local.Record`."""

    origin: local.Origin
    checkpoint_sha256: str
    checkpoint_from: str
    recognised_by: str
    kept: str = ""


def check_own_name(name: str) -> None:
    """Refuse a name that the user's own model cannot have.

    Raises:
        UsageError: it is not a valid name, or is taken by a published model.
    """
    local.check_name(name)
    if any(spec.name == name for spec in model_specs()):
        raise UsageError(f"{name} is the name of a published model", hint="choose another with --name")


def add_weights(
    name: str,
    source: Path,
    header: ModelHeader,
    tensors: Mapping[str, NDArray[np.float32]],
    *,
    test: SelfTest,
    force: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> local.Record:
    """Add a converted model of the user's.

    Args:
        name: for `-m`.
        source: the file that it was converted from.
        header: of the model.
        tensors: of the model.
        test: run before the model is installed.
        force: replace the user's model of that name.
        waiting: called if another process holds the lock.

    Raises:
        UsageError: the name cannot be used.
        OutputError: there is a model of that name, or the store cannot be written to.
        ModelError: it fails the self-test.
    """
    check_own_name(name)
    with local.locked(name, waiting) as folder:
        _require_free(name, force=force)
        file = folder / f"{UNTESTED}.safetensors"
        save_weights(file, header, tensors)
        return install(name, file, _own(source), test)


def add_onnx(
    name: str,
    source: Path,
    *,
    test: SelfTest,
    force: bool = False,
    waiting: Callable[[], None] = lambda: None,
) -> local.Record:
    """Add a copy of the user's ONNX file; arguments and errors as of `add_weights`."""
    check_own_name(name)
    with local.locked(name, waiting) as folder:
        _require_free(name, force=force)
        file = folder / f"{UNTESTED}.onnx"
        with local.os_errors(file), source.open("rb") as stream, atomic_write(file) as copy:
            shutil.copyfileobj(stream, copy)
        return install(name, file, _own(source), test)


def _own(source: Path) -> SourceCheckpoint:
    return SourceCheckpoint("own", identify(source).sha256, source.name, "user")


def _require_free(name: str, *, force: bool) -> None:
    if not force and name in local.own_names():
        raise OutputError(f"you already have a model called {name}", hint="--force replaces it")


def install(name: str, file: Path, made_of: SourceCheckpoint, test: SelfTest) -> local.Record:
    """Test a file in the model's folder and make it the model; the caller holds the lock.

    Raises:
        ModelError: it fails the self-test; the file is removed.
        OutputError: the store cannot be written to.
    """
    try:
        header = test(file)
    except ModelError as error:
        file.unlink(missing_ok=True)
        reason = error.message.removeprefix(f"{file}: ")
        raise ModelError(f"{name}: the self-test failed: {reason}", hint=error.hint) from error
    record = _record(name, header, file, made_of)
    local.adopt(record, file)
    return record


def _record(name: str, header: ModelHeader, file: Path, made_of: SourceCheckpoint) -> local.Record:
    identity, config, front_end = identify(file), header.config, header.front_end
    cost = layers(config, front_end.n_mels, front_end.n_frames(SECONDS * RATE_HZ))
    hop_ms, rest = divmod(front_end.n_hop * 1000, front_end.rate_hz)
    return local.Record(
        name=name,
        origin=made_of.origin,
        file=f"{name}-{identity.sha256[:12]}{file.suffix}",
        sha256=identity.sha256,
        size_bytes=identity.size_bytes,
        checkpoint_sha256=made_of.checkpoint_sha256,
        checkpoint_from=made_of.checkpoint_from,
        recognised_by=made_of.recognised_by,
        architecture=architecture_of(config) or "custom",
        n_classes=config.n_classes,
        purpose=header.purpose,
        hop_ms=hop_ms if rest == 0 else 0,
        n_mels=front_end.n_mels,
        parameters=sum(layer.parameters for layer in cost),
        macs=sum(layer.macs for layer in cost),
        embedding_size=config.embedding_size,
        temperature=config.temperature,
        kept=made_of.kept,
    )
