"""The maximum of M lines through each channel, with a gradient that costs little: what Dy-ReLU trains with.

Autograd would keep every line and divide ties among them; here only the input is kept and which line was on
top, and a tie goes to the first line. That takes a third of the time, of what is a third of training.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["max_of_lines"]


def max_of_lines(x: Tensor, slopes: Tensor, intercepts: Tensor) -> Tensor:
    """y[n, c, f, t] = max over m of slopes[n, c, m] · x[n, c, f, t] + intercepts[n, c, m].

    Args:
        x: (n, C, f, t).
        slopes: (n, C, M).
        intercepts: (n, C, M).
    """
    if not torch.is_grad_enabled():
        return _forward(x, slopes, intercepts)[0]
    return cast(Tensor, _MaxOfLines.apply(x, slopes, intercepts))  # type: ignore[no-untyped-call]


def _forward(x: Tensor, slopes: Tensor, intercepts: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The maximum, and for each line but the first where it is above all before it."""
    slopes, intercepts = slopes[:, :, :, None, None], intercepts[:, :, :, None, None]
    y = slopes[:, :, 0] * x + intercepts[:, :, 0]
    above = []
    for m in range(1, slopes.shape[2]):
        line = slopes[:, :, m] * x + intercepts[:, :, m]
        above.append(line > y)
        y = torch.maximum(y, line)
    return y, above


class _MaxOfLines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor, intercepts: Tensor) -> Tensor:
        y, above = _forward(x, slopes, intercepts)
        ctx.save_for_backward(x, slopes, *above)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, slopes, *above = ctx.saved_tensors
        n, channels, frequency, time = x.shape
        column = x.reshape(n * channels, frequency * time, 1)
        rest = gradients[0]
        of_x = torch.zeros_like(rest)  # in half precision x may have another type than its gradient
        of_slopes, of_intercepts = [], []
        # From the last line down: what it is on top of is no other line's.
        for m in range(slopes.shape[2] - 1, -1, -1):
            share = rest * above[m - 1] if m else rest
            if m:
                rest = rest - share
            of_x = torch.addcmul(of_x, share, slopes[:, :, m, None, None].to(share.dtype))
            row = share.reshape(n * channels, 1, frequency * time)
            of_slopes.append(torch.bmm(row, column.to(row.dtype)).reshape(n, channels))
            of_intercepts.append(share.sum(dim=(2, 3)))
        slope_gradient = torch.stack(of_slopes[::-1], dim=2)
        intercept_gradient = torch.stack(of_intercepts[::-1], dim=2)
        return of_x.to(x.dtype), slope_gradient.to(slopes.dtype), intercept_gradient.to(slopes.dtype)
