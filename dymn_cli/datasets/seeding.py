"""Random numbers that depend on a seed, a purpose and a step alone."""

from __future__ import annotations

import numpy as np

__all__ = ["step_generator"]


def step_generator(seed: int, purpose: int, step: int) -> np.random.Generator:
    """A generator of its own for a step of a purpose (a stage, a split, …)."""
    return np.random.default_rng([seed, purpose, step])
