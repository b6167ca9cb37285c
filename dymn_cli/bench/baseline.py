"""The reference way to run the published models: one clip at a time, all in PyTorch.

It does what the example of the published models does, with the same libraries and our own modules:

    load      as `librosa.load(path, sr=32000)` does for files that libsndfile reads: all samples at once as
              float32, the mean over the channels, one call of soxr at its HQ setting
    log-mel   pre-emphasis as a convolution, `torch.stft`, a product with a mel bank that is made anew for
              every clip, the logarithm
    model     the modules of `dymn_cli.model`, in eager mode, on as many threads as there are cores
    tags      the sigmoid of the logits, the five best

The comparison is fair: librosa's own checks and copies are left out, no gradients are kept, and nothing is
written. The mel bank is torchaudio's, as in the example. If torchaudio cannot be loaded (its wheels need the
build of PyTorch that they were made for), it is ours, which is the same within 2e-5 and as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

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
        f"--baseline needs PyTorch, which cannot be loaded: {exc}", hint="pip install 'dymn[torch]'"
    ) from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Baseline", "load", "log_mel", "own_bank"]

Bank: TypeAlias = Callable[[FrontEndConfig], torch.Tensor]

BEST = 5
WARP = {"vtln_low": 100.0, "vtln_high": -500.0, "vtln_warp_factor": 1.0}  # no warping of vocal tracts


class Baseline:
    """The published way to tag a clip.

    Args:
        model: name, or path of a .safetensors file.
        threads: of PyTorch.

    Raises:
        UsageError: a model without PyTorch weights.
        ModelError: the model cannot be loaded.
    """

    def __init__(self, model: str, *, threads: int) -> None:
        found = resolve(model)
        if isinstance(found, Path) and found.suffix == ".onnx":
            raise UsageError(
                f"{model}: --baseline runs the model in PyTorch, which cannot read ONNX files",
                hint="give a .safetensors file or the name of a model",
            )
        weights = read_weights(found)
        torch.set_num_threads(threads)
        self._model = restore(weights.tensors, weights.header.config)
        self._front_end = weights.header.front_end
        self.bank, self.note = _choose_bank()

    def __call__(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """The scores (n_classes,) of a clip, and its best classes."""
        samples = load(path, self._front_end.rate_hz)
        with torch.no_grad():
            mels = log_mel(torch.from_numpy(samples)[None], self._front_end, self.bank)
            logits, _ = self._model(mels)
            scores: NDArray[np.float32] = torch.sigmoid(logits)[0].numpy()
        return scores, np.argsort(scores)[::-1][:BEST]


def _choose_bank() -> tuple[Bank, str]:
    """The function that makes the mel bank, and a note on it."""
    try:
        from torchaudio.compliance.kaldi import get_mel_banks
    except (ImportError, OSError, RuntimeError) as exc:
        missing = isinstance(exc, ModuleNotFoundError)
        reason = "is not installed" if missing else "does not load beside this PyTorch"
        return own_bank, f"with dymn's own mel bank, as torchaudio {reason}"

    def kaldi_bank(config: FrontEndConfig) -> torch.Tensor:
        low, high = config.fmin_hz, config.fmax_hz
        bank, _ = get_mel_banks(config.n_mels, config.n_fft, config.rate_hz, low, high, **WARP)
        return F.pad(bank, (0, 1))  # torchaudio omits the last bin, whose weights are zero

    return kaldi_bank, "with torchaudio's mel bank"


def own_bank(config: FrontEndConfig) -> torch.Tensor:
    """The mel bank (n_mels, n_bins), made anew, as the published front end does; `mel_bank` remembers it."""
    return torch.tensor(mel_bank.__wrapped__(config), dtype=torch.float32)


def log_mel(samples: torch.Tensor, config: FrontEndConfig, bank: Bank = own_bank) -> torch.Tensor:
    """Log-mel (1, 1, n_mels, n_frames) of (1, n_samples), with all tables made anew."""
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
    mel = (bank(config) @ power + config.log_offset).clamp(min=config.log_floor)
    return ((mel.log() + config.shift) / config.scale)[:, None]


def load(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """Read a file as (n,) float32 samples, mono at that rate."""
    with soundfile.SoundFile(path) as sound:
        samples = sound.read(dtype="float32", always_2d=False).T
        file_rate_hz = sound.samplerate
    if samples.ndim > 1:
        samples = np.mean(samples, axis=0)
    if file_rate_hz != rate_hz:
        samples = soxr.resample(samples, file_rate_hz, rate_hz, quality="HQ")
    return np.ascontiguousarray(samples)
