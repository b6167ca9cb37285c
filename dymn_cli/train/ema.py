"""The exponential moving average of a network's weights: what is kept and used of a run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """A copy of a network's state that follows it slowly.

        average ← d · average + (1 − d) · weights,  d = min(decay, (1 + n) / (10 + n)) at update n

    so that it forgets a random beginning quickly. Running means and variances of batch normalisation are
    averaged with the weights they belong to; counters are copied.

    Args:
        model: the network as it is now.
        decay: in [0, 1); 0 keeps no memory.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Tensor] = {key: value.clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the network as it is now into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        held, now = [], []
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                held.append(self.state[key])
                now.append(value.detach())
            else:
                self.state[key].copy_(value)
        torch._foreach_lerp_(held, now, 1.0 - decay)
