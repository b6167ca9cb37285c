"""Random numbers that depend only on a seed, a purpose and a step."""

from __future__ import annotations

import numpy as np

__all__ = ["step_generator"]


def step_generator(seed: int, purpose: int, step: int) -> np.random.Generator:
    """A separate generator for each step of each purpose (a stage, a split, …)."""
    return np.random.default_rng([seed, purpose, step])
