"""Turn the values of a tensor, as a file stores them, into float32, and refuse what no network can use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dymn_cli.errors import ModelError
from dymn_cli.model.layout import is_optional

__all__ = ["as_float32"]


def as_float32(values: NDArray[np.generic], key: str, where: str) -> NDArray[np.float32]:
    """Round values to float32; those that are float32 and in order are not copied.

    Args:
        values: of any shape.
        key: of the tensor in its state dict.
        where: what errors call it.

    Returns:
        C-contiguous, of the same shape.

    Raises:
        ModelError: whole numbers in a weight, as quantised files hold them, or values that are not finite in
            a tensor that the network needs.
    """
    if values.dtype.kind in "iub" and key.endswith((".weight", ".bias")):
        raise ModelError(f"{where} holds whole numbers", hint="dymn reads no quantised weights")
    with np.errstate(over="ignore"):  # overflow becomes infinity
        array = np.asarray(values, np.float32, order="C")
    if not is_optional(key) and not np.isfinite(array).all():
        raise ModelError(f"{where} holds values that are not finite")
    return array
