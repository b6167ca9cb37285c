"""The state of a training run on disk: a safetensors file, written whole or not at all.

    model.KEY            the network, published key names
    average.KEY          its moving average, where one is kept
    optimizer.N.NAME     what the optimizer remembers of parameter N
    kept.KEY             the best network so far, where one is kept
    __metadata__         dymn.train: JSON with the schema, the run's fingerprint, stage, step, counters
                         sha256: of that JSON, of the tensors and of their names, types and shapes

Nothing in it is executed when it is read. Random numbers need no state: every step draws from the seed and
its own number (`dymn_cli.datasets.seeding.step_generator`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import (
    ChecksumError,
    ModelError,
    OutputError,
    UnsafeWeightsError,
    WeightsMissingError,
    first_line,
    os_error_text,
    os_errors_as,
)
from dymn_cli.train.ema import Average

__all__ = ["Saved", "TrainState", "read_state", "restore_state", "save_state"]

SCHEMA = "dymn.train/1"


@dataclass(slots=True)
class TrainState:
    """All that changes while a stage of a run goes on.

    Args:
        model: the network.
        optimizer: over its parameters, in their order.
        average: of the weights, or None.
        stage: number of the stage, from 0.
        step: steps done in it.
        elapsed_s: seconds of training, its measurements among them, in all stages and all sessions.
        notes: what else must survive, as JSON values.
        kept: a network to come back to, as a state dict, or None.
        scaler: of gradients in half precision, or None.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average | None = None
    stage: int = 0
    step: int = 0
    elapsed_s: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Tensor] | None = None
    scaler: torch.amp.GradScaler | None = None

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The network that the run stands for: the average, where there is one."""
        return self.model.state_dict() if self.average is None else self.average.state


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds, before it is put into a network."""

    fields: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def stage(self) -> int:
        """Number of the stage that it is from."""
        return int(self.fields["stage"])

    @property
    def step(self) -> int:
        """Steps done in that stage."""
        return int(self.fields["step"])

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors below a prefix, without it."""
        start = f"{prefix}."
        return {
            key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)
        }


def save_state(path: Path, state: TrainState, fields: Mapping[str, Any]) -> None:
    """Write a checkpoint beside its place and rename it, so that there is always a whole one.

    Args:
        path: of the checkpoint.
        state: of the run.
        fields: what the run is (its fingerprint, its plan), as JSON values.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.torch import save

    document = {
        **fields,
        "schema": SCHEMA,
        "stage": state.stage,
        "step": state.step,
        "elapsed_s": state.elapsed_s,
        "updates": 0 if state.average is None else state.average.updates,
        "notes": state.notes,
        "scaler": None if state.scaler is None else state.scaler.state_dict(),
    }
    # Clones: tensors that share storage are refused, and a network may hold such.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in _tensors(state)}
    text = json.dumps(document)
    data = save(tensors, {"dymn.train": text, "sha256": _sha256(text, tensors)})
    with os_errors_as(OutputError, path), atomic_write(path) as file:
        file.write(data)


def _sha256(text: str, tensors: Mapping[str, Tensor]) -> str:
    """The hash of a JSON document and of tensors: their names, types, shapes and bytes."""
    digest = hashlib.sha256(text.encode())
    for key, value in sorted(tensors.items()):
        digest.update(json.dumps([key, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(state: TrainState) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.model.state_dict().items():
        yield f"model.{key}", value
    if state.average is not None:
        for key, value in state.average.state.items():
            yield f"average.{key}", value
    for key, value in (state.kept or {}).items():
        yield f"kept.{key}", value
    for number, entries in state.optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            yield f"optimizer.{number}.{name}", torch.as_tensor(value)


def read_state(path: Path) -> Saved:
    """Read a checkpoint.

    Raises:
        WeightsMissingError: it cannot be read.
        UnsafeWeightsError: it is no checkpoint of ours.
        ChecksumError: it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        text = metadata["dymn.train"]
        fields = json.loads(text)
        tensors = load(data)
        is_whole = metadata.get("sha256") in (None, _sha256(text, tensors))  # before, there was none
    except OSError as exc:
        raise WeightsMissingError(os_error_text(path, exc)) from exc
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise UnsafeWeightsError(
            f"{path}: not a checkpoint of a training run", hint="--no-resume starts over"
        ) from exc
    if not is_whole:
        raise ChecksumError(f"{path}: damaged: its hash is wrong", hint="--no-resume starts over")
    if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
        raise UnsafeWeightsError(f"{path}: a checkpoint of another version", hint="--no-resume starts over")
    return Saved(fields, tensors)


def restore_state(saved: Saved, state: TrainState) -> None:
    """Put a checkpoint into a state of the same run and stage.

    Raises:
        ModelError: it is of another network.
    """
    try:
        state.model.load_state_dict(saved.part("model"), strict=True)
        if state.average is not None:
            held = saved.part("average")
            for key, value in state.average.state.items():
                value.copy_(held[key])
            state.average.updates = int(saved.fields["updates"])
        _restore_optimizer(saved.part("optimizer"), state.optimizer)
        if state.scaler is not None and saved.fields["scaler"]:
            state.scaler.load_state_dict(saved.fields["scaler"])
        state.kept = saved.part("kept") or None
        state.stage, state.step = int(saved.fields["stage"]), int(saved.fields["step"])
        state.elapsed_s, state.notes = float(saved.fields["elapsed_s"]), dict(saved.fields["notes"])
    except (KeyError, ValueError, TypeError, RuntimeError) as exc:
        raise ModelError(
            f"the checkpoint is of another network: {first_line(exc)}", hint="--no-resume starts over"
        ) from exc


def _restore_optimizer(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        entries.setdefault(int(number), {})[name] = value
    fresh = optimizer.state_dict()
    optimizer.load_state_dict({"state": entries, "param_groups": fresh["param_groups"]})
