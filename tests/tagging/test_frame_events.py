from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.errors import ModelError, UsageError
from dymn_cli.labels import Vocabulary
from dymn_cli.results import Event, WindowScores
from dymn_cli.tagging.calibration import Calibration, calibration_document, read_calibration
from dymn_cli.tagging.event_options import EventOptions, default_hop_s
from dymn_cli.tagging.frame_events import (
    LAGS,
    FrameCurve,
    FrameDetector,
    FrameHead,
    SmoothSteps,
    joint_scores,
)

RATE_HZ = 32_000
STEP_S = 0.32
WORDS = Vocabulary.from_names(["bark", "meow", "moo"])
FLOOR = 0.001

Loudness = Callable[[float], Sequence[float]]  # the scores of a moment


def answers(
    duration_s: float, heard: Loudness, *, window_s: float = 10.0, hop_s: float | None = 8.0
) -> list[WindowScores]:
    """What a model would say of a source: of each step what `heard` says of its middle, clips the highest."""
    rows = []
    for window in windows([np.zeros(round(duration_s * RATE_HZ), np.float32)], WindowPlan(window_s, hop_s)):
        n_steps = -(-round((window.end_s - window.start_s) * 100 + 1) // 32)
        steps = np.array(
            [heard(window.start_s + (n + LAGS["trained"]) * STEP_S) for n in range(n_steps)], np.float32
        )
        nothing = np.zeros(1, np.float32)
        rows.append(
            WindowScores(
                window.start_s, window.end_s, nothing, steps.max(axis=0), nothing,
                frame_logits=steps, frame_scores=steps,
            )
        )  # fmt: skip
    return rows


def barks(*sounds: tuple[float, float], score: float = 0.9) -> Loudness:
    return lambda t: [score if any(a <= t < b for a, b in sounds) else FLOOR, FLOOR, FLOOR]


def detected(
    rows: Sequence[WindowScores],
    options: EventOptions | None = None,
    *,
    calibration: Calibration | None = None,
    frame_head: FrameHead = "trained",
) -> list[Event]:
    detector = FrameDetector(
        options or EventOptions(),
        WORDS,
        STEP_S,
        calibration=calibration,
        frame_head=frame_head,
        source="farm.wav",
    )
    events = [event for row in rows for event in detector.add(row)]
    return events + detector.finish()


def spans(events: Sequence[Event], label: str = "bark") -> list[tuple[float, float]]:
    return [(round(e.start_s, 2), round(e.end_s, 2)) for e in events if e.label == label]


# ---------------------------------------------------------------------- from when to when


@pytest.mark.parametrize("at_s", [3.0, 7.3, 8.9, 9.5, 15.7, 23.3])
def test_a_sound_is_placed_to_a_step_wherever_windows_begin_and_end(at_s: float) -> None:
    (event,) = detected(answers(47.3, barks((at_s, at_s + 2.5))))
    assert event.start_s == pytest.approx(at_s, abs=STEP_S / 2 + 0.01)
    assert event.end_s == pytest.approx(at_s + 2.5, abs=STEP_S / 2 + 0.01)
    assert (event.source, event.channel, event.index, event.mid) == ("farm.wav", "mix", 0, "")


def test_an_end_lies_where_the_score_crosses_half_of_its_height() -> None:
    """A triangle from 3 to 7 s that is 0.8 high at 5 s."""
    shape: Loudness = lambda t: [max(FLOOR, 0.8 - 0.4 * abs(t - 5)), FLOOR, FLOOR]  # noqa: E731
    rows = answers(10.0, shape)
    joint = [float(row[0]) for row in joint_scores(rows[0], frame_head="trained")]
    (event,) = detected(rows)
    moments = (np.arange(len(joint)) + LAGS["trained"]) * STEP_S
    at = np.interp([event.start_s, event.end_s], moments, joint)
    assert at == pytest.approx([max(joint) / 2] * 2, abs=1e-4)
    assert event.end_s - event.start_s < 3
    assert event.score == pytest.approx(max(joint))


def test_a_long_sound_that_grows_begins_where_it_begins() -> None:
    """Half of the height is that within two seconds of the end, not that of the whole sound."""
    faint_then_loud: Loudness = lambda t: [0.3 if 4 <= t < 20 else 0.95 if 20 <= t < 30 else FLOOR, 0, 0]  # noqa: E731
    (event,) = detected(answers(40.0, faint_then_loud))
    assert (event.start_s, event.end_s) == pytest.approx((4, 30), abs=STEP_S)


def test_what_a_sound_leaves_in_its_window_is_not_part_of_it() -> None:
    """A network that has seen the whole window hears a sound a little in all of it."""
    sounds = ((24.0, 27.0),)
    bled: Loudness = lambda t: [0.9 if 24 <= t < 27 else 0.05 if 17 <= t < 32 else FLOOR, FLOOR, FLOOR]  # noqa: E731
    assert joint_scores(answers(40.0, bled)[2], frame_head="trained")[9, 0] > 0.4 * EventOptions().on_score
    (event,), (alone,) = detected(answers(40.0, bled)), detected(answers(40.0, barks(*sounds)))
    assert (event.start_s, event.end_s) == pytest.approx((24, 27), abs=STEP_S)
    assert (event.start_s, event.end_s) == pytest.approx((alone.start_s, alone.end_s), abs=0.05)
    assert event.mean_score == pytest.approx(alone.mean_score, rel=0.02)


def test_sounds_at_the_ends_of_the_source_reach_them() -> None:
    events = detected(answers(33.3, barks((0, 1), (31.5, 40))))
    assert events[0].start_s == 0
    assert events[0].end_s == pytest.approx(1, abs=STEP_S)
    assert events[1].end_s == pytest.approx(33.3)


def test_all_of_a_source_is_one_event() -> None:
    assert spans(detected(answers(33.3, barks((0, 40))))) == [(0.0, 33.3)]


@pytest.mark.parametrize("duration_s", [0.05, 0.3, 0.33, 3.2, 9.99])
def test_a_source_shorter_than_a_window_is_judged_to_its_end(duration_s: float) -> None:
    assert spans(detected(answers(duration_s, barks((0, 40))))) == [(0.0, round(duration_s, 2))]
    assert detected(answers(duration_s, barks())) == []


def test_the_last_window_is_off_the_grid_and_says_nothing_twice() -> None:
    rows = answers(23.1, barks((20.5, 21.5)))
    assert [row.start_s for row in rows] == [0.0, 8.0, 13.1]
    assert len(detected(rows)) == 1


@pytest.mark.parametrize("hop_s", [2.0, 5.0, 8.0, 10.0])
def test_any_hop_will_do(hop_s: float) -> None:
    found = spans(detected(answers(60.0, barks((11, 13), (31, 33)), hop_s=hop_s)))
    assert np.array(found) == pytest.approx(np.array([(11, 13), (31, 33)]), abs=STEP_S)


# ---------------------------------------------------------------------- hysteresis, gaps and lengths


def test_on_decides_whether_and_off_how_long() -> None:
    humps: Loudness = lambda t: [0.8 if 3 <= t < 4 else 0.5 if 2 <= t < 5 else FLOOR, 0.5 if t < 5 else 0, 0]  # noqa: E731
    found = detected(answers(10.0, humps), EventOptions(on=0.7, off=0.45))
    assert [event.label for event in found] == ["bark"]
    assert spans(found)[0] == pytest.approx((2.0, 5.0), abs=STEP_S)


def test_gaps_are_closed_and_short_events_dropped_afterwards() -> None:
    rows = answers(30.0, barks((3, 4), (4.5, 5.5), (8, 9)))
    assert len(detected(rows)) == 2
    assert len(detected(rows, EventOptions(max_gap_s=0))) == 3
    assert len(detected(rows, EventOptions(max_gap_s=4))) == 1
    assert len(detected(rows, EventOptions(min_length_s=2))) == 1
    assert len(detected(rows, EventOptions(max_gap_s=0, min_length_s=2))) == 0


def test_equal_on_and_off_still_give_an_event_with_a_length() -> None:
    flat: Loudness = lambda t: [0.5 if 3 <= t < 3.3 else FLOOR, 0, 0]  # noqa: E731
    peak = float(joint_scores(answers(10.0, flat)[0], frame_head="trained")[:, 0].max())
    (event,) = detected(answers(10.0, flat), EventOptions(on=peak - 1e-6, off=peak - 1e-6))
    assert event.end_s > event.start_s


def test_labels_and_thresholds_of_their_own() -> None:
    both: Loudness = lambda t: [0.3 if 3 <= t < 5 else FLOOR, 0.3 if 3 <= t < 5 else FLOOR, FLOOR]  # noqa: E731
    rows = answers(10.0, both)
    assert {e.label for e in detected(rows)} == {"bark", "meow"}
    assert {e.label for e in detected(rows, EventOptions(thresholds=(("bark", 0.9),)))} == {"meow"}
    assert {e.label for e in detected(rows, EventOptions(labels=("bark",)))} == {"bark"}


def test_events_come_out_as_they_end_and_memory_does_not_grow() -> None:
    rows = answers(600.0, barks(*((t, t + 1.0) for t in range(5, 600, 10))))
    detector = FrameDetector(EventOptions(), WORDS, STEP_S)
    counts = [len(detector.add(row)) for row in rows]
    assert sum(counts[: len(counts) // 2]) >= 28
    assert not detector._runs
    assert len(detector._waiting) <= 1
    endless = FrameDetector(EventOptions(), WORDS, STEP_S)
    for row in answers(600.0, barks((0, 600))):
        endless.add(row)
    (run,) = endless._runs.values()
    assert len(run.head) + len(run.tail) <= 2 * 32


# ---------------------------------------------------------------------- scores


def test_the_clip_score_counts_half_as_much_as_the_frame_score() -> None:
    row = dataclasses.replace(
        answers(10.0, barks())[0],
        scores=np.array([0.64, 0, 1], np.float32),
        frame_scores=np.array([[0.125, 1, 1]], np.float32),
    )
    assert joint_scores(row, frame_head="trained")[0] == pytest.approx(
        [0.125 ** (2 / 3) * 0.64 ** (1 / 3), 0, 1]
    )


def test_where_frames_are_all_there_is_they_count_alone() -> None:
    row = answers(10.0, barks((5, 7), score=0.35))[0]
    assert np.array_equal(joint_scores(row, frame_head="alone"), row.frame_scores)


def test_where_frames_are_all_there_is_a_median_takes_out_what_flickers() -> None:
    """Of 9 steps, as EfficientSED decodes: four in a row go, five stay."""
    step_s, columns = 0.04, np.array([0])

    def smooth(n: int) -> float:
        scores = np.full((250, 1), 0.01, np.float32)
        scores[100 : 100 + n] = 0.9
        window = WindowScores(0.0, 10.0, np.zeros(1), scores.max(axis=0), np.zeros(1), np.zeros(1), scores)
        steps = SmoothSteps(step_s, columns, frame_head="alone")
        every = [*steps.add(window), *steps.finish()]
        assert [step.middle for step in every[:2]] == [640, 640 + 1280]
        assert len(every) == 250
        return float(max(step.scores[0] for step in every))

    assert smooth(4) == pytest.approx(0.01)
    assert smooth(5) == pytest.approx(0.9)


def test_a_classifier_that_stands_in_for_a_frame_head_is_trusted_less() -> None:
    rows = answers(20.0, barks((5, 7), score=0.25))
    assert len(detected(rows)) == 1
    assert detected(rows, frame_head="stand-in") == []
    assert len(detected(answers(20.0, barks((5, 7), score=0.35)), frame_head="stand-in")) == 1


def test_without_frame_scores_it_says_what_is_missing() -> None:
    row = dataclasses.replace(answers(10.0, barks())[0], frame_scores=None)
    with pytest.raises(ValueError, match="frame_scores"):
        detected([row])


def test_the_curve_is_what_the_detector_sees() -> None:
    rows = answers(23.1, barks((5, 7)))
    curve = FrameCurve(SmoothSteps(STEP_S, np.array([0])))
    for row in rows:
        curve.add(row)
    scores, edges = curve.finish()
    assert scores.shape == (len(edges) - 1, 1)
    assert (edges[0], edges[-1]) == (0.0, pytest.approx(23.1))
    assert (np.diff(edges) > 0).all()
    loud = scores[:, 0] > 0.5
    assert edges[:-1][loud].min() == pytest.approx(5, abs=STEP_S)
    assert edges[1:][loud].max() == pytest.approx(7, abs=STEP_S)


# ---------------------------------------------------------------------- calibration


def calibration(
    shifts: Sequence[float], widths: Sequence[int] = (1, 1, 1), slope: float = 1.0
) -> Calibration:
    return Calibration(slope, np.array(shifts, float), np.array(widths, np.int64))


def test_a_calibration_moves_scores_label_by_label() -> None:
    both: Loudness = lambda t: [0.3 if 3 <= t < 5 else FLOOR, 0.3 if 3 <= t < 5 else FLOOR, FLOOR]  # noqa: E731
    found = detected(answers(10.0, both), calibration=calibration([-3, 1, 0]))
    assert [event.label for event in found] == ["meow"]
    assert found[0].score == pytest.approx(1 / (1 + np.exp(-(np.log(0.3 / 0.7) + 1))), abs=1e-6)
    extreme = calibration([0, 0, 0], slope=2.0).mapped(np.array([0.0, 1.0, 0.5]))
    assert extreme == pytest.approx([0, 1, 0.5], abs=1e-9)


def test_a_median_filter_takes_out_what_is_short() -> None:
    rows = answers(30.0, barks((3.0, 3.3), (10, 14)))
    assert len(detected(rows)) == 2
    smooth = calibration([0, 0, 0], (5, 1, 1))
    (kept,) = spans(detected(rows, calibration=smooth))
    assert kept == pytest.approx((10.0, 14.0), abs=STEP_S)
    # At the ends of a source the last step is repeated, and nothing is lost.
    assert spans(detected(answers(33.3, barks((0, 40))), calibration=smooth)) == [(0.0, 33.3)]
    assert spans(detected(answers(0.3, barks((0, 40))), calibration=smooth)) == [(0.0, 0.3)]


def test_the_file_beside_the_weights_is_read_back(tmp_path: Path) -> None:
    made = calibration([0.5, -0.25, 0.5], (1, 3, 1), slope=1.25)
    path = tmp_path / "model.calibration.json"
    path.write_bytes(calibration_document(made, WORDS, "ab" * 32, common=0.5, made_with="by hand"))
    read = read_calibration(path, WORDS, "ab" * 32)
    assert read is not None
    assert (read.slope, read.shifts.tolist(), read.widths.tolist()) == (1.25, [0.5, -0.25, 0.5], [1, 3, 1])
    assert len(read.digest) == 64
    assert [one["label"] for one in json.loads(path.read_bytes())["classes"]] == ["meow"]
    assert read_calibration(path, WORDS, "cd" * 32) is None  # that of other weights
    assert read_calibration(tmp_path / "none.json", WORDS, "ab" * 32) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema": "dymn.clip/1"}',
        '{"schema": "dymn.calibration/1", "model_sha256": "x", "slope": 0, "shift": 0, "classes": []}',
        '{"schema": "dymn.calibration/1", "model_sha256": "x", "slope": 1, "shift": NaN, "classes": []}',
        '{"schema": "dymn.calibration/1", "model_sha256": "x", "slope": 1, "shift": 0,'
        ' "classes": [{"label": "dog", "shift": 0}]}',
        '{"schema": "dymn.calibration/1", "model_sha256": "x", "slope": 1, "shift": 0,'
        ' "classes": [{"label": "bark", "shift": 0, "width": 2}]}',
    ],
)
def test_a_damaged_calibration_is_an_error_of_the_model(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.calibration.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"model\.calibration\.json: "):
        read_calibration(path, WORDS, "x")


# ---------------------------------------------------------------------- options


def test_defaults_follow_the_method() -> None:
    frames, compared = EventOptions(), EventOptions(method="windows")
    assert (frames.on_score, frames.gap_s) == (0.16, 0.64)
    assert frames.off_score == pytest.approx(0.064)
    assert (compared.on_score, compared.gap_s) == (0.3, 0.0)
    assert compared.off_score == pytest.approx(0.075)
    assert (default_hop_s(10, "frames"), default_hop_s(10, "windows")) == (8.0, 2.0)
    with pytest.raises(UsageError, match="no method 'both'"):
        EventOptions(method="both")  # type: ignore[arg-type]
