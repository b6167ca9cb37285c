"""The architectures of the paper: DyMN and its static sibling MN; and FMN, which scores steps of time.

The networks need torch; each name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dymn_cli.lazy import on_first_use

if TYPE_CHECKING:
    from dymn_cli.model.build import restore
    from dymn_cli.model.config import ARCHITECTURES, ModelConfig
    from dymn_cli.model.dymn import DyMN
    from dymn_cli.model.dynamics import dynamics_of
    from dymn_cli.model.fmn import FMN
    from dymn_cli.model.mn import MN

__all__ = ["ARCHITECTURES", "FMN", "MN", "DyMN", "ModelConfig", "dynamics_of", "restore"]

_MODULES = {
    "ARCHITECTURES": "dymn_cli.model.config",
    "DyMN": "dymn_cli.model.dymn",
    "FMN": "dymn_cli.model.fmn",
    "MN": "dymn_cli.model.mn",
    "ModelConfig": "dymn_cli.model.config",
    "dynamics_of": "dymn_cli.model.dynamics",
    "restore": "dymn_cli.model.build",
}
__getattr__, __dir__ = on_first_use(__name__, _MODULES)
