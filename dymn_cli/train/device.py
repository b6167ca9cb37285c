"""Where a training run computes, and with how many threads."""

from __future__ import annotations

import contextlib
import ctypes

from dymn_cli.cores import usable_cores
from dymn_cli.errors import BackendUnavailableError, first_line

try:
    import torch
except ImportError as exc:
    raise BackendUnavailableError(
        f"PyTorch cannot be loaded: {exc}", hint="training needs: pip install 'dymn[train]'"
    ) from exc

__all__ = ["choose_device", "set_threads"]

# Numbers of glibc's mallopt(3): all threads share one heap, and what is freed stays in it for the next step.
ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1
KEPT_BYTES = 1 << 30


def choose_device(name: str) -> torch.device:
    """The device of that name: "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        BackendUnavailableError: PyTorch has no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as exc:  # a build without CUDA asserts
        raise BackendUnavailableError(
            f"PyTorch has no device {name!r} here: {first_line(exc)}", hint="--device cpu works everywhere"
        ) from exc
    return device


def set_threads(n: int | None) -> int:
    """Let PyTorch use so many threads on the CPU, one a core where None; returns the number."""
    if n is None:
        n = usable_cores()
    torch.set_num_threads(n)
    _keep_freed_memory()
    return n


def _keep_freed_memory() -> None:
    """Spare a step the pages that it would get from the system and give back: a tenth of its time.

    Where the C library is not glibc, nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in ((ARENA_MAX, 1), (MMAP_THRESHOLD, KEPT_BYTES), (TRIM_THRESHOLD, KEPT_BYTES)):
            mallopt(name, value)
