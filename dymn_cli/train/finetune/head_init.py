"""The head that a fine-tuning begins with: logistic regression on what the network hears before it changes.

A random head that is trained together with the network first pulls its features about for reasons of its own,
and with few recordings they do not come back (Kumar et al., ICLR 2022). One that fits them has no reason to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from dymn_cli.train.finetune.logistic import Scaling, fit_logistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.evaluation.predictions import Embeddings
    from dymn_cli.model.backbone import Backbone
    from dymn_cli.train.finetune.data import LabelledAudio

__all__ = ["PENALTY", "fit_head"]

PENALTY = 0.1  # of the squared weights; see `logistic`


def fit_head(network: Backbone, hidden: Embeddings, audio: LabelledAudio, learned: NDArray[np.intp]) -> None:
    """Give the last layer the weights that fit some recordings best.

    Args:
        network: whose last layer has the classes of the data.
        hidden: what that layer is given, before the network is changed; see `windowed`.
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
