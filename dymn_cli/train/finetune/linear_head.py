"""A new last layer for a trained network: logistic regression on its embeddings.

Recordings that are longer than a window have several embeddings, each with the labels of the recording and a
share of its weight. A recording's score is the highest of its windows' scores, as `dymn tag` has it. Classes
are told apart one against the rest, because a score of dymn is a sigmoid and says how sure it is of one class
whatever the others do; on five tasks made of game sounds, instruments and speakers that was right as often as
a softmax over all classes.

The layer needs no new kind of network. Between an embedding e and the logits stand a linear layer, a hard
swish and another linear layer. Embeddings are means of hard swishes and so not below −3/8, and hard swish
leaves alone what is 3 or more: with the identity and a bias of 4 in the first layer, the second one gets
e + 4 and takes 4 off again. On the same tasks the embedding was a little better to learn from than what the
published first layer makes of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.datasets.folds import groups_of, make_folds
from dymn_cli.errors import ModelError, UsageError
from dymn_cli.labels import Vocabulary
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import Weights
from dymn_cli.tagging.aggregate import sigmoid
from dymn_cli.train.finetune.logistic import Linear, Scaling, fit_logistic
from dymn_cli.train.finetune.result import Trained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.dataset import Dataset
    from dymn_cli.datasets.folds import Plan
    from dymn_cli.evaluation.predictions import Embeddings

__all__ = ["PENALTIES", "train_head", "with_head"]

PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""What the squared weights may cost, the most careful first; see `logistic`."""
SHIFT = 4.0  # at least 3 + 3/8, and exact in half precision, too
INNER_FOLDS = 5
PATIENCE = 2  # penalties in a row that are worse than the best: smaller ones are worse still
CERTAIN = 1e-6  # scores are held off 0 and 1 by this much where their logarithm is taken

Step = Callable[[int, int], None]
Losses = dict[float, float]  # by penalty


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """Embeddings and labels."""

    embeddings: Embeddings
    targets: NDArray[np.float64]
    known: NDArray[np.float64]

    def windows(
        self, examples: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """Embeddings of the windows of some examples, their targets and weights."""
        values, owner = self.embeddings.rows(examples)
        share = 1.0 / np.bincount(owner)[owner]
        return values, self.targets[examples][owner], self.known[examples][owner] * share[:, None]

    def path(self, examples: NDArray[np.intp], penalties: Sequence[float]) -> Iterator[Linear]:
        """The fits for penalties one after the other, each begun at the one before."""
        values, targets, weights = self.windows(examples)
        scaling = Scaling.of(values, weights.max(axis=1))
        scaled, found = scaling.apply(values), None
        for penalty in penalties:
            found = fit_logistic(scaled, targets, weights, penalty=penalty, start=found)
            yield scaling.undone(found)

    def scores(self, linear: Linear, examples: NDArray[np.intp]) -> NDArray[np.float32]:
        """(n, n_classes) of examples: the highest of their windows."""
        values, owner = self.embeddings.rows(examples)
        begins = np.flatnonzero(np.diff(owner, prepend=-1))
        return sigmoid(np.maximum.reduceat(linear.logits(values), begins).astype(np.float32))

    def loss(self, scores: NDArray[np.float32], examples: NDArray[np.intp]) -> float:
        """Binary cross-entropy of the scores of examples, mean over what is known."""
        p = np.clip(scores.astype(np.float64), CERTAIN, 1 - CERTAIN)
        y, known = self.targets[examples], self.known[examples]
        return float(-np.sum(known * (y * np.log(p) + (1 - y) * np.log(1 - p))) / max(known.sum(), 1))


def train_head(
    dataset: Dataset,
    embeddings: Embeddings,
    weights: Weights,
    plan: Plan,
    *,
    name: str,
    penalty: float | None = None,
    seed: int = 0,
    step: Step | None = None,
) -> Trained:
    """Train a linear head, and score each held-out recording with a head that has not seen it.

    The penalty is the one with the least cross-entropy on recordings held out for that alone: for a fold by
    the other folds, so that no figure of a recording depends on its own labels.

    Args:
        dataset: recordings with labels.
        embeddings: of the same recordings.
        weights: of the network that they are from.
        plan: what is held out when.
        name: of the new model.
        penalty: of squared weights; None to choose one of `PENALTIES`.
        seed: of what is drawn where settings are chosen in a part of the data.
        step: called with the number of fits that are done, and of all.

    Raises:
        UsageError: a penalty that is none.
        ModelError: the network has no head of the usual form.
    """
    if penalty is not None and not penalty > 0:
        raise UsageError(f"a penalty of {penalty:g} is not more than 0")
    data = _Data(embeddings, dataset.targets().astype(np.float64), dataset.known().astype(np.float64))
    chooser = _Chooser(data, plan, dataset, seed, step or (lambda done, of: None), penalty)
    held_out = np.full(data.targets.shape, np.nan, np.float32)
    chosen: list[float] = []
    for fold in range(plan.n_folds):
        best = chooser.best_for(fold)
        chosen.append(best)
        examples = plan.held_out(fold)
        held_out[examples] = data.scores(chooser.fit(plan.learned(fold), best), examples)
    best = chooser.best_for(None)
    linear = chooser.fit(plan.final, best)
    header, tensors = with_head(weights, linear, dataset.classes, name)
    log = {
        "recipe": "linear head",
        "base": {"name": weights.header.name, "sha256": weights.sha256},
        "penalty": best,
        "penalty_by_fold": chosen,
        "losses": [{"penalty": one, "loss": loss} for one, loss in chooser.losses()],
        "n_windows": len(embeddings.values),
    }
    return Trained(header, tensors, dataset, plan, held_out, log)


class _Chooser:
    """Chooses a penalty by the losses on parts that are held out for that alone.

    With three folds or more, these are the folds: what is held out of the figures and what is held out to
    choose are two of them, so each pair of folds is held out once, and used both ways. With fewer, folds are
    made of the training recordings, or the data have a validation split.
    """

    def __init__(
        self, data: _Data, plan: Plan, dataset: Dataset, seed: int, step: Step, penalty: float | None
    ) -> None:
        self._data = data
        self._plan = plan
        self._dataset = dataset
        self._seed = seed
        self._step = step
        self._penalty = penalty
        self._losses: dict[tuple[int, int], Losses] = {}
        k = plan.n_folds
        inner = 1 if plan.validation.any() else INNER_FOLDS
        choices = k * (k - 1) // 2 if k > 2 else inner if k == 1 else 3 * inner
        self._n_fits = (0 if penalty is not None else choices) + k + 1
        self._n_done = 0

    def best_for(self, fold: int | None) -> float:
        """The best penalty while a fold is held out; None for the final model."""
        if self._penalty is not None:
            return self._penalty
        n = self._plan.n_folds
        if n > 2:
            outer = range(n) if fold is None else [fold]
            runs = [self._by_pair(a, b) for a in outer for b in range(n) if a != b]
        else:
            runs = self._by_inner_folds(n if fold is None and n > 1 else fold or 0)
        return min(_mean(runs).items(), key=lambda item: item[1])[0]

    def losses(self) -> list[tuple[float, float]]:
        """Penalties and their mean loss over all parts that were held out to choose by."""
        return list(_mean(list(self._losses.values())).items()) if self._losses else []

    def fit(self, examples: NDArray[np.intp], penalty: float) -> Linear:
        """The fit for one penalty."""
        *_, last = self._data.path(examples, [*(one for one in PENALTIES if one > penalty), penalty])
        self._count()
        return last

    def _by_pair(self, outer: int, inner: int) -> Losses:
        """Losses on a fold while another one is held out, too."""
        if (outer, inner) not in self._losses:
            part = self._plan.part
            held = [self._plan.held_out(inner), self._plan.held_out(outer)]
            one, other = self._run(np.flatnonzero((part != outer) & (part != inner)), held)
            self._losses[outer, inner], self._losses[inner, outer] = one, other
        return self._losses[outer, inner]

    def _by_inner_folds(self, fold: int) -> list[Losses]:
        """Losses on parts of what is learned while a fold is held out, or of everything."""
        learned = self._plan.learned(fold)
        if self._plan.validation.any():
            parts = [np.flatnonzero(self._plan.validation)]
        else:
            groups = groups_of(self._dataset, learned)
            count = min(INNER_FOLDS, len(set(groups)))
            number = make_folds(self._dataset.targets()[learned], groups, count, self._seed)
            parts = [learned[number == n] for n in range(count)]
        for n, held in enumerate(parts):
            if (fold, n) not in self._losses:
                self._losses[fold, n] = self._run(np.setdiff1d(learned, held), [held])[0]
        return [self._losses[fold, n] for n in range(len(parts))]

    def _run(self, learned: NDArray[np.intp], held: Sequence[NDArray[np.intp]]) -> list[Losses]:
        """Losses on each of the parts that are held out, penalty by penalty, until they only grow.

        Each part decides for itself when that is: what is held out must not depend on one another.
        """
        losses: list[Losses] = [{} for _ in held]
        going = list(range(len(held)))
        for penalty, linear in zip(PENALTIES, self._data.path(learned, PENALTIES), strict=True):
            for n in going:
                losses[n][penalty] = self._data.loss(self._data.scores(linear, held[n]), held[n])
            going = [n for n in going if not _only_grows(losses[n])]
            if not going:
                break
        self._count()
        return losses

    def _count(self) -> None:
        self._n_done += 1
        self._step(self._n_done, self._n_fits)


def _only_grows(losses: Losses) -> bool:
    """Whether the last `PATIENCE` penalties were all worse than the best one."""
    values = list(losses.values())
    return len(values) - 1 - int(np.argmin(values)) >= PATIENCE


def _mean(runs: Sequence[Losses]) -> Losses:
    """Mean loss of each penalty that every run has tried."""
    tried = [one for one in PENALTIES if all(one in run for run in runs)]
    return {one: float(np.mean([run[one] for run in runs])) for one in tried}


def with_head(
    weights: Weights, linear: Linear, classes: Sequence[str], name: str
) -> tuple[ModelHeader, dict[str, NDArray[np.float32]]]:
    """The network with a linear head on its embedding in place of its own.

    Raises:
        ModelError: the network has no head of the usual form, or one that is too narrow.
    """
    config = weights.header.config
    first, second = "classifier.2", "classifier.5"
    n_embedding, n_hidden = config.embedding_size, config.head_channels
    if n_hidden < n_embedding or f"{first}.weight" not in weights.tensors:
        raise ModelError(f"{weights.header.name}: its head has no room for a linear one")
    hidden = np.zeros((n_hidden, n_embedding), np.float32)
    np.fill_diagonal(hidden, 1.0)
    outer = np.zeros((len(classes), n_hidden), np.float32)
    outer[:, :n_embedding] = linear.weight
    # Taken off what was rounded: the sums must meet again.
    shift = SHIFT * outer.astype(np.float64).sum(axis=1)
    kept = {key: values for key, values in weights.tensors.items() if not key.startswith("strong_head.")}
    tensors = kept | {
        f"{first}.weight": hidden,
        f"{first}.bias": np.full(n_hidden, SHIFT, np.float32),
        f"{second}.weight": outer,
        f"{second}.bias": (linear.bias - shift).astype(np.float32),
    }
    header = dataclasses.replace(
        weights.header,
        name=name,
        config=config.with_classes(len(classes)),
        vocabulary=Vocabulary.from_names(classes),
        purpose="tags",
    )
    return header, tensors
