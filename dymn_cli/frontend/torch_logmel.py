"""The same log-mel in PyTorch, for training and for computing it where the network runs."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dymn_cli.errors import EmptyAudioError, UsageError
from dymn_cli.frontend.halving import pair_taps
from dymn_cli.frontend.melbank import FrontEndConfig, hann_window, mel_bank

__all__ = ["TorchLogMel", "halved"]


class TorchLogMel(nn.Module):
    """`LogMel` as a module; holds no parameters and adds nothing to a state dict.

    It computes in float32 whatever the surrounding autocast says: the power of a spectrum spans more
    than float16 can hold.

    Args:
        config: the numbers of the front end, where a model has others than the published ones.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, config: FrontEndConfig | None = None) -> None:
        super().__init__()
        self.config = config or FrontEndConfig()
        window = torch.from_numpy(hann_window(self.config)).float()
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bank", _filters(self.config), persistent=False)

    def forward(
        self, samples: Tensor, *, fmin_hz: float | None = None, fmax_hz: float | None = None
    ) -> Tensor:
        """Compute the log-mel of a batch of windows.

        Args:
            samples: (n_windows, n_samples) in [-1, 1], mono at 32 kHz.
            fmin_hz: lower edge of the mel bank for this call; training draws it anew for each batch.
            fmax_hz: upper edge for this call, likewise.

        Returns:
            (n_windows, 1, n_mels, n_frames) float32 on the device of the samples.

        Raises:
            EmptyAudioError: fewer samples than the reflection at the ends needs (`config.min_samples`).
            UsageError: not two dimensions, or band limits that describe no front end.
        """
        config = self.config
        if samples.ndim != 2:
            raise UsageError(f"log-mel: {samples.ndim} dimensions; a batch of windows has two")
        if samples.shape[1] < config.min_samples:
            raise EmptyAudioError(
                f"log-mel: {samples.shape[1]} samples are too few, {config.min_samples} are needed"
            )
        bank = self.bank if fmin_hz is None and fmax_hz is None else self._bank(fmin_hz, fmax_hz)
        bank, window = bank.float(), self.window.float()  # module.half() and .double() change buffers
        with torch.autocast(device_type=samples.device.type, enabled=False):
            x = halved(samples.float()) if config.halves else samples.float()
            y = x[:, 1:] - config.preemphasis * x[:, :-1]
            before = config.n_fft // 2 - (config.n_fft - config.n_window) // 2
            y = F.pad(y, (before, config.n_window - before), mode="reflect")
            frames = y.unfold(1, config.n_window, config.n_hop) * window
            spectrum = torch.view_as_real(torch.fft.rfft(frames, n=config.n_fft))
            power = spectrum.square().sum(-1)
            mel = (power @ bank).transpose(1, 2).unsqueeze(1)
            mel = mel + config.log_offset
            if config.log_floor:
                mel = mel.clamp(min=config.log_floor)
            return (torch.log(mel) + config.shift) / config.scale

    def _bank(self, fmin_hz: float | None, fmax_hz: float | None) -> Tensor:
        limits = dataclasses.replace(
            self.config,
            fmin_hz=self.config.fmin_hz if fmin_hz is None else fmin_hz,
            fmax_hz=self.config.fmax_hz if fmax_hz is None else fmax_hz,
        )
        return _filters(limits).to(self.bank.device)


def halved(x: Tensor) -> Tensor:
    """`dymn_cli.frontend.halving` of windows (n, n_samples), added up in the same order."""
    even, odd = x[:, 0::2], x[:, 1::2]
    taps = pair_taps().tolist()
    n, length = len(taps), even.shape[1]
    padded = F.pad(odd, (n, n + length - odd.shape[1]))
    y = 0.5 * even
    for k, tap in enumerate(taps):
        y = y + tap * (padded.narrow(1, n - k - 1, length) + padded.narrow(1, n + k, length))
    return y


def _filters(config: FrontEndConfig) -> Tensor:
    """The mel bank as (n_bins, n_mels) float32."""
    return torch.tensor(mel_bank(config), dtype=torch.float32).T.contiguous()
