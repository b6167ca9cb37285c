"""Parameters and multiply-accumulates of a config, layer by layer. Needs no torch.

Counted as in Table II of the paper: for 10 s, which is 128 mel bands by 1,000 frames; convolutions,
linear layers, generated convolutions and the mixing of their kernels; no biases, no normalisation. A frame
head counts with all its steps, although it only runs where frames are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from dymn_cli.errors import UsageError
from dymn_cli.model.config import ModelConfig
from dymn_cli.model.layout import layers

__all__ = ["Complexity", "LayerComplexity", "complexity"]


@dataclass(frozen=True, slots=True)
class LayerComplexity:
    """What one layer costs; `name` is what the keys of its tensors start with."""

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class Complexity:
    """What a model costs: one row a layer, from the stem to the heads."""

    rows: tuple[LayerComplexity, ...]

    @property
    def parameters(self) -> int:
        """Trainable values of the whole model."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole model for one clip."""
        return sum(row.macs for row in self.rows)


def complexity(config: ModelConfig, *, n_mels: int = 128, n_frames: int = 1000) -> Complexity:
    """Count parameters and multiply-accumulates for one log-mel (n_mels, n_frames).

    Raises:
        UsageError: a log-mel without bands or frames.
    """
    if n_mels < 1 or n_frames < 1:
        raise UsageError(f"complexity needs at least one band and one frame, not {n_mels} × {n_frames}")
    rows = (
        LayerComplexity(layer.name, layer.parameters, layer.macs)
        for layer in layers(config, n_mels, n_frames)
    )
    return Complexity(tuple(rows))
