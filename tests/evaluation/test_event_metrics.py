"""The measures of events, held against sed_scores_eval.

Its values are in `GOLDEN`, and it is asked anew where it is installed: `pip install sed-scores-eval-np2
"setuptools<81" "pandas<3"`, which brings sixty packages.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from dymn_cli.evaluation.event_metrics import (
    PSDS1,
    PSDS2,
    Collar,
    Counts,
    event_counts,
    intersection_counts,
    ladder_of_events,
    ladder_of_scores,
    psds,
    rocs_of,
)

STEP_S, N_STEPS = 0.32, 60
CLASSES = "abc"
EDGES_S = np.arange(N_STEPS + 1) * STEP_S

# Version 0.0.4, for `synthetic(seed)`: PSDS1, PSDS2, and by class the areas of both, and at 0.5 the
# intersection-based F1 (0.5, 0.5), the event-based one, and that with collars of 0.5 s.
GOLDEN: dict[int, dict[str, Any]] = {
    0: {
        "psds1": 0.06009726036561567,
        "psds2": 0.7317540486252117,
        "areas1": (0.0, 0.2946428571428571, 0.4821428571428571),
        "areas2": (0.6666666666666665, 1.0, 1.0),
        "intersection": (0.625, 0.56, 0.5384615384615384),
        "event": (0.3529411764705882, 0.29629629629629634, 0.13793103448275862),
        "event_wide": (0.4705882352941177, 0.29629629629629634, 0.27586206896551724),
    },
    1: {
        "psds1": 0.014801384968605544,
        "psds2": 0.8991052491492176,
        "areas1": (0.0, 0.10227272727272727, 0.5416666666666667),
        "areas2": (0.9167897076633891, 0.9090909090909091, 1.0),
        "intersection": (0.8148148148148148, 0.5882352941176471, 0.8333333333333333),
        "event": (0.7142857142857143, 0.2, 0.4),
        "event_wide": (0.7142857142857143, 0.25000000000000006, 0.4),
    },
    2: {
        "psds1": 0.06217005848654889,
        "psds2": 0.5790023400915676,
        "areas1": (0.4375, 0.03125000000000007, 0.2443181818181818),
        "areas2": (1.0, 0.5, 0.9147727272727272),
        "intersection": (0.625, 0.10526315789473684, 0.7142857142857143),
        "event": (0.2631578947368421, 0.10526315789473684, 0.2352941176470588),
        "event_wide": (0.3157894736842105, 0.10526315789473684, 0.2352941176470588),
    },
}

Truth = list[tuple[float, float, str]]


def synthetic(seed: int) -> list[tuple[np.ndarray, Truth]]:
    """Six recordings of three classes: noisy scores with ties, which the classes trigger for each other."""
    rng = np.random.default_rng(seed)
    recordings = []
    for _ in range(6):
        truth: Truth = []
        for name in CLASSES:
            time_s = rng.uniform(0, 3)
            for _ in range(int(rng.integers(0, 4))):
                start_s = time_s + rng.uniform(0, 3)
                end_s = start_s + rng.uniform(0.2, 4)
                if end_s > N_STEPS * STEP_S:
                    break
                truth.append((round(start_s, 3), round(end_s, 3), name))
                time_s = end_s
        middle = (np.arange(N_STEPS) + 0.5) * STEP_S
        scores = np.zeros((N_STEPS, len(CLASSES)))
        for n, name in enumerate(CLASSES):
            active = np.zeros(N_STEPS)
            for start_s, end_s, own in truth:
                inside = (middle > start_s) & (middle < end_s)
                active = np.maximum(active, inside * (0.8 if own == name else 0.25))
            scores[:, n] = np.round(np.clip(active + rng.normal(0, 0.22, N_STEPS), 0, 1), 2)
        recordings.append((scores, truth))
    return recordings


def of_class(truth: Truth, n: int) -> list[tuple[float, float]]:
    return [(start_s, end_s) for start_s, end_s, name in truth if name == CLASSES[n]]


def reported(scores: np.ndarray, threshold: float) -> list[tuple[float, float]]:
    change = np.diff(np.concatenate([[0], scores > threshold, [0]]).astype(int))
    ends = zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True)
    return [(float(EDGES_S[start]), float(EDGES_S[end])) for start, end in ends]


def figures(recordings: list[tuple[np.ndarray, Truth]]) -> dict[str, Any]:
    numbers = range(len(CLASSES))
    laddered = [
        (
            {n: of_class(truth, n) for n in numbers},
            {n: list(ladder_of_scores(scores[:, n], EDGES_S)) for n in numbers},
        )
        for scores, truth in recordings
    ]
    found: dict[str, Any] = {}
    for name, settings in (("1", PSDS1), ("2", PSDS2)):
        rocs = rocs_of(laddered, list(numbers), len(recordings) * N_STEPS * STEP_S, settings)
        found[f"psds{name}"] = psds(rocs, settings)
        found[f"areas{name}"] = tuple(rocs[n].area(100) for n in numbers)
    measures = {
        "intersection": intersection_counts,
        "event": event_counts,
        "event_wide": lambda true, given: event_counts(true, given, Collar(0.5, 0.5, 0.2)),
    }
    for name, measure in measures.items():
        found[name] = tuple(
            sum(
                (measure(of_class(truth, n), reported(scores[:, n], 0.5)) for scores, truth in recordings),
                Counts(),
            ).f1
            for n in numbers
        )
    return found


@pytest.mark.parametrize("seed", GOLDEN)
def test_the_figures_of_sed_scores_eval(seed: int) -> None:
    found = figures(synthetic(seed))
    assert found.keys() == GOLDEN[seed].keys()
    for name, value in GOLDEN[seed].items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", [3, 4])
def test_sed_scores_eval_itself_where_it_is_installed(seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of its sixty packages are not about us
        intersection_based = pytest.importorskip("sed_scores_eval.intersection_based", exc_type=ImportError)
        import pandas as pd

        recordings = synthetic(seed)
        names = [f"r{n}" for n in range(len(recordings))]
        table = {
            name: pd.DataFrame(
                np.column_stack([EDGES_S[:-1], EDGES_S[1:], scores]), columns=["onset", "offset", *CLASSES]
            )
            for name, (scores, _) in zip(names, recordings, strict=True)
        }
        truth = {name: sorted(truth) for name, (_, truth) in zip(names, recordings, strict=True)}
        lengths = dict.fromkeys(names, N_STEPS * STEP_S)
        strict, *_ = intersection_based.psds(
            table, truth, lengths, dtc_threshold=0.7, gtc_threshold=0.7, alpha_st=1, max_efpr=100
        )
        loose, *_ = intersection_based.psds(
            table, truth, lengths, dtc_threshold=0.1, gtc_threshold=0.1, cttc_threshold=0.3, alpha_ct=0.5,
            alpha_st=1, max_efpr=100,
        )  # fmt: skip
    found = figures(recordings)
    assert (found["psds1"], found["psds2"]) == pytest.approx((strict, loose), abs=1e-12)


# ---------------------------------------------------------------------- by hand


def test_an_end_right_on_the_collar_counts() -> None:
    assert event_counts([(1.0, 2.0)], [(1.2, 2.2)]) == Counts(1, 1, 0)
    assert event_counts([(1.0, 2.0)], [(1.201, 2.0)]) == Counts(1, 0, 1)
    assert event_counts([(1.0, 11.0)], [(1.0, 13.0)]) == Counts(1, 1, 0)  # a fifth of ten seconds
    assert event_counts([(1.0, 11.0)], [(1.0, 13.01)]) == Counts(1, 0, 1)


def test_as_many_events_are_matched_as_can_be() -> None:
    """The first reported one may be either true one, the second only the earlier: both are found."""
    true = [(1.0, 5.0), (1.3, 5.0)]
    assert event_counts(true, [(1.15, 5.0), (0.85, 5.0)]) == Counts(2, 2, 0)
    assert event_counts([(1.0, 2.0)], [(1.0, 2.0), (1.1, 2.0)]) == Counts(1, 1, 1)


def test_thousands_of_equal_events_take_no_deep_recursion() -> None:
    many = [(1.0, 2.0)] * 1500
    assert event_counts(many, many) == Counts(1500, 1500, 0)


def test_pieces_cover_a_true_event_together() -> None:
    true = [(0.0, 10.0)]
    assert intersection_counts(true, [(0.0, 3.0), (6.0, 9.0)]) == Counts(1, 1, 0)
    assert intersection_counts(true, [(0.0, 3.0), (6.0, 7.0)]) == Counts(1, 0, 0)
    assert intersection_counts(true, [(8.0, 14.0)]) == Counts(1, 0, 1)


def test_nothing_is_no_number() -> None:
    nothing = event_counts([], [])
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)
    assert math.isnan(nothing.f1)
    assert event_counts([], [(0.0, 1.0)]) == Counts(0, 0, 1)


def test_a_ladder_says_how_stretches_appear_grow_and_meet() -> None:
    rungs = list(ladder_of_scores(np.array([0.4, 1.0, 0.6, 1.0, 1.0, 0.4]), np.arange(7.0)))
    second = 1_000_000
    assert [rung.score for rung in rungs] == [1.0, 0.6, 0.4]
    assert rungs[0].come == ((1 * second, 2 * second), (3 * second, 5 * second))
    assert (rungs[1].gone, rungs[1].come) == (rungs[0].come, ((1 * second, 5 * second),))
    assert (rungs[2].gone, rungs[2].come) == (rungs[1].come, ((0, 6 * second),))


def test_finished_events_are_chosen_among() -> None:
    true = {0: [(0.0, 1.0), (5.0, 6.0)]}
    spans = [(0.0, 1.0), (5.0, 6.0), (8.0, 9.0)]
    rungs = list(ladder_of_events(spans, [0.9, 0.5, 0.5]))
    assert [(rung.score, len(rung.come)) for rung in rungs] == [(0.9, 1), (0.5, 2)]
    roc = rocs_of([(true, {0: rungs})], [0], 72.0, PSDS1)[0]
    # 50 false alarms an hour for the second; half is found without any.
    assert roc.fpr.tolist() == [0.0, 50.0]
    assert roc.tpr.tolist() == [0.5, 1.0]
    assert psds({0: roc}, PSDS1) == pytest.approx(0.75)


def test_a_class_without_a_single_report_counts_as_nothing_found() -> None:
    true = {0: [(0.0, 1.0)], 1: [(2.0, 3.0)]}
    rungs = list(ladder_of_events([(0.0, 1.0)], [0.9]))
    rocs = rocs_of([(true, {0: rungs})], [0, 1], 3600.0, PSDS1)
    assert [rocs[n].area(100) for n in (0, 1)] == [1.0, 0.0]
    assert psds(rocs, PSDS1) == 0.0  # the mean less the spread
