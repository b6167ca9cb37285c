"""The recipe of end-to-end fine-tuning: every number that it depends on, besides data and model.

Section V of the paper: Adam without weight decay; 80 epochs (warm-up 10, ramp-down 65, 5 at 1 %); mixup of
waveforms and of log-mels, gain, roll, mel bands with perturbed edges; Dy-Conv temperature 1; a random head.

For data of one's own the schedule is squeezed into 20 epochs, and the head begins as a logistic regression:
with ten recordings a class, that was right more often than a random head on one of two tasks that were tried
(families of instruments, 0.82 against at most 0.75), and no different on the other.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from dymn_cli.errors import UsageError
from dymn_cli.train.recipe_file import check, dump, setting
from dymn_cli.train.schedule import FINE_TUNING, RateSchedule

__all__ = ["PUBLISHED", "FinetuneRecipe", "default_recipe", "recipe_toml"]

WINDOW_S = (1.0, 10.0)  # where a recipe has none: the longest recording within these


@dataclass(frozen=True, slots=True)
class FinetuneRecipe:
    """How a network is fine-tuned.

    Raises:
        UsageError: a value of a wrong type or out of range.
    """

    epochs: int = setting(
        "how often each recording is used; the schedule is stretched to it", 20, least=1, most=1_000_000
    )
    rate: float = setting("peak learning rate", 1e-4, above=0)
    batch: int = setting("recordings in a step", 8, least=2, most=65_536)
    fit_head: bool = setting("begin with a head that fits the embeddings, not with a random one", True)
    window_s: float = setting(
        "seconds of a recording, 0.5 to 60; 0: the longest, from 1 to 10", 0.0, least=0, most=60
    )
    gain_db: float = setting("each is made louder or softer by up to so much", 7.0, least=0)
    roll_s: float = setting("each is shifted in a circle by up to so much, either way", 0.125, least=0)
    mix_waves: float = setting("share of the recordings that another one is added to", 0.5, least=0, most=1)
    mixup: float = setting("alpha of the Beta distribution for mixed log-mels; 0: none", 0.3, least=0)
    perturb_bands: bool = setting("draw the edges of the mel bank anew for each step", True)
    spec_augment: bool = setting("blank a stripe of bands and one of frames", False)
    shards: int = setting("parts of a batch that are computed side by side on a CPU", 2, least=1)
    patience: int = setting(
        "stop after so many epochs without a lower loss on recordings held out for that; 0: never", 0, least=0
    )

    def __post_init__(self) -> None:
        check(self)
        if 0 < self.window_s < 0.5:
            raise UsageError(f"window_s {self.window_s:g} is not at least 0.5")

    @property
    def rates(self) -> RateSchedule:
        """Learning rate over the training."""
        return RateSchedule("fine-tuning", self.rate)

    def n_steps(self, n_examples: int) -> int:
        """Steps of a training on so many recordings."""
        return max(round(self.epochs * n_examples / self.batch), 1)

    def for_recordings(self, longest_s: float) -> FinetuneRecipe:
        """The recipe with a window: its own, or one for recordings of up to that many seconds."""
        shortest, longest = WINDOW_S
        return dataclasses.replace(
            self, window_s=self.window_s or round(min(max(longest_s, shortest), longest), 3)
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for fingerprints and logs."""
        return dataclasses.asdict(self)


PUBLISHED = {"esc50": (4e-5, 64), "fsd50k": (4e-5, 32), "openmic": (2e-5, 32), "tau": (3e-4, 32)}
"""Peak rate and batch of the published runs of DyMN-M, by data set."""


def default_recipe(dataset: str | None = None) -> FinetuneRecipe:
    """The recipe for a data set.

    Args:
        dataset: a published data set by name, or None for one's own.
    """
    if dataset is None or dataset not in PUBLISHED:
        return FinetuneRecipe()
    rate, batch = PUBLISHED[dataset]
    return FinetuneRecipe(epochs=round(FINE_TUNING.epochs), rate=rate, batch=batch, fit_head=False)


def recipe_toml(recipe: FinetuneRecipe) -> str:
    """A recipe as TOML, with every setting."""
    return dump(recipe, "A recipe: dymn finetune --recipe FILE.toml, with this text in FILE.toml.")
