"""Scores and features of recordings, window by window, cut as `dymn tag` cuts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dymn_cli.evaluation.predictions import Embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.torch_logmel import TorchLogMel
    from dymn_cli.model.backbone import Backbone
    from dymn_cli.train.finetune.data import LabelledAudio

__all__ = ["hidden_features", "scores_of"]

AT_ONCE = 8  # windows


def scores_of(
    network: Backbone,
    front_end: TorchLogMel,
    audio: LabelledAudio,
    examples: Sequence[int] | NDArray[np.intp],
) -> NDArray[np.float32]:
    """Scores (n, n_classes) of recordings: the highest of their windows.

    The network is left in evaluation mode.
    """
    predicted = _predict(
        network, lambda samples: torch.sigmoid(network(front_end(samples))[0]), audio, examples
    )
    return np.asarray(np.maximum.reduceat(predicted.values, predicted.start[:-1]))


def hidden_features(network: Backbone, front_end: TorchLogMel, audio: LabelledAudio) -> Embeddings:
    """Inputs of the last layer, (n_windows, head_channels), for all recordings.

    The network is left in evaluation mode.
    """

    def hidden(samples: Tensor) -> Tensor:
        embedding = network.forward_features(front_end(samples)).mean(dim=(2, 3))
        return network.classifier[:-2](embedding)  # type: ignore[no-any-return] # without dropout and last layer

    return _predict(network, hidden, audio, range(len(audio.dataset.examples)))


def _predict(
    network: Backbone,
    compute: Callable[[Tensor], Tensor],
    audio: LabelledAudio,
    examples: Sequence[int] | NDArray[np.intp],
) -> Embeddings:
    """What is computed from the windows of recordings, a few at a time."""
    network.eval()
    device = next(network.parameters()).device
    values: list[NDArray[np.float32]] = []
    counts: list[int] = []
    held: list[NDArray[np.float32]] = []

    def flush() -> None:
        with torch.inference_mode():
            computed = compute(torch.from_numpy(np.stack(held)).to(device))
        values.append(computed.float().cpu().numpy())
        held.clear()

    for example in examples:
        counts.append(0)
        for window in audio.windows(int(example)):
            counts[-1] += 1
            held.append(window)
            if len(held) == AT_ONCE:
                flush()
    if held:
        flush()
    return Embeddings(np.concatenate(values), np.cumsum([0, *counts]).astype(np.intp))
