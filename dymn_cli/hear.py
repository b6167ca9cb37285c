"""DyMN and MN with the API of the HEAR benchmark (needs torch).

    model = load_model("mn10_as")                                   # "" is the model that dymn ships
    embedding = get_scene_embeddings(audio, model)                  # (n_sounds, D)
    embeddings, timestamps = get_timestamp_embeddings(audio, model)    # (n_sounds, n, D), (n_sounds, n) ms

The API of HEAR (https://hearbenchmark.com/hear-api.html):

* the module has these three functions; a model is loaded with or without a path;
* the model is a `torch.nn.Module` with `sample_rate`, `scene_embedding_size` and `timestamp_embedding_size`,
  and computes on the device that it was moved to;
* audio is a batch (n_sounds, n_samples) in [-1, 1] at that rate, mono, up to 20 minutes long; the sounds of a
  batch have the same length, and do not affect each other;
* a scene embedding is one float32 vector for each sound;
* timestamp embeddings are float32 vectors at regular intervals, ideally of at most 50 ms, and come with their
  timestamps: centres in milliseconds for each sound, from about 0 to the end of the audio, without drift.

This implementation:

* A scene embedding is that of `Tagger.embed` and `dymn embed`: the mean over windows of 10 s of the embedding
  before the classifier; the last window ends with the sound, and a shorter sound is repeated.
* A timestamp embedding is a frame of `dymn_cli.audio.frames`, as in `dymn embed --per frame`: 160 ms around
  every 50 ms, with the sound mirrored at its ends. (The network's own time axis has a step of 320 ms.)
* A sound of less than 50 ms is first repeated up to that.
* Memory is bounded: besides audio and result, one batch of windows is held, on a CPU 10 s of audio.

By default, only the embedding is used. The authors of MN had better results in HEAR, mostly on speech, with
means over feature maps beside or instead of it ("Low-Complexity Audio Embedding Extractors", arXiv
2303.01879); `load_model(..., features=LEVELS)` is their usual choice.

    python -m heareval.embeddings.runner dymn_cli.hear --model mn10_as --tasks-dir tasks/

For other settings, write a module that imports these functions and wraps `load_model`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dymn_cli.audio.frames import FRAME_HOP_S, FRAME_WINDOW_S, FramePlan, frames
from dymn_cli.audio.windows import MIN_SAMPLES, WindowPlan, windows
from dymn_cli.errors import BackendUnavailableError, EmptyAudioError, UsageError
from dymn_cli.frontend.melbank import RATE_HZ, FrontEndConfig
from dymn_cli.store.registry import DEFAULT_MODEL, resolve
from dymn_cli.store.weights import read_weights

try:
    import torch
    from torch import Tensor, nn

    from dymn_cli.frontend.torch_logmel import TorchLogMel
    from dymn_cli.model.backbone import Backbone
    from dymn_cli.model.build import restore
except ImportError as exc:
    raise BackendUnavailableError(
        f"PyTorch cannot be loaded: {exc}", hint="the HEAR API needs it: pip install 'dymn[torch]'"
    ) from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEVELS", "HearModel", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]

LEVELS = ("block5", "block11", "block13", "block15", "mel")
"""Features of several levels, as in `mn10_all_b_mel_avgs` of github.com/fschmid56/EfficientAT_HEAR."""

# Samples in a batch: 64 frames of 160 ms, or one window of 10 s, which is fastest on a CPU.
CPU_BATCH = 64 * 5120
GPU_BATCH = 16 * CPU_BATCH
BLOCK = 1 << 16


class HearModel(nn.Module):
    """A network with its front end, from samples to features.

    Args:
        network: a DyMN, MN or FMN.
        front_end: its front end.
        features: the parts of an embedding, in order: "embedding" (the network's own), "block1" to "block15"
            (mean over frequency and time of a block's output), "mel" (mean over time of the log-mel),
            "logits".
        window_s: seconds of audio for a timestamp embedding.
        hop_s: seconds between timestamp embeddings.

    Attributes:
        sample_rate: 32,000 Hz.
        scene_embedding_size: values of a scene embedding.
        timestamp_embedding_size: values of a timestamp embedding, the same number.

    Raises:
        UsageError: no features, an unknown one, or a value out of range.
    """

    def __init__(
        self,
        network: Backbone,
        front_end: FrontEndConfig,
        *,
        features: Sequence[str] = ("embedding",),
        window_s: float = FRAME_WINDOW_S,
        hop_s: float = FRAME_HOP_S,
    ) -> None:
        super().__init__()
        self.frames = FramePlan(window_s, hop_s)
        self.features = (features,) if isinstance(features, str) else tuple(features)
        sizes = _sizes(network, front_end)
        unknown = [name for name in self.features if name not in sizes]
        if unknown or not self.features:
            reason = f"no feature {unknown[0]!r}" if unknown else "an embedding needs a feature"
            raise UsageError(reason, hint=f"there are {', '.join(sizes)}")
        self.log_mel = TorchLogMel(front_end)
        self.network = network
        self.sample_rate = RATE_HZ
        self.scene_embedding_size = sum(sizes[name] for name in self.features)
        self.timestamp_embedding_size = self.scene_embedding_size

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return next(self.network.parameters()).device

    def forward(self, samples: Tensor) -> Tensor:
        """Map windows of samples (n, n_samples) to features (n, scene_embedding_size) float32."""
        mel = self.log_mel(samples)
        as_weights = mel.to(next(self.network.parameters()).dtype)  # those of `model.half()`, too
        if self.features == ("embedding",):
            embedding: Tensor = self.network(as_weights)[1]
            return embedding.float()
        maps = self.network.feature_maps(as_weights)
        logits, embedding = self.network.forward_head(maps[-1])
        found = {"mel": mel.mean(dim=(1, 3)), "logits": logits, "embedding": embedding}
        for name in self.features:
            if name.startswith("block"):
                found[name] = maps[int(name.removeprefix("block"))].mean(dim=(2, 3))
        return torch.cat([found[name].float() for name in self.features], dim=1)


def _sizes(network: Backbone, front_end: FrontEndConfig) -> dict[str, int]:
    """The number of values of each feature."""
    config = network.config
    blocks = {f"block{number}": block.out_channels for number, block in enumerate(config.blocks, start=1)}
    return {
        "embedding": config.embedding_size,
        **blocks,
        "mel": front_end.n_mels,
        "logits": config.n_classes,
    }


def load_model(
    model_file_path: str | os.PathLike[str] = "",
    *,
    features: Sequence[str] = ("embedding",),
    window_s: float = FRAME_WINDOW_S,
    hop_s: float = FRAME_HOP_S,
) -> HearModel:
    """Load a model on the CPU; `.to(device)` moves it.

    Args:
        model_file_path: a .safetensors or .pt file, or the name of a model; "" for the bundled one.
        features: see `HearModel`.
        window_s: see `HearModel`.
        hop_s: see `HearModel`.

    Raises:
        UsageError: no model of that name, no such feature, or a value out of range.
        ModelError: the model cannot be used.
    """
    if not isinstance(model_file_path, str | os.PathLike):
        raise UsageError(
            f"model must be a name or a path, not {model_file_path!r:.60}", hint='"" is the bundled one'
        )
    name = os.fspath(model_file_path) or DEFAULT_MODEL
    found = resolve(name)
    if isinstance(found, Path) and found.suffix == ".onnx":
        raise BackendUnavailableError(
            f"{found}: PyTorch cannot run an ONNX file",
            hint="HEAR needs the .safetensors or .pt file of the model",
        )
    weights = read_weights(found)
    network = restore(weights.tensors, weights.header.config)
    front_end = weights.header.front_end
    return HearModel(network, front_end, features=features, window_s=window_s, hop_s=hop_s).eval()


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Compute an embedding of each sound.

    Args:
        audio: (n_sounds, n_samples) in [-1, 1] at 32 kHz, on any device.
        model: of `load_model`.

    Returns:
        (n_sounds, model.scene_embedding_size) float32, on the audio's device, without a gradient.

    Raises:
        EmptyAudioError: sounds without samples.
        UsageError: not a batch of sounds in floats, NaN or infinity in it, or no model of `load_model`.
    """
    n_sounds, n_samples = _shape(audio, model)
    plan = WindowPlan()
    cuts = (window.samples for window in windows(_positions(n_samples), plan))
    # In float64, like `Aggregator`; not every device has it.
    sums = torch.zeros(n_sounds, model.scene_embedding_size, dtype=torch.float64)
    n_windows = 0
    for part in _embed(model, audio, cuts, plan.n_window):
        sums.index_add_(0, part.sounds, part.embeddings.cpu().double())
        n_windows = int(part.numbers[-1]) + 1
    return (sums / max(n_windows, 1)).float().to(audio.device)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Compute embeddings of each sound at regular intervals.

    Args:
        audio: (n_sounds, n_samples) in [-1, 1] at 32 kHz, on any device.
        model: of `load_model`.

    Returns:
        Embeddings (n_sounds, n_timestamps, model.timestamp_embedding_size) and their centres in milliseconds
        (n_sounds, n_timestamps): 0, hop, 2 hop, ... up to the end of the audio. Both are float32, on the
        audio's device, without a gradient.

    Raises:
        EmptyAudioError: sounds without samples.
        UsageError: not a batch of sounds in floats, NaN or infinity in it, or no model of `load_model`.
    """
    n_sounds, n_samples = _shape(audio, model)
    plan = model.frames
    n_frames = plan.n_frames(n_samples)  # fewer than are cut if a very short sound is repeated
    cuts = (frame.samples for frame in islice(frames(_positions(n_samples), plan), n_frames))
    shape = (n_sounds, n_frames, model.timestamp_embedding_size)
    embeddings = torch.empty(shape, device=audio.device)
    for part in _embed(model, audio, cuts, plan.n_window):
        embeddings[part.sounds, part.numbers] = part.embeddings.to(audio.device)
    # From whole samples, so that rounding errors do not add up.
    milliseconds = torch.arange(n_frames, dtype=torch.float64) * plan.n_hop * 1000 / model.sample_rate
    return embeddings, milliseconds.float().to(audio.device).repeat(n_sounds, 1)


def _shape(audio: Tensor, model: HearModel) -> tuple[int, int]:
    """Check a batch and its model, and return the batch's numbers of sounds and samples."""
    if not isinstance(model, HearModel):
        raise UsageError(f"model must come from load_model, not {type(model).__name__}")
    if not (isinstance(audio, Tensor) and audio.ndim == 2 and audio.is_floating_point()):
        given = type(audio).__name__
        if hasattr(audio, "shape"):
            given = f"{given} of {audio.dtype} with shape {tuple(audio.shape)}"
        raise UsageError(f"audio must be a tensor of floats (n_sounds, n_samples), not {given}")
    n_sounds, n_samples = audio.shape
    if not n_samples:
        raise EmptyAudioError("the sounds have no samples")
    if not torch.isfinite(audio).all():
        raise UsageError("audio must be finite, but holds NaN or infinity")
    return n_sounds, n_samples


def _positions(n_samples: int) -> Iterator[NDArray[Any]]:
    """Positions of samples, block by block: cut into windows, they index all sounds of the batch."""
    if n_samples < MIN_SAMPLES:
        yield np.resize(np.arange(n_samples), MIN_SAMPLES)
        return
    for start in range(0, n_samples, BLOCK):
        yield np.arange(start, min(start + BLOCK, n_samples))


class _Embedded(NamedTuple):
    """Embeddings of n windows: (n,) their sounds, (n,) their numbers in the sound, (n, D) embeddings."""

    sounds: Tensor
    numbers: Tensor
    embeddings: Tensor


def _embed(
    model: HearModel, audio: Tensor, cuts: Iterable[NDArray[Any]], n_window: int
) -> Iterator[_Embedded]:
    """Run the network on the same windows of all sounds, in order, in batches.

    Kernels may round differently for other batch sizes, so the last batch is padded with silence.
    """
    device = model.device
    size = max(1, (CPU_BATCH if device.type == "cpu" else GPU_BATCH) // n_window)
    pieces = ((sound, number, cut) for number, cut in enumerate(cuts) for sound in range(len(audio)))
    with torch.no_grad(), _evaluating(model):
        while batch := list(islice(pieces, size)):
            sounds = torch.tensor([sound for sound, _, _ in batch])
            where = torch.from_numpy(np.stack([cut for _, _, cut in batch])).to(audio.device)
            samples = torch.zeros(size, n_window, device=device)
            samples[: len(batch)] = audio[sounds.to(audio.device)[:, None], where].to(device).float()
            numbers = torch.tensor([number for _, number, _ in batch])
            yield _Embedded(sounds, numbers, model(samples)[: len(batch)])


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, whatever the caller's: in training, batch norm mixes the sounds of a batch."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
