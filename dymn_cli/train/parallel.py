"""Parts of a batch, each on a thread and a copy of the network of its own: faster than one part on all cores.

A step of a small network is thousands of short operations. Threads that share each of them wait for each
other most of the time; threads that share the batch meet once a step.

The copies have the network's own parameters, not copies of them. Batch normalisation sees a part at a time,
as on several GPUs: each copy goes on from the network's running statistics, and their means become the
network's. The result depends on how many parts a batch has, and not on how many of them run at a time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["DataParallelCPU", "Losses", "NotANumberError", "shards_for"]

MIN_SHARD_SIZE = 4  # items that batch normalisation compares; of two it learned nothing that held
SHARD_SEED_STRIDE = 7_368_787  # seeds of the shards of one step

B = TypeVar("B")


class NotANumberError(ArithmeticError):
    """A loss is infinite, or not a number."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What a step is judged by: `total` is minimised, `parts` are told."""

    total: Tensor
    parts: dict[str, Tensor]


class DrawnDropout(nn.Module):
    """Dropout with a generator of its own, so that threads do not draw from each other's numbers.

    y = x · m / (1 − p),  m = 0 with probability p, else 1; in evaluation y = x
    """

    def __init__(self, p: float, device: torch.device) -> None:
        super().__init__()
        self.p = p
        self.generator = torch.Generator(device)

    def __deepcopy__(self, memo: object) -> DrawnDropout:
        return DrawnDropout(self.p, self.generator.device)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, which stays."""
        if not self.training or not self.p:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * kept / (1 - self.p)


def shards_for(batch: int, wanted: int, device: torch.device) -> int:
    """Parts of a batch: as many as are wanted where they divide it and are large enough; one on a GPU."""
    divides = batch % wanted == 0 and batch >= MIN_SHARD_SIZE * wanted
    return wanted if divides and device.type == "cpu" else 1


class DataParallelCPU:
    """Runs the parts of a batch through copies of a network, and leaves their mean gradient in the network.

    Args:
        model: the network; its parameters stay where they are for as long as this is used.
        n: parts of a batch.

    Use it as a context: threads end with it.
    """

    def __init__(self, model: nn.Module, n: int) -> None:
        self._model = model
        self._copies = [_tied_copy(model) for _ in range(n)]
        self._statistics = [_statistics(net) for net in self._copies]
        self._own_statistics = _statistics(model)
        self._pool: ThreadPoolExecutor | None = None
        if n > 1:
            each = max(torch.get_num_threads() // n, 1)
            at_once = min(n, torch.get_num_threads())
            self._pool = ThreadPoolExecutor(at_once, "shard", torch.set_num_threads, (each,))

    def __enter__(self) -> DataParallelCPU:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def step(
        self,
        parts: Sequence[B],
        loss: Callable[[B, nn.Module], Losses],
        *,
        seed: int,
        scaled: Callable[[Tensor], Tensor] = lambda total: total,
    ) -> Losses:
        """Compute the loss of each part and its gradient.

        Args:
            parts: of a batch, one for each shard, of one size.
            loss: of a part, given the network to use.
            seed: of dropout.
            scaled: what is differentiated in place of the loss.

        Returns:
            The means over the parts, without gradients.

        Raises:
            NotANumberError: a loss is none; the network and its gradients are as they were.
        """
        assert len(parts) == len(self._copies)
        self._hand_out()

        def run(shard: int) -> Losses:
            network = self._copies[shard]
            network.zero_grad(set_to_none=True)
            for module in network.modules():
                if isinstance(module, DrawnDropout):
                    module.generator.manual_seed(seed + shard * SHARD_SEED_STRIDE)
            losses = loss(parts[shard], network)
            value = float(losses.total.detach())
            if not math.isfinite(value):
                raise NotANumberError(str(value))
            scaled(losses.total).backward()  # type: ignore[no-untyped-call]
            return losses

        shards = range(len(parts))
        done = [run(0)] if self._pool is None else list(self._pool.map(run, shards))
        self._gather()
        return Losses(
            torch.stack([one.total.detach() for one in done]).mean(),
            {name: torch.stack([one.parts[name] for one in done]).mean() for name in done[0].parts},
        )

    @torch.no_grad()
    def _hand_out(self) -> None:
        """The network's running statistics, to the copies."""
        for theirs in self._statistics:
            for own, copied in zip(self._own_statistics, theirs, strict=True):
                if own:
                    torch._foreach_copy_(copied, own)

    @torch.no_grad()
    def _gather(self) -> None:
        """Mean gradients and mean running statistics, into the network."""
        n = len(self._copies)
        copies = (net.parameters() for net in self._copies)
        sums: list[Tensor] = []
        more: list[list[Tensor]] = [[] for _ in range(n - 1)]
        for own, *others in zip(self._model.parameters(), *copies, strict=True):
            gradients = [other.grad for other in others]
            own.grad = gradients[0]
            for gradient in gradients:
                assert (gradient is None) == (own.grad is None)  # every shard does the same
            if own.grad is not None:
                sums.append(own.grad)
                for held, gradient in zip(more, gradients[1:], strict=True):
                    held.append(cast(Tensor, gradient))
        floats, counters = self._own_statistics
        theirs = [shard[0] for shard in self._statistics]
        if n > 1:
            for held in more:
                torch._foreach_add_(sums, held)
            torch._foreach_div_(sums, n)
            for shard in theirs[1:]:
                torch._foreach_add_(theirs[0], shard)
            torch._foreach_div_(theirs[0], n)
        if floats:
            torch._foreach_copy_(floats, theirs[0])
            torch._foreach_copy_(counters, self._statistics[0][1])


def _statistics(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Running means and variances of a network's batch normalisations, and their counters."""
    norms = [one for one in network.modules() if isinstance(one, _BatchNorm)]
    buffers = [value for norm in norms for value in norm.buffers()]
    floats = [value for value in buffers if value.is_floating_point()]
    return floats, [value for value in buffers if not value.is_floating_point()]


def _tied_copy(model: nn.Module) -> nn.Module:
    """A copy with the same parameters, buffers of its own, and dropout that draws for itself."""
    twin = copy.deepcopy(model)
    for one, other in zip(twin.parameters(), model.parameters(), strict=True):
        one.data = other.data
    device = next(model.parameters()).device
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, DrawnDropout(child.p, device).train(child.training))
    return twin
