"""The recipe of end-to-end fine-tuning: every number that it depends on, besides data and model.

Section V of the paper: Adam without weight decay; 80 epochs (warm-up 10, ramp-down 65, 5 at 1 %); mixup of
waveforms and of log-mels, gain, roll, mel bands with perturbed edges; Dy-Conv temperature 1; a random head.

For data of one's own the schedule is squeezed into 20 epochs, and the head begins as a logistic regression:
with ten recordings a class, that was right more often than a random head on one of two tasks that were tried
(families of instruments, 0.82 against at most 0.75), and no different on the other.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from dymn_cli.errors import UsageError
from dymn_cli.train.schedule import FINE_TUNING, RateSchedule
from dymn_cli.values import require_number, require_whole

__all__ = ["LONGEST_WINDOW_S", "PUBLISHED", "SHORTEST_WINDOW_S", "TuningRecipe", "usual_recipe"]

LONGEST_WINDOW_S, SHORTEST_WINDOW_S = 10.0, 1.0  # where nothing is said: the longest recording within these


@dataclass(frozen=True, slots=True)
class TuningRecipe:
    """How a network is fine-tuned.

    Args:
        epochs: how often each recording is heard; the schedule is stretched to it.
        rate: peak learning rate.
        batch: recordings in a step.
        fit_head: begin with a head that fits what the network hears already, not with a random one.
        window_s: seconds that are heard of a recording.
        gain_db: each is made louder or softer by up to so much.
        roll_s: and shifted by up to so much, either way, in a circle.
        mix_waves: share of the recordings that another one is added to; Beta(2, 2) has the parts.
        mixup: alpha of the Beta distribution that log-mels are mixed by; 0 for none.
        perturb_bands: draw the edges of the mel bank anew for each step.
        spec_augment: blank a stripe of bands and one of frames in each log-mel.
        lanes: parts of a batch that are computed side by side (`dymn_cli.train.parallel.lanes_for`).
        patience: end when so many epochs in a row have not lowered the loss on recordings that are held out
            for that alone; 0 to train all epochs.

    Raises:
        UsageError: a value that makes no sense.
    """

    epochs: int = 20
    rate: float = 1e-4
    batch: int = 8
    fit_head: bool = True
    window_s: float = LONGEST_WINDOW_S
    gain_db: float = 7.0
    roll_s: float = 0.125
    mix_waves: float = 0.5
    mixup: float = 0.3
    perturb_bands: bool = True
    spec_augment: bool = False
    lanes: int = 2
    patience: int = 0

    def __post_init__(self) -> None:
        def require(holds: bool, message: str) -> None:
            if not holds:
                raise UsageError(message)

        for name in ("epochs", "batch", "lanes", "patience"):
            require_whole(name, getattr(self, name))
        for name in ("rate", "window_s", "gain_db", "roll_s", "mix_waves", "mixup"):
            require_number(name, getattr(self, name))
        require(1 <= self.epochs <= 1_000_000, f"{self.epochs} epochs are no training: from 1 on")
        require(2 <= self.batch <= 65_536, f"a batch of {self.batch}: at least 2 recordings")
        require(math.isfinite(self.window_s), "a window must have some length")
        require(0.5 <= self.window_s <= 60, f"a window of {self.window_s:g} s is not between 0.5 and 60 s")
        for name, what in (("gain_db", "gain"), ("roll_s", "shift"), ("mixup", "mixup")):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, f"a {what} of {value:g} is not 0 or more")
        require(0 <= self.mix_waves <= 1, f"a share of {self.mix_waves:g} to be mixed is not between 0 and 1")
        require(self.lanes >= 1, f"{self.lanes} lanes: at least 1")
        require(self.patience >= 0, f"a patience of {self.patience} epochs: 0 trains all of them")
        RateSchedule("fine-tuning", self.rate)  # says so where the rate is none

    @property
    def rates(self) -> RateSchedule:
        """Learning rate over the training."""
        return RateSchedule("fine-tuning", self.rate)

    def n_steps(self, n_examples: int) -> int:
        """Steps of a training on so many recordings."""
        return max(round(self.epochs * n_examples / self.batch), 1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for fingerprints and logs."""
        return dataclasses.asdict(self)


PUBLISHED = {"esc50": (4e-5, 64), "fsd50k": (4e-5, 32), "openmic": (2e-5, 32), "tau": (3e-4, 32)}
"""Peak rate and batch of the published runs of DyMN-M, by data set."""


def usual_recipe(dataset: str | None = None) -> TuningRecipe:
    """What is done where nothing else is said.

    Args:
        dataset: a published data set by name, or None for one's own.
    """
    if dataset is None or dataset not in PUBLISHED:
        return TuningRecipe()
    rate, batch = PUBLISHED[dataset]
    return TuningRecipe(epochs=round(FINE_TUNING.epochs), rate=rate, batch=batch, fit_head=False)
