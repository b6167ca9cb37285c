"""The self-test that a model must pass before it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dymn_cli.store.header import ModelHeader

__all__ = ["self_test"]


def self_test(file: Path) -> ModelHeader:
    """Run a model file on a synthetic sound and a bundled clip, and return its header.

    Raises:
        ModelError: it cannot be loaded, or its output is wrong.
    """
    from dymn_cli.demo import demo_clips
    from dymn_cli.doctor.self_test import check_model

    return check_model(str(file), clip=demo_clips()[0].path).header
