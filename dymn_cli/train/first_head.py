"""The head that a fine-tuning begins with: logistic regression on what the network hears before it is changed.

A random head, trained together with the network, first pulls the network's features about for reasons of its
own; with few recordings these do not come back (Kumar et al., ICLR 2022). A head that fits the features has no
reason to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from dymn_cli.train.answers import Embeddings
from dymn_cli.train.logistic import Scaling, fit_logistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.torch_logmel import TorchLogMel
    from dymn_cli.model.backbone import Backbone
    from dymn_cli.train.labelled import LabelledAudio

__all__ = ["PENALTY", "fit_head", "hidden_features"]

PENALTY = 0.1  # of the squared weights; see `logistic`
AT_ONCE = 8


def hidden_features(network: Backbone, front_end: TorchLogMel, audio: LabelledAudio) -> Embeddings:
    """What the last layer is given, (n_windows, head_channels), of all recordings.

    The network is left in evaluation mode.
    """
    network.eval()
    device = next(network.parameters()).device
    values: list[NDArray[np.float32]] = []
    counts, held = [], []

    def ask() -> None:
        with torch.inference_mode():
            mel = front_end(torch.from_numpy(np.stack(held)).to(device))
            embedding = network.forward_features(mel).mean(dim=(2, 3))
            values.append(network.classifier[:-2](embedding).float().cpu().numpy())
        held.clear()

    for example in range(len(audio.dataset.examples)):
        counts.append(0)
        for window in audio.windows(example):
            counts[-1] += 1
            held.append(window)
            if len(held) == AT_ONCE:
                ask()
    if held:
        ask()
    return Embeddings(np.concatenate(values), np.cumsum([0, *counts]).astype(np.intp))


def fit_head(network: Backbone, hidden: Embeddings, audio: LabelledAudio, learned: NDArray[np.intp]) -> None:
    """Give the last layer the weights that fit some recordings best.

    Args:
        network: whose last layer has the classes of the data.
        hidden: see `hidden_features`.
        audio: recordings and labels.
        learned: the examples to fit.
    """
    values, owner = hidden.rows(learned)
    share = 1.0 / np.bincount(owner)[owner]
    targets = audio.dataset.targets().astype(np.float64)[learned][owner]
    weights = audio.dataset.known().astype(np.float64)[learned][owner] * share[:, None]
    scaling = Scaling.of(values, share)
    linear = scaling.undone(fit_logistic(scaling.apply(values), targets, weights, penalty=PENALTY))
    last = cast(nn.Linear, network.classifier[-1])
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(linear.weight))
        last.bias.copy_(torch.from_numpy(linear.bias))
