"""A small world for tests of training: noises, and a teacher whose answers depend on what it hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.build import build
from dymn_cli.model.config import ModelConfig
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import save_weights

RATE_HZ = 32_000
CLASSES = tuple(f"class {n}" for n in range(12))
MN = ModelConfig(family="mn", width=0.1, n_classes=len(CLASSES))
DYMN = ModelConfig(family="dymn", width=0.1, n_classes=len(CLASSES))


def sound(seed: int, seconds: float) -> np.ndarray:
    """(n,) float32: a noise with a tone in it; both depend on the seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * rng.uniform(100, 8_000) * t) * rng.uniform(0, 0.4)
    noise = rng.normal(0, 10 ** rng.uniform(-4, -1), len(t))
    return (tone + noise).clip(-1, 1).astype(np.float32)


def write_recordings(folder: Path, *, groups: int = 4, each: int = 4, seconds: float = 1.2) -> Path:
    """WAV files in a folder for each group."""
    for group in range(groups):
        (folder / f"source{group}").mkdir(parents=True, exist_ok=True)
        for number in range(each):
            samples = sound(100 * group + number, seconds + 0.1 * number)
            soundfile.write(folder / f"source{group}" / f"take{number}.wav", samples, RATE_HZ, "PCM_16")
    return folder


def write_teacher(path: Path, config: ModelConfig = MN, seed: int = 1) -> Path:
    """A model whose scores differ from clip to clip: random, its last layer enlarged and its norms fitted."""
    network = build(config, generator=torch.Generator().manual_seed(seed))
    from dymn_cli.frontend.torch_logmel import TorchLogMel

    samples = torch.from_numpy(np.stack([sound(n, 1.0) for n in range(16)]))
    mels = TorchLogMel()(samples)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        network.train()(mels)
        network.eval()
        _, embedding = network(mels)
        hidden = network.classifier[:4](embedding)
        last = network.classifier[5]
        last.weight.normal_(0, 1, generator=torch.Generator().manual_seed(seed + 1))
        last.weight /= (hidden @ last.weight.T).std() / 2
        last.bias.copy_(-1.5 - (hidden @ last.weight.T).mean(dim=0))
    header = ModelHeader(path.stem, config, FrontEndConfig(), Vocabulary.from_names(CLASSES))
    tensors = {
        key: value.numpy() for key, value in network.state_dict().items() if not key.endswith("tracked")
    }
    save_weights(path, header, tensors)
    return path
