"""The networks of the paper's study, with its figures and ours, and other systems: `study.toml`.

The figures of the study are those of arXiv 2310.15648 for log-mels of 10 s; what is not known here is left
out. Needs no torch.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from dymn_cli.errors import UsageError
from dymn_cli.model.complexity import Complexity, complexity
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig

__all__ = ["System", "Variant", "systems", "variant", "variants"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the paper's tables.

    Args:
        name: ours, such as `mn10-triplet`.
        table: the paper's, such as "VIII"; or "ablation", where the table's number is not known here.
        row: what the paper calls it.
        config: the architecture.
        parameters_m: published millions of parameters, or None.
        macs_m: published millions of multiply-accumulates, or None.
        mean_ap: published mean average precision on AudioSet, percent, or None.
        note: why our count is another one, where it is.
    """

    name: str
    table: str
    row: str
    config: ModelConfig
    parameters_m: float | None = None
    macs_m: float | None = None
    mean_ap: float | None = None
    note: str = ""

    @property
    def complexity(self) -> Complexity:
        """Our count."""
        return complexity(self.config)


@dataclass(frozen=True, slots=True)
class System:
    """Another system for AudioSet, by the figures of its own paper, for clips of 10 s.

    Args:
        name: what the field calls it.
        source: where the figures stand.
        parameters_m: millions of parameters, or None.
        macs_m: millions of multiply-accumulates, or None.
        mean_ap: mean average precision on AudioSet, percent, of one model.
    """

    name: str
    source: str
    parameters_m: float | None
    macs_m: float | None
    mean_ap: float


@cache
def variants() -> tuple[Variant, ...]:
    """All rows, in the order of the tables."""
    return tuple(_variant(entry) for entry in _study()["variant"])


@cache
def systems() -> tuple[System, ...]:
    """The systems that the paper compares DyMN with (Figures 4 and 5), from the least precise to the most."""
    return tuple(
        System(one["name"], one["source"], one.get("parameters_m"), one.get("macs_m"), one["map"])
        for one in _study()["system"]
    )


def variant(name: str) -> Variant:
    """A row by name.

    Raises:
        UsageError: there is none of that name.
    """
    found = next((one for one in variants() if one.name == name), None)
    if found is None:
        raise UsageError(f"no variant {name!r}", hint="dymn models variants lists them")
    return found


def _study() -> dict[str, Any]:
    text = resources.files("dymn_cli.model").joinpath("study.toml").read_text("utf-8")
    return tomllib.loads(text)


def _variant(entry: dict[str, Any]) -> Variant:
    fields = dict(entry.get("config", {}))
    if isinstance(fields.get("dynamic_blocks"), str):
        fields["dynamic_blocks"] = BLOCK_MASKS[fields["dynamic_blocks"]]
    return Variant(
        name=entry["name"],
        table=entry["table"],
        row=entry["row"],
        config=ModelConfig.from_json(json.dumps(fields)),
        parameters_m=entry.get("parameters_m"),
        macs_m=entry.get("macs_m"),
        mean_ap=entry.get("map"),
        note=entry.get("note", ""),
    )
