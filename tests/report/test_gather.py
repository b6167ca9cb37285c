from __future__ import annotations

import random

import pytest

from dymn_cli.errors import UsageError
from dymn_cli.report.gather import Gathering, Sampling
from dymn_cli.report.model import Decision, Report, Span
from dymn_cli.results import Failure


def spans(*scores: float | None, label: str = "Dog") -> list[Span]:
    return [Span(float(n), n + 1.0, label, "/m/x", score) for n, score in enumerate(scores)]


def gathered(sampling: Sampling, **sources: list[Span]) -> Report:
    gathering = Gathering(sampling)
    for name, found in sources.items():
        gathering.add(name, found, duration_s=100.0)
    return gathering.finish()


def kept(report: Report) -> list[float | None]:
    return [span.score for source in report.sources for span in source.spans]


def test_everything_is_kept_where_it_fits() -> None:
    report = gathered(Sampling(), a=spans(0.2, None), b=[], c=spans(0.9))
    assert [source.name for source in report.sources] == ["a", "b", "c"]
    assert kept(report) == [0.2, None, 0.9]
    assert report.left_out == ""
    assert (report.overview.n_spans, report.overview.seconds) == (3, 300.0)


@pytest.mark.parametrize(
    ("order", "scores"),
    [("highest", [0.8, 0.9]), ("lowest", [0.1, 0.2]), ("threshold", [0.4, 0.6])],
)
def test_the_limit_keeps_what_was_asked_for(order, scores: list[float]) -> None:
    found = spans(0.1, 0.8, 0.4, 0.9, 0.6, 0.2)
    report = gathered(Sampling(limit=2, order=order), a=found[:3], b=found[3:])
    assert sorted(map(float, filter(None, kept(report)))) == scores
    assert report.overview.n_spans == 6, "the overview counts all"
    assert [source.n_found for source in report.sources] == [3, 3]
    assert report.left_out.startswith("The page holds 2 of 6 events")
    assert "4 are left out" in report.left_out


def test_a_random_sample_is_the_same_for_a_seed_and_whatever_the_order() -> None:
    found = spans(*[n / 1000 for n in range(1000)])
    one = gathered(Sampling(limit=50, order="random", seed=1), a=found)
    random.Random(0).shuffle(found)
    again = gathered(Sampling(limit=50, order="random", seed=1), a=found)
    other = gathered(Sampling(limit=50, order="random", seed=2), a=found)
    assert kept(one) == kept(again) != kept(other)
    assert 0.3 < sum(map(float, filter(None, kept(one)))) / 50 < 0.7


def test_a_balanced_sample_has_as_many_of_each_label_as_there_are() -> None:
    report = gathered(
        Sampling(limit=9, order="balanced"),
        a=spans(*[0.9] * 100, label="Speech"),
        b=spans(*[0.2] * 2, label="Owl"),
        c=spans(*[0.3] * 50, label="Dog"),
    )
    assert [len(source.spans) for source in report.sources] == [3, 2, 4]


def test_events_with_a_decision_are_kept_first_and_no_decision_is_lost() -> None:
    found = spans(0.1, 0.9, 0.8)
    mine = Decision(found[0].key("a"), "reject", "Dog")
    gone = Decision(("elsewhere", "mix", 0, 1, "Owl"), "keep", "Owl")
    gathering = Gathering(Sampling(limit=2), [mine, gone])
    gathering.add("a", found)
    report = gathering.finish()
    assert kept(report) == [0.1, 0.9]
    assert (report.decisions, report.carried) == ((mine,), (gone,))


def test_every_event_with_a_decision_is_kept_whatever_the_limit() -> None:
    found = spans(0.1, 0.9, 0.8)
    gathering = Gathering(Sampling(limit=1), [Decision(one.key("a"), "keep", "Dog") for one in found[:2]])
    gathering.add("a", found)
    report = gathering.finish()
    assert kept(report) == [0.1, 0.9]
    assert (len(report.decisions), report.carried) == (2, ())
    assert report.left_out.startswith("The page holds 2 of 3 events")


def test_memory_is_bounded_by_the_limit() -> None:
    gathering = Gathering(Sampling(limit=10))
    gathering.add("a", (Span(float(n), n + 1.0, "Dog", "", n % 97 / 97) for n in range(20_000)))
    assert sum(len(best.heap) for best in gathering._best.values()) == 10
    assert len(gathering.finish().sources[0].spans) == 10


def test_hours_and_days_where_names_say_them() -> None:
    gathering = Gathering(Sampling())
    gathering.add("20240522_235000.wav", [Span(0, 1, "Owl"), Span(700, 701, "Owl")])
    gathering.add("20240524_040000.wav", [Span(0, 1, "Owl"), Span(1, 2, "Dog")])
    hours, days = gathering.finish().overview.heat_maps
    assert len(hours.columns) == 24
    owls = dict(zip(hours.columns, dict(hours.rows)["Owl"], strict=True))
    assert {hour: n for hour, n in owls.items() if n} == {"23": 1, "00": 1, "04": 1}
    assert days.columns == ("05-22", "05-23", "05-24")
    assert dict(days.rows) == {"Owl": (1, 1, 1), "Dog": (0, 0, 1)}


def test_time_from_the_start_where_names_say_no_clock() -> None:
    gathering = Gathering(Sampling())
    gathering.add("a.wav", [Span(10, 11, "Owl"), Span(7199, 7201, "Owl")])
    (map_,) = gathering.finish().overview.heat_maps
    assert (len(map_.columns), map_.columns[:2], map_.columns[-1]) == (24, ("0:00", "0:05"), "1:55")
    assert sum(map_.rows[0][1]) == 2
    assert not gathered(Sampling(), a=spans(0.5)).overview.heat_maps, "a minute has no course"


def test_failures_are_told() -> None:
    gathering = Gathering(Sampling())
    failure = Failure("x.wav", "CorruptAudioError", "x.wav: broken", None, 3)
    gathering.fail(failure)
    report = gathering.finish()
    assert (report.sources, report.failures) == ((), (failure,))


@pytest.mark.parametrize(
    ("wrong", "said"), [({"limit": 0}, "limit"), ({"order": "best"}, "best"), ({"threshold": 2}, "score")]
)
def test_values_out_of_range(wrong, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Sampling(**wrong)
