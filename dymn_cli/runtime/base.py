"""The contract between the tagger and whatever runs the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.results import ModelInfo
    from dymn_cli.store.header import ModelHeader

__all__ = ["Answer", "Backend", "DeviceFrontEnd", "Mels"]

Mels = Any
"""Log-mels (n, 1, n_mels, n_frames) float32: a NumPy array, or what a `DeviceFrontEnd` gave."""


class Answer(NamedTuple):
    """What the network says of a batch: before the sigmoid, and before the head."""

    logits: NDArray[np.float32]  # (n, n_classes)
    embedding: NDArray[np.float32]  # (n, embedding_size)
    frame_logits: NDArray[np.float32] | None = None  # (n, n_steps, n_classes), where they were asked for


class Backend(Protocol):
    """A model, loaded and ready.

    `run` takes log-mels (n, 1, n_mels, n_frames) float32 and may be called from several threads at once.
    Each row of the answer depends on its own row of the input only, to the last bit on a CPU. Other
    processors, and other numbers of the runtime's own threads, round differently: `open_backend` asks
    onnxruntime for one; PyTorch has one a core, or `OMP_NUM_THREADS`.
    """

    header: ModelHeader
    info: ModelInfo

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU: then one window a call is the fastest."""
        ...

    @property
    def has_frames(self) -> bool:
        """Whether it can score each step of time: all but some exported files can."""
        ...

    def run(self, mels: Mels, *, frames: bool = False) -> Answer:
        """The network's answer for a batch of log-mels, with `frame_logits` where `frames` are wanted."""
        ...


@runtime_checkable
class DeviceFrontEnd(Protocol):
    """A backend that computes what comes before the network as well, on its device.

    What it gives is what the front end on the CPU gives, as far as float32 goes.
    """

    def log_mel(self, config: FrontEndConfig, samples: NDArray[np.float32]) -> Mels:
        """Log-mels of windows (n, n_samples), left on the device for `run`."""
        ...

    def resample(
        self, blocks: Iterable[NDArray[np.float32]], matrix: NDArray[np.float32], period: int
    ) -> Iterator[NDArray[np.float32]]:
        """Blocks of (n,) or (n, channels) at 32 kHz, by a filter of `dymn_cli.audio.resample.response`."""
        ...
