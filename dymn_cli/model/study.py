"""The networks of the paper's study, with its figures and ours: `study.toml`. Needs no torch.

The figures are those of arXiv 2310.15648 for log-mels of 10 s; what is not known here is left out.
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

__all__ = ["Variant", "variant", "variants"]


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


@cache
def variants() -> tuple[Variant, ...]:
    """All rows, in the order of the tables."""
    text = resources.files("dymn_cli.model").joinpath("study.toml").read_text("utf-8")
    return tuple(_variant(entry) for entry in tomllib.loads(text)["variant"])


def variant(name: str) -> Variant:
    """A row by name.

    Raises:
        UsageError: there is none of that name.
    """
    found = next((one for one in variants() if one.name == name), None)
    if found is None:
        raise UsageError(f"no variant {name!r}", hint="dymn models variants lists them")
    return found


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
