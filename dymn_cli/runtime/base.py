"""The contract between the tagger and whatever runs the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.results import ModelInfo
    from dymn_cli.store.weights import ModelHeader

__all__ = ["Answer", "Backend"]


class Answer(NamedTuple):
    """What the network says of a batch: before the sigmoid, and before the head."""

    logits: NDArray[np.float32]  # (n, n_classes)
    embedding: NDArray[np.float32]  # (n, embedding_size)


class Backend(Protocol):
    """A model, loaded and ready.

    `run` takes log-mels (n, 1, n_mels, n_frames) float32 and may be called from several threads at once.
    Each row of the answer depends on its own row of the input only, to the last bit on a CPU.
    """

    header: ModelHeader
    info: ModelInfo

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU: then one window a call is the fastest."""
        ...

    def run(self, mels: NDArray[np.float32]) -> Answer:
        """The network's answer for a batch of log-mels."""
        ...
