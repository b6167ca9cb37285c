"""The architectures of the paper: DyMN and its static sibling MN; and FMN, which scores steps of time.

The networks need torch; each name is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dymn_cli.model.build import restore
    from dymn_cli.model.config import ARCHITECTURES, ModelConfig
    from dymn_cli.model.dymn import DyMN
    from dymn_cli.model.dynamics import dynamics_of
    from dymn_cli.model.fmn import FMN
    from dymn_cli.model.mn import MN

__all__ = ["ARCHITECTURES", "FMN", "MN", "DyMN", "ModelConfig", "dynamics_of", "restore"]

_MODULES = {
    "ARCHITECTURES": "config",
    "DyMN": "dymn",
    "FMN": "fmn",
    "MN": "mn",
    "ModelConfig": "config",
    "dynamics_of": "dynamics",
    "restore": "build",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dymn_cli.model.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
