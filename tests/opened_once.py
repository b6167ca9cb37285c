"""The model that ships, opened once for all tests that only need its answers: opening it takes 0.1 s."""

from __future__ import annotations

import functools
from typing import Any

from dymn_cli.runtime import select
from dymn_cli.runtime.base import Backend
from dymn_cli.store.registry import DEFAULT_MODEL

__all__ = ["open_backend"]

_shipped = functools.cache(select.open_backend)


def open_backend(model: str, **options: Any) -> Backend:
    """As `dymn_cli.runtime.select.open_backend`; the same object for the same options of that model."""
    return _shipped(model, **options) if model == DEFAULT_MODEL else select.open_backend(model, **options)
