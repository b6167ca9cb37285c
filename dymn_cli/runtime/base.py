"""The interface between the tagger and the runtimes."""

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
"""Log-mels (n, 1, n_mels, n_frames) float32: a NumPy array, or the result of a `DeviceFrontEnd`."""


class Answer(NamedTuple):
    """The output of the network for a batch: logits (before the sigmoid) and embeddings."""

    logits: NDArray[np.float32]  # (n, n_classes)
    embedding: NDArray[np.float32]  # (n, embedding_size)
    frame_logits: NDArray[np.float32] | None = None  # (n, n_steps, n_classes), if requested


class Backend(Protocol):
    """A model, loaded on a runtime.

    `run` takes log-mels (n, 1, n_mels, n_frames) float32 and may be called from several threads at once.
    Each row of the output depends on its own row of the input only; on a CPU to the last bit. Other
    processors, and other numbers of the runtime's threads, round differently: `open_backend` asks
    onnxruntime for one thread; PyTorch uses one a core, or `OMP_NUM_THREADS`.
    """

    header: ModelHeader
    info: ModelInfo

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU, where one window a call is fastest."""
        ...

    @property
    def has_frames(self) -> bool:
        """Whether it can compute frame logits; only some exported files cannot."""
        ...

    def run(self, mels: Mels, *, frames: bool = False) -> Answer:
        """Run the network on a batch of log-mels; with `frame_logits` if `frames` is set."""
        ...


@runtime_checkable
class DeviceFrontEnd(Protocol):
    """A backend that also resamples and computes the log-mel on its device.

    The results are those of the front end on the CPU, within float32.
    """

    def log_mel(self, config: FrontEndConfig, samples: NDArray[np.float32]) -> Mels:
        """Compute the log-mels of windows (n, n_samples) and keep them on the device for `run`."""
        ...

    def resample(
        self, blocks: Iterable[NDArray[np.float32]], matrix: NDArray[np.float32], period: int
    ) -> Iterator[NDArray[np.float32]]:
        """Resample blocks of (n,) or (n, channels) to 32 kHz with `dymn_cli.audio.resample.response`."""
        ...
