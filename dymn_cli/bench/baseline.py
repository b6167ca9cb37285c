"""The reference way to run the published models, to compare with: one clip at a time, all in PyTorch.

What the example of the published models does, put together from the same libraries and from our own modules:

    load      as `librosa.load(path, sr=32000)` does for files that libsndfile reads: all samples at once as
              float32, the mean over the channels, one call of soxr at its HQ setting
    log-mel   pre-emphasis as a convolution, `torch.stft`, a product with a mel bank that is computed anew for
              every clip, the logarithm
    model     the modules of `dymn_cli.model`, in eager mode, on as many threads as there are cores
    answer    the sigmoid of the logits, the five best

It is no straw man: librosa's own checks and copies are left out, torchaudio's mel bank is ours, which takes a
quarter of a millisecond, no gradients are kept, and nothing is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from dymn_cli.errors import BackendUnavailableError, UsageError
from dymn_cli.frontend.melbank import FrontEndConfig, hann_window, mel_bank
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import read_weights

try:
    import torch
    import torch.nn.functional as F

    from dymn_cli.model.build import restore
except ImportError as exc:
    raise BackendUnavailableError(
        f"--baseline is PyTorch, which cannot be loaded: {exc}", hint="pip install 'dymn[torch]'"
    ) from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Baseline", "load", "log_mel"]

BEST = 5


class Baseline:
    """The published way to tag a clip.

    Args:
        model: name, or path of a .safetensors file.
        threads: of PyTorch.

    Raises:
        UsageError: a model that holds no PyTorch weights.
        ModelError: the model cannot be loaded.
    """

    def __init__(self, model: str, *, threads: int) -> None:
        found = resolve(model)
        if isinstance(found, Path) and found.suffix == ".onnx":
            raise UsageError(
                f"{model}: --baseline runs the model in PyTorch, which needs its weights",
                hint="give a .safetensors file or the name of a model",
            )
        weights = read_weights(found)
        torch.set_num_threads(threads)
        self._model = restore(
            {key: torch.from_numpy(value) for key, value in weights.tensors.items()}, weights.header.config
        )
        self._front_end = weights.header.front_end

    def __call__(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Scores (n_classes,) of a clip, and the classes of the best of them."""
        samples = load(path, self._front_end.rate_hz)
        with torch.no_grad():
            logits, _ = self._model(log_mel(torch.from_numpy(samples)[None], self._front_end))
            scores: NDArray[np.float32] = torch.sigmoid(logits)[0].numpy()
        return scores, np.argsort(scores)[::-1][:BEST]


def log_mel(samples: torch.Tensor, config: FrontEndConfig) -> torch.Tensor:
    """Log-mel (1, 1, n_mels, n_frames) of (1, n_samples), with all that it needs made on the way."""
    emphasis = torch.tensor([[[-config.preemphasis, 1.0]]])
    spectrum = torch.stft(
        F.conv1d(samples[:, None], emphasis)[:, 0],
        config.n_fft,
        hop_length=config.n_hop,
        win_length=config.n_window,
        window=torch.tensor(hann_window(config), dtype=torch.float32),
        return_complex=True,
    )
    power = torch.view_as_real(spectrum).square().sum(-1)
    # `mel_bank` remembers what it has computed; the published front end does not.
    bank = torch.tensor(mel_bank.__wrapped__(config), dtype=torch.float32)
    return (((bank @ power + config.log_offset).log() + config.shift) / config.scale)[:, None]


def load(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """A file as (n,) float32 at that rate, mono."""
    with soundfile.SoundFile(path) as sound:
        samples = sound.read(dtype="float32", always_2d=False).T
        file_rate_hz = sound.samplerate
    if samples.ndim > 1:
        samples = np.mean(samples, axis=0)
    if file_rate_hz != rate_hz:
        samples = soxr.resample(samples, file_rate_hz, rate_hz, quality="HQ")
    return np.ascontiguousarray(samples)
