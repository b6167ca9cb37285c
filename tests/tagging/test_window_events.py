from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.errors import UsageError
from dymn_cli.labels import Ontology, Vocabulary
from dymn_cli.results import Event, WindowScores
from dymn_cli.tagging.events import EventOptions, default_hop_s, events_of
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.selection import wanted_labels
from dymn_cli.tagging.tagger import Tagger
from dymn_cli.tagging.window_events import WindowDetector

RATE_HZ = 32_000
WORDS = Vocabulary.from_names(["bark", "meow", "moo"])

Heard = Callable[[float, float], Sequence[float]]


def windowed(**changes: Any) -> EventOptions:
    return EventOptions(method="windows", **changes)


def plan(window_s: float, hop_s: float | None = None) -> WindowPlan:
    return WindowPlan(window_s, hop_s)


def answers(cut: WindowPlan, duration_s: float, heard: Heard) -> list[WindowScores]:
    """What a model would say of a source: `heard` gives the scores of a window from its two ends."""
    silence = np.zeros(round(duration_s * RATE_HZ), np.float32)
    nothing = np.zeros(1, np.float32)
    return [
        WindowScores(w.start_s, w.end_s, nothing, np.array(heard(w.start_s, w.end_s), np.float32), nothing)
        for w in windows([silence], cut)
    ]


def detected(options: EventOptions, cut: WindowPlan, rows: list[WindowScores]) -> list[Event]:
    detector = WindowDetector(options, WORDS, cut, source="farm.wav")
    events = [event for row in rows for event in detector.add(row)]
    return events + detector.finish()


def spans(events: Sequence[Event], label: str = "bark") -> list[tuple[float, float]]:
    return [(round(e.start_s, 3), round(e.end_s, 3)) for e in events if e.label == label]


def any_overlap(*sounds: tuple[float, float], score: float = 0.9) -> Heard:
    """A model that hears a bark in every window that has some of it, however little."""
    return lambda start, end: [
        score if any(start < b and a < end for a, b in sounds) else 0.01, 0.0, 0.0
    ]  # fmt: skip


def scripted(*scores: float) -> Heard:
    """The score of each window of 1 s, by its number."""
    return lambda start, end: [scores[round(start)], 0.0, 0.0]


# ---------------------------------------------------------------------- where an event begins and ends


@pytest.mark.parametrize(("window_s", "hop_s"), [(10, 1), (10, 2.5), (5, 1), (2, 0.5), (0.5, 0.1)])
def test_a_model_that_hears_any_overlap_is_placed_to_the_hop(window_s: float, hop_s: float) -> None:
    sound = (31.3, 47.9)
    cut = plan(window_s, hop_s)
    found = detected(windowed(), cut, answers(cut, 90.0, any_overlap(sound)))
    assert len(found) == 1
    assert found[0].start_s == pytest.approx(sound[0], abs=hop_s)
    assert found[0].end_s == pytest.approx(sound[1], abs=hop_s)


def test_overlapping_windows_give_one_row_and_not_one_each() -> None:
    cut = plan(10, 1)
    found = detected(windowed(), cut, answers(cut, 60.0, any_overlap((20, 24))))
    assert spans(found) == [(20.0, 24.0)]
    # The windows that look at 20 to 24 s start at 11, 12, ... 23 s.
    assert found[0].n_windows == 13


def test_two_sounds_further_apart_than_a_window_are_two() -> None:
    cut = plan(5, 1)
    near = answers(cut, 60.0, any_overlap((10, 12), (16, 18)))
    far = answers(cut, 60.0, any_overlap((10, 12), (18, 20)))
    assert spans(detected(windowed(), cut, near)) == [(10.0, 18.0)]
    assert spans(detected(windowed(), cut, far)) == [(10.0, 12.0), (18.0, 20.0)]


def test_the_mean_decides_whether_and_the_lowest_from_when_to_when() -> None:
    """Windows 2 s long, 1 s apart: cells 1, 2, 3 ... are looked at by windows 0 and 1, 1 and 2, 2 and 3."""
    scores = [0.0, 0.2, 0.6, 0.2, 0.0, 0.2, 0.3, 0.2, 0.0]
    cut = plan(2, 1)
    rows = answers(cut, 10.0, lambda start, end: [scores[round(start)], 0, 0])
    found = detected(windowed(on=0.4, off=0.1), cut, rows)
    # Lowest of cells 2 and 3: 0.2, means 0.4; of the second hump the mean is 0.25 at best.
    assert spans(found) == [(2.0, 4.0)]
    assert found[0].score == pytest.approx(0.4)
    assert found[0].mean_score == pytest.approx(0.4)


def test_without_overlap_it_is_plain_hysteresis() -> None:
    cut = plan(1)
    rows = answers(cut, 8.0, scripted(0.1, 0.25, 0.8, 0.3, 0.21, 0.19, 0.3, 0.1))
    found = detected(windowed(on=0.5, off=0.2), cut, rows)
    assert spans(found) == [(1.0, 5.0)]
    assert found[0].score == pytest.approx(0.8)
    assert found[0].mean_score == pytest.approx((0.25 + 0.8 + 0.3 + 0.21) / 4)
    assert found[0].n_windows == 4
    assert (found[0].source, found[0].channel, found[0].index, found[0].mid) == ("farm.wav", "mix", 0, "")


def test_a_score_that_equals_a_threshold_reaches_it() -> None:
    cut = plan(1)
    rows = answers(cut, 4.0, scripted(0.0, 0.7, 0.35, 0.0))
    assert spans(detected(windowed(on=0.7, off=0.35), cut, rows)) == [(1.0, 3.0)]


def test_off_is_a_quarter_of_on_unless_it_is_given() -> None:
    cut = plan(1)
    rows = answers(cut, 5.0, scripted(0.09, 0.8, 0.21, 0.19, 0.0))
    assert spans(detected(windowed(on=0.8), cut, rows)) == [(1.0, 3.0)]


# ---------------------------------------------------------------------- the ends of a source


def test_an_event_may_last_from_the_beginning_to_the_end() -> None:
    cut = plan(10, 2)
    rows = answers(cut, 33.3, any_overlap((0, 40)))
    found = detected(windowed(), cut, rows)
    assert spans(found) == [(0.0, 33.3)]
    assert found[0].n_windows == len(rows)


def test_the_last_window_ends_with_the_source_and_counts_where_it_looks() -> None:
    """Windows 0–10, 10–20 and, because the source ends at 23 s, 13–23."""
    cut = plan(10)
    rows = answers(cut, 23.0, lambda start, end: [0.9 if end > 20.5 else 0.0, 0, 0])
    assert [(row.start_s, row.end_s) for row in rows][-1] == (13.0, 23.0)
    # It looks at the middle of the cell from 10 to 20 as well, where the other window hears nothing.
    assert spans(detected(windowed(), cut, rows)) == [(20.0, 23.0)]


def test_a_source_shorter_than_a_window_is_one_event_at_most() -> None:
    cut = plan(10, 2)
    found = detected(windowed(), cut, answers(cut, 3.2, any_overlap((0, 1))))
    assert spans(found) == [(0.0, 3.2)]
    assert found[0].n_windows == 1


def test_nothing_heard_is_no_event() -> None:
    cut = plan(5, 1)
    assert detected(windowed(), cut, answers(cut, 60.0, lambda start, end: [0.29, 0, 0])) == []
    assert WindowDetector(windowed(), WORDS, cut).finish() == []


# ---------------------------------------------------------------------- joining and dropping


def test_gaps_are_closed_before_short_events_are_dropped() -> None:
    cut = plan(1)
    rows = answers(cut, 12.0, scripted(0, 0.9, 0, 0.9, 0, 0, 0, 0.9, 0, 0, 0, 0))
    assert spans(detected(windowed(), cut, rows)) == [(1.0, 2.0), (3.0, 4.0), (7.0, 8.0)]
    joined = detected(windowed(max_gap_s=1), cut, rows)
    assert spans(joined) == [(1.0, 4.0), (7.0, 8.0)]
    assert joined[0].mean_score == pytest.approx(0.6), "the gap belongs to the event"
    assert joined[0].n_windows == 3
    assert spans(detected(windowed(max_gap_s=1, min_length_s=2), cut, rows)) == [(1.0, 4.0)]
    assert spans(detected(windowed(max_gap_s=3), cut, rows)) == [(1.0, 8.0)]


def test_what_never_reaches_on_joins_nothing() -> None:
    cut = plan(1)
    rows = answers(cut, 7.0, scripted(0.9, 0, 0.2, 0, 0.9, 0, 0))
    found = detected(windowed(on=0.5, off=0.1, max_gap_s=1), cut, rows)
    assert spans(found) == [(0.0, 1.0), (4.0, 5.0)]


def test_a_run_that_begins_within_the_gap_is_waited_for() -> None:
    """It reaches `on` only long after the gap would have been too wide."""
    cut = plan(1)
    rows = answers(cut, 9.0, scripted(0.9, 0, 0.2, 0.2, 0.2, 0.2, 0.9, 0, 0))
    found = detected(windowed(on=0.5, off=0.1, max_gap_s=1), cut, rows)
    assert spans(found) == [(0.0, 7.0)]


# ---------------------------------------------------------------------- labels


def test_labels_do_not_know_of_each_other() -> None:
    cut = plan(1)
    rows = answers(cut, 6.0, lambda start, end: [0.9 if start < 3 else 0, 0.8 if start >= 2 else 0, 0])
    found = detected(windowed(), cut, rows)
    assert (spans(found), spans(found, "meow")) == ([(0.0, 3.0)], [(2.0, 6.0)])


def test_a_label_with_a_threshold_of_its_own_keeps_the_share_of_off() -> None:
    cut = plan(1)
    scores = [0.0, 0.24, 0.11, 0.09, 0.0]
    rows = answers(cut, 5.0, lambda start, end: [scores[round(start)], scores[round(start)], 0])
    found = detected(windowed(on=0.5, off=0.25, thresholds=(("meow", 0.2),)), cut, rows)
    assert spans(found) == []
    assert spans(found, "meow") == [(1.0, 3.0)]


def test_only_the_labels_that_are_wanted() -> None:
    cut = plan(1)
    rows = answers(cut, 3.0, lambda start, end: [0.9, 0.9, 0.9])
    found = detected(windowed(labels=("moo", "bark")), cut, rows)
    assert [event.label for event in found] == ["bark", "moo"]
    assert [event.index for event in found] == [0, 2]


def names(*labels: str, descendants: bool = True) -> list[str]:
    options = windowed(labels=labels, descendants=descendants)
    return [label.name for label in wanted_labels(options, Vocabulary.audioset())]


def test_the_kinds_of_a_sound() -> None:
    assert names("Dog")[:3] == ["Dog", "Bark", "Yip"]
    assert "Cat" not in names("Dog")
    assert names("Dog", descendants=False) == ["Dog"]


def test_a_sound_of_the_ontology_that_is_no_label() -> None:
    human = names("Human sounds")
    assert {"Speech", "Laughter", "Walk, footsteps"} <= set(human)
    assert "Human sounds" not in human
    assert len(human) == len(Ontology.audioset().labels_under("Human sounds"))
    with pytest.raises(UsageError, match="no label") as caught:
        names("human sounds", descendants=False)
    assert caught.value.hint == f"--descendants takes its {len(human)} kinds"


@pytest.mark.parametrize("descendants", [True, False])
def test_an_unknown_sound_names_the_nearest(descendants: bool) -> None:
    with pytest.raises(UsageError, match="unknown label 'Dgo'") as caught:
        names("Dgo", descendants=descendants)
    assert "Dog" in str(caught.value.hint)


def test_a_vocabulary_of_ones_own_has_no_kinds() -> None:
    options = windowed(labels=("moo",), descendants=True)
    assert [label.name for label in wanted_labels(options, WORDS)] == ["moo"]
    with pytest.raises(UsageError, match="unknown label"):
        wanted_labels(dataclasses.replace(options, labels=("Cattle, bovinae",)), WORDS)


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"on": 1.1}, "1.1 is not between 0 and 1"),
        ({"on": float("nan")}, "not between 0 and 1"),
        ({"off": -0.1}, "-0.1 is not between"),
        ({"on": 0.2, "off": 0.3}, r"off \(0.3\) is above on \(0.2\)"),
        ({"thresholds": (("bark", 2.0),)}, "2 is not between"),
        ({"max_gap_s": -1.0}, "gap of -1 s"),
        ({"min_length_s": float("inf")}, "length of inf s"),
        ({"descendants": True}, "--descendants needs --label or --exclude"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        EventOptions(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("window_s", "hop_s"), [(5.0, 1.0), (10.0, 2.0), (0.5, 0.1), (0.53, 0.11)])
def test_the_default_hop_is_a_fifth_of_the_window(window_s: float, hop_s: float) -> None:
    assert default_hop_s(window_s) == hop_s
    WindowPlan(window_s, default_hop_s(window_s))


# ---------------------------------------------------------------------- streaming


def test_memory_does_not_grow_with_the_length() -> None:
    """Two hours at a hop of 1 s: what is held is the windows that look at one cell."""
    cut = plan(10, 1)
    detector = WindowDetector(windowed(), WORDS, cut)
    nothing = np.zeros(1, np.float32)
    n_events = 0
    for n in range(7_200):
        scores = np.full(3, 0.9 if n % 60 < 20 else 0.0, np.float32)
        n_events += len(detector.add(WindowScores(float(n), n + 10.0, nothing, scores, nothing)))
        assert len(detector._windows) <= 11
    assert n_events == 3 * 120


def test_an_event_comes_out_as_soon_as_it_is_sure() -> None:
    cut = plan(1)
    detector = WindowDetector(windowed(max_gap_s=2), WORDS, cut)
    rows = answers(cut, 8.0, scripted(0.9, 0, 0, 0, 0, 0, 0, 0))
    came = [spans(detector.add(row)) for row in rows]
    # The cell from 3 s on is the first whose end is more than 2 s after the event's; window 4 closes it.
    assert came[:5] == [[], [], [], [], [(0.0, 1.0)]]


def runs_by_hand(rows: list[WindowScores], hop: float, on: float, off: float) -> list[tuple[float, float]]:
    """The module's definition once more, on lists and without streaming; for windows on whole seconds."""
    duration = rows[-1].end_s
    found, start, peak = [], None, 0.0
    n_cells = int(np.ceil(duration / hop - 1e-9))
    for k in range(n_cells + 1):
        begin, end = k * hop, min((k + 1) * hop, duration)
        looking = [float(r.scores[0]) for r in rows if r.start_s <= (begin + end) / 2 < r.end_s]
        if k < n_cells and min(looking) >= np.float32(off):
            if start is None:
                start, peak = begin, 0.0
            peak = max(peak, float(np.mean(looking)))
        elif start is not None:
            if peak >= np.float32(on):
                found.append((start, min(begin, duration)))
            start = None
    return found


@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]), min_size=1, max_size=40),
    overlap=st.integers(1, 4),
    rest=st.integers(0, 7),
)
def test_streaming_is_the_definition(scores: list[float], overlap: int, rest: int) -> None:
    window_s, hop_s = float(overlap), 1.0
    duration_s = window_s + len(scores) - 1 + rest / 8
    cut = plan(window_s, hop_s)
    rows = answers(cut, duration_s, lambda start, end: [scores[int(start) % len(scores)], 0, 0])
    on = 0.41  # no mean of one to four of these scores: two ways to sum could round a tie to either side
    found = detected(windowed(on=on, off=0.1), cut, rows)
    assert spans(found) == runs_by_hand(rows, hop_s, on, 0.1)
    for event in found:
        assert 0.1 <= event.mean_score <= event.score + 1e-9 <= 0.9 + 1e-6
        assert event.score >= np.float32(on)


# ---------------------------------------------------------------------- with the model that is shipped


def test_the_bundled_model_says_when_the_siren_is_heard(repository: Path) -> None:
    """The siren that is shipped as a demonstration, somewhere in half a minute of faint noise."""
    siren, rate_hz = sf.read(repository / "dymn_cli" / "demo" / "siren.flac", dtype="float32")
    length_s = len(siren) / rate_hz
    street = (0.001 * np.random.default_rng(0).standard_normal(30 * rate_hz)).astype(np.float32)
    street[12 * rate_hz : 12 * rate_hz + len(siren)] += siren
    with Tagger(threads=1, options=TagOptions(window_s=5, hop_s=1)) as tagger:
        found = events_of(tagger, (street, rate_hz), windowed(labels=("Siren",)), name="street")
    assert [event.label for event in found.events] == ["Siren"]
    (event,) = found.events
    assert event.start_s == pytest.approx(12, abs=1.0)
    assert event.end_s == pytest.approx(12 + length_s, abs=1.0)
    assert event.source == found.source == "street"
    assert (found.duration_s, found.audio.rate_hz, found.warnings) == (30.0, rate_hz, ())


def test_channels_are_heard_on_their_own() -> None:
    stereo = np.zeros((6 * RATE_HZ, 2), np.float32)
    stereo[:, 1] = 0.1 * np.random.default_rng(0).standard_normal(6 * RATE_HZ)
    with Tagger(threads=1, options=TagOptions(window_s=5, hop_s=1, channel="each")) as tagger:
        wanted = windowed(on=0.1, labels=tagger.vocabulary.names)
        found = events_of(tagger, (stereo, RATE_HZ), wanted)
        unasked = events_of(tagger, (stereo, RATE_HZ), windowed(on=0.1))
    assert "Silence" not in {event.label for event in unasked.events}
    by_channel = {channel: {e.label for e in found.events if e.channel == channel} for channel in "01"}
    assert "Silence" in by_channel["0"]
    assert by_channel["1"]
    assert "Silence" not in by_channel["1"]
    places = [(event.start_s, event.end_s) for event in found.events]
    assert places == sorted(places)
