"""The tagger: one source in, results out, with a model whose answers are known, and with the real one."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds

from dymn_cli.audio.frames import FramePlan
from dymn_cli.errors import (
    AudioNotFoundError,
    CorruptAudioError,
    EmptyAudioError,
    InputError,
    ModelError,
    UsageError,
)
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.results import ClipResult, Failure
from dymn_cli.runtime.base import Answer
from dymn_cli.tagging.event_options import EventOptions
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

RATE = 32_000
Tone = Callable[..., np.ndarray]


@pytest.fixture
def tagger(backend: Any) -> Iterator[Tagger]:
    with Tagger(threads=2) as tagger:
        yield tagger


@pytest.fixture
def zoo(tone: Tone, animals: SimpleNamespace) -> np.ndarray:
    """25 s: ten of a cat, eight of a horse, seven of a duck."""
    return np.concatenate([tone(animals.cat, 10), tone(animals.horse, 8), tone(animals.duck, 7)])


def spans(result: ClipResult) -> list[tuple[float, float, str]]:
    return [(window.start_s, window.end_s, window.tags[0].label) for window in result.windows]


# ---------------------------------------------------------------------- one source


def test_a_path_a_file_an_array_and_bytes_give_the_same(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace, tmp_path: Path
) -> None:
    samples = tone(animals.cat, 12)
    path = tmp_path / "cat.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with path.open("rb") as file:
        results = [
            tagger.tag(path),
            tagger.tag(str(path)),
            tagger.tag(file),
            tagger.tag(io.BytesIO(path.read_bytes()), name="bytes"),
            tagger.tag((samples, RATE)),
        ]
    assert [result.source for result in results] == [str(path), str(path), str(path), "bytes", "array"]
    for result in results:
        assert [(tag.label, round(tag.score, 4)) for tag in result.tags[:2]] == [("Cat", 0.9), ("Purr", 0.5)]
        assert np.array_equal(result.scores, results[0].scores)
        assert np.array_equal(result.embedding, results[0].embedding)
        assert (result.channel, result.duration_s, result.n_windows) == ("mix", 12.0, 2)
        assert result.model.name == "fake"


def test_a_result_has_all_scores_and_the_embedding_whatever_is_selected(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    result = tagger.tag((tone(animals.cat, 10), RATE), top=1, min_score=0.95)
    assert result.tags == ()
    assert (result.scores.shape, result.embedding.shape) == ((527,), (384,))
    assert result.scores[animals.purr] == pytest.approx(0.5)
    assert result.embedding[animals.cat] == 1.0


def test_other_rates_are_heard_at_the_same_pitch(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    for rate_hz in (16_000, 44_100, 48_000):
        result = tagger.tag((tone(animals.horse, 3, rate_hz), rate_hz))
        assert (result.tags[0].label, result.audio.rate_hz, result.duration_s) == ("Horse", rate_hz, 3.0)


# ---------------------------------------------------------------------- windows


def test_windows_follow_each_other_and_the_last_ends_at_the_end(tagger: Tagger, zoo: np.ndarray) -> None:
    result = tagger.tag((zoo, RATE), windows=True)
    assert spans(result) == [(0.0, 10.0, "Cat"), (10.0, 20.0, "Horse"), (15.0, 25.0, "Duck")]
    assert result.n_windows == 3


def test_overlapping_windows_have_exact_times(tagger: Tagger, zoo: np.ndarray) -> None:
    result = tagger.tag((zoo, RATE), windows=True, window_s=2.0, hop_s=0.7)
    starts = [round(0.7 * n, 10) for n in range(33)]  # the last of them is 22.4 s; one more ends at 25 s
    assert [start for start, _, _ in spans(result)] == pytest.approx([*starts, 23.0], abs=1e-9)
    assert all(end - start == pytest.approx(2.0) for start, end, _ in spans(result))
    assert spans(result)[-1][2] == "Duck"


def test_a_whole_number_of_windows_has_no_extra_one(tagger: Tagger, zoo: np.ndarray) -> None:
    assert len(tagger.tag((zoo[: 20 * RATE], RATE), windows=True).windows) == 2
    assert len(tagger.tag((zoo[: 20 * RATE + 1], RATE), windows=True).windows) == 3


@pytest.mark.parametrize("how", ["max", "mean"])
def test_windows_are_joined_as_asked(
    tagger: Tagger, zoo: np.ndarray, animals: SimpleNamespace, how: str
) -> None:
    result = tagger.tag((zoo, RATE), aggregate=how, top=0)
    by_label = {tag.label: tag.score for tag in result.tags}
    expected = {
        "max": {"Cat": 0.9, "Horse": 0.9, "Clip-clop": 0.5, "Dog": 0.01},
        "mean": {"Cat": 0.92 / 3, "Horse": 0.92 / 3, "Clip-clop": 0.52 / 3, "Dog": 0.01},
    }[how]
    assert {label: by_label[label] for label in expected} == pytest.approx(expected, abs=1e-6)
    assert result.embedding[[animals.cat, animals.horse, animals.duck]].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(("pad", "n_frames"), [("repeat", 1000), ("zero", 1000), ("none", 300)])
def test_a_source_shorter_than_the_window_is_filled_up_as_asked_and_says_so(
    tagger: Tagger, backend: Any, tone: Tone, animals: SimpleNamespace, pad: str, n_frames: int
) -> None:
    result = tagger.tag((tone(animals.cat, 3), RATE), pad=pad, windows=True)
    assert backend.n_frames == [n_frames]
    assert spans(result) == [(0.0, 3.0, "Cat")]
    assert (result.n_windows, result.duration_s) == (1, 3.0)
    assert len(result.warnings) == 1
    assert "3.00 of 10 s" in result.warnings[0]


def test_the_shortest_source_is_50_ms(tagger: Tagger, tone: Tone, animals: SimpleNamespace) -> None:
    assert tagger.tag((tone(animals.cat, 0.05), RATE)).tags[0].label == "Cat"
    with pytest.raises(EmptyAudioError, match="50 ms"):
        tagger.tag((tone(animals.cat, 0.049), RATE))


def test_a_full_window_carries_no_note(tagger: Tagger, tone: Tone, animals: SimpleNamespace) -> None:
    assert tagger.tag((tone(animals.cat, 10), RATE)).warnings == ()


# ---------------------------------------------------------------------- channels


def test_channels_are_mixed_picked_or_each_on_its_own(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    stereo = np.stack([tone(animals.cat, 12), 0.1 * tone(animals.duck, 12)], axis=1)
    assert tagger.tag((stereo, RATE)).tags[0].label == "Cat"
    right = tagger.tag((stereo, RATE), channel="1")
    assert (right.channel, right.tags[0].label) == ("1", "Duck")
    each = tagger.tag_channels((stereo, RATE), channel="each", windows=True)
    assert [(result.channel, result.tags[0].label, len(result.windows)) for result in each] == [
        ("0", "Cat", 2),
        ("1", "Duck", 2),
    ]
    assert np.array_equal(each[1].scores, right.scores)


def test_opposite_channels_mix_to_silence_and_are_still_there_on_their_own(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    samples = tone(animals.cat, 10)
    opposite = np.stack([samples, -samples], axis=1)
    assert tagger.tag((opposite, RATE)).tags[0].label != "Cat"
    assert tagger.tag((opposite, RATE), channel="0").tags[0].label == "Cat"


def test_a_channel_that_there_is_not_is_the_fault_of_the_source(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    with pytest.raises(InputError, match="no channel 2"):
        tagger.tag((np.stack([tone(animals.cat, 1)] * 2, axis=1), RATE), channel="2")


def test_one_result_is_one_channel(tagger: Tagger, tone: Tone, animals: SimpleNamespace) -> None:
    with pytest.raises(UsageError) as caught:
        tagger.tag((tone(animals.cat, 1), RATE), channel="each")
    assert "tag_channels" in (caught.value.hint or "")


# ---------------------------------------------------------------------- threads and batches


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 1), (1, 3), (4, 1), (4, 4)])
def test_neither_threads_nor_batches_change_a_bit(
    backend: Any, zoo: np.ndarray, threads: int, batch_size: int
) -> None:
    options = TagOptions(windows=True, hop_s=1.0, top=0)
    with Tagger(threads=1, batch_size=1, options=options) as plain:
        expected = plain.tag((zoo, RATE))
    with Tagger(threads=threads, batch_size=batch_size, options=options) as other:
        result = other.tag((zoo, RATE))
    assert result.windows == expected.windows
    assert np.array_equal(result.scores, expected.scores)
    assert max(backend.batches) == batch_size


def test_windows_come_in_order_though_they_are_done_out_of_order(backend: Any, zoo: np.ndarray) -> None:
    plain = backend.run
    first = threading.Event()

    def late_first(mels: np.ndarray, *, frames: bool) -> Answer:
        if not first.is_set():
            first.set()
            threading.Event().wait(0.3)
        return plain(mels)

    backend.run = late_first
    with Tagger(threads=4) as tagger, tagger.analyse((zoo, RATE), hop_s=5.0) as analysis:
        assert [window.start_s for _, window in analysis] == [0.0, 5.0, 10.0, 15.0]


def test_windows_stream_while_the_source_is_read(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    with tagger.analyse((tone(animals.cat, 300), RATE)) as analysis:
        _, window = next(iter(analysis))
        assert window.end_s == 10.0
        assert analysis.duration_s < 200


def test_a_tagger_may_be_used_from_several_threads(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    sources = {label: tone(number, 25) for label, number in (("Cat", animals.cat), ("Duck", animals.duck))}
    heard: list[tuple[str, str]] = []

    def hear(label: str) -> None:
        heard.extend((label, tagger.tag((sources[label], RATE)).tags[0].label) for _ in range(3))

    threads = [threading.Thread(target=hear, args=(label,)) for label in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == [("Cat", "Cat")] * 3 + [("Duck", "Duck")] * 3


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("what", ["threads", "batch_size"])
def test_none_of_them_is_an_error(backend: Any, what: str, value: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Tagger(**{what: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threads": "2"}, "threads '2' is not a whole number"),
        ({"threads": 1.5}, "threads 1.5 is not a whole number"),
        ({"batch_size": True}, "batch size True is not a whole number"),
        ({"concat": "no"}, "concat 'no' is neither True nor False"),
        ({"model": None}, "model must be a name or a path, not None"),
        ({"model": ["fake", 3]}, "model must be a name or a path, not 3"),
        ({"options": 3}, "options must be TagOptions, not 3"),
        ({"options": 0}, "options must be TagOptions, not 0"),
    ],
)
def test_what_a_tagger_cannot_be_made_of_is_refused(backend: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Tagger(**wrong)


# ---------------------------------------------------------------------- options


def test_options_of_a_call_go_before_those_of_the_tagger(
    backend: Any, tone: Tone, animals: SimpleNamespace
) -> None:
    source = (tone(animals.cat, 10), RATE)
    with Tagger(options=TagOptions(top=2)) as tagger:
        assert len(tagger.tag(source).tags) == 2
        assert len(tagger.tag(source, top=7).tags) == 7
        assert [tag.label for tag in tagger.tag(source, labels=("purr", "/m/09x0r")).tags] == [
            "Purr",
            "Speech",
        ]
        assert tagger.options.top == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"tops": 3},
        {"window_s": 0.1},
        {"window_s": 61.0},
        {"window_s": float("nan")},
        {"hop_s": 0.05},
        {"hop_s": 11.0},
        {"hop_s": 0.0},
        {"pad": "mirror"},
        {"labels": ("no such sound",)},
        {"thresholds": (("no such sound", 0.5),)},
    ],
)
def test_a_wrong_option_is_an_error_before_anything_is_decoded(tagger: Tagger, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        tagger.tag("not there.wav", **wrong)
    with pytest.raises(UsageError):
        tagger.tag_many(["not there.wav"], **wrong)


def test_scores_can_be_selected_again_without_listening_again(
    tagger: Tagger, backend: Any, tone: Tone, animals: SimpleNamespace
) -> None:
    result = tagger.tag((tone(animals.cat, 10), RATE))
    n_runs = len(backend.batches)
    assert [tag.label for tag in tagger.select(result.scores, min_score=0.4)] == ["Cat", "Purr"]
    assert len(backend.batches) == n_runs


def test_scores_of_no_model_are_not_selected_from(tagger: Tagger) -> None:
    scores = np.full(527, 0.5, np.float32)
    for wrong in (scores[:10], scores[None], scores.astype(str), 0.5):
        with pytest.raises(UsageError, match=r"not \(527,\) floats"):
            tagger.select(wrong)  # type: ignore[arg-type]
    scores[3] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        tagger.select(scores)


def test_an_embedding_alone(tagger: Tagger, tone: Tone, animals: SimpleNamespace) -> None:
    embedding = tagger.embed((tone(animals.cat, 10), RATE))
    assert (embedding.shape, embedding.dtype) == ((tagger.embedding_size,), np.float32)
    assert embedding.argmax() == animals.cat


# ---------------------------------------------------------------------- events


def test_events_are_cut_as_the_call_or_the_tagger_or_the_command_says(
    backend: Any, zoo: np.ndarray, animals: SimpleNamespace
) -> None:
    stereo = np.stack([zoo, np.zeros_like(zoo)], axis=1)
    with Tagger(options=TagOptions(channel="0", window_s=4.0, frames=FramePlan())) as tagger:
        own = tagger.events((stereo, RATE), EventOptions(on=0.5), name="zoo", exclude=("Horse",))
        assert [(event.label, event.channel, event.source) for event in own.events] == [
            ("Cat", "0", "zoo"),
            ("Duck", "0", "zoo"),
        ]
        assert set(backend.n_frames) == {400}
        backend.n_frames.clear()
        each = tagger.events((stereo, RATE), on=0.5, channel="each", window_s=5.0)
        assert [event.label for event in each.events if event.channel == "0"] == ["Cat", "Horse", "Duck"]
        assert {event.channel for event in each.events} == {"0", "1"}
        assert set(backend.n_frames) == {500}
    with Tagger() as tagger:
        backend.n_frames.clear()
        tagger.events((zoo, RATE), method="windows")
        assert backend.n_frames == [500] * 21  # 5 s every second, as `dymn events --method windows`


def test_a_misspelt_option_is_told_the_nearest(tagger: Tagger) -> None:
    with pytest.raises(UsageError, match=r"^no option 'topk'$") as caught:
        tagger.tag("not there.wav", topk=3)
    assert (caught.value.hint or "").startswith("nearest: top, ")
    with pytest.raises(UsageError, match=r"^no option 'window'$") as caught:
        tagger.events("not there.wav", window=5.0)
    assert (caught.value.hint or "").startswith("nearest: window_s, ")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"labels": ("no such sound",)}, "no such sound"),
        ({"thresholds": (("no such sound", 0.5),)}, "no such sound"),
        ({"top": 3}, "no option 'top'"),
        ({"window_s": "10"}, "'10' is not a number"),
        ({"options": TagOptions()}, "options must be EventOptions"),
    ],
)
def test_a_wrong_option_of_events_is_an_error_before_anything_is_decoded(
    tagger: Tagger, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        tagger.events("not there.wav", **wrong)


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize("jobs", [None, 1, 3, 50])
def test_many_sources_come_in_order_and_one_that_fails_costs_itself_only(
    jobs: int | None, tagger: Tagger, tone: Tone, animals: SimpleNamespace, tmp_path: Path
) -> None:
    good, empty, text = tmp_path / "good.wav", tmp_path / "empty.wav", tmp_path / "text.wav"
    soundfile.write(good, tone(animals.cat, 1), RATE)
    empty.touch()
    text.write_text("no audio " * 100, "utf-8")
    sources = [str(empty), str(good), str(text), str(tmp_path / "none.wav"), (tone(animals.duck, 1), RATE)]
    results = list(tagger.tag_many(sources, jobs=jobs))  # type: ignore[arg-type]
    assert [result.source for result in results] == [*map(str, sources[:4]), "array"]
    assert [result.error if isinstance(result, Failure) else result.tags[0].label for result in results] == [
        "EmptyAudioError",
        "Cat",
        "UnsupportedAudioError",
        "AudioNotFoundError",
        "Duck",
    ]


def test_several_sources_are_worked_on_at_a_time(
    backend: Any, tone: Tone, animals: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for another one to be there: alone, none would end."""
    clips = [(tone((animals.cat, animals.duck)[n % 2], 1), RATE) for n in range(8)]
    meeting, answer = threading.Barrier(2), Tagger.answer

    def after_another(self: Tagger, *args: Any, **more: Any) -> Any:
        meeting.wait(30)
        return answer(self, *args, **more)

    with Tagger("fake", threads=2) as tagger:
        expected = [tagger.tag(clip) for clip in clips]
        monkeypatch.setattr(Tagger, "answer", after_another)
        for more in ({}, {"jobs": 2}):
            found = list(tagger.tag_many(clips, **more))
            assert [result.tags for result in found] == [result.tags for result in expected]  # type: ignore[union-attr]
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours.scores, theirs.scores)  # type: ignore[union-attr]


def test_sources_that_come_one_by_one_are_not_waited_for(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    heard: list[object] = []

    def answering() -> Iterator[Any]:
        for n in range(3):
            assert len(heard) == n, "the result of the one before"
            yield tone(animals.cat, 1), RATE

    for result in tagger.tag_many(answering()):
        heard.append(result)  # noqa: PERF402 - the sources look at it meanwhile
    assert len(heard) == 3


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_where_the_sources_break_off_their_results_come_before_the_error(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace, jobs: int
) -> None:
    def breaking_off() -> Iterator[Any]:
        for _ in range(8):
            yield tone(animals.cat, 1), RATE
        raise RuntimeError("the database is gone")

    heard = []
    with pytest.raises(RuntimeError, match="the database is gone"):
        for result in tagger.tag_many(breaking_off(), jobs=jobs):
            heard.append(result)  # noqa: PERF402 - the error comes after them
    assert [isinstance(result, ClipResult) for result in heard] == [True] * 8


def test_a_number_of_jobs_is_one_or_more(tagger: Tagger) -> None:
    with pytest.raises(UsageError, match="jobs must be at least 1, not 0"):
        tagger.tag_many([], jobs=0)
    for jobs in ("2", 1.5):
        with pytest.raises(UsageError, match="is not a whole number"):
            tagger.tag_many([], jobs=jobs)  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_is_no_source_costs_itself_only(
    jobs: int, tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    samples = tone(animals.cat, 1)
    sources: list[Any] = [(samples.astype(np.int64), RATE), (samples, -1), None, b"cat.wav", (samples, RATE)]
    *failed, found = tagger.tag_many(sources, jobs=jobs)
    assert isinstance(found, ClipResult)
    assert [(failure.error, failure.source) for failure in failed if isinstance(failure, Failure)] == [
        ("UsageError", "array"),
        ("UsageError", "array"),
        ("UsageError", "audio"),
        ("UsageError", "audio"),
    ]


@pytest.mark.parametrize("one", ["cat.wav", b"cat.wav", Path("cat.wav"), io.BytesIO(b"RIFF"), None], ids=type)
def test_one_source_is_not_taken_for_many(one: Any, tagger: Tagger) -> None:
    with pytest.raises(UsageError, match=f"sources must be several, not one {type(one).__name__}"):
        tagger.tag_many(one)


@pytest.mark.parametrize(
    "one",
    [
        ([0.0] * RATE, RATE),
        (np.zeros(RATE, np.float32), np.int64(RATE)),
        np.zeros((2, RATE), np.float32),
        {"array": np.zeros(RATE), "sampling_rate": RATE, "path": None},
    ],
    ids=["list and rate", "array and rate", "array", "mapping"],
)
def test_the_samples_of_one_source_are_not_taken_for_many(one: Any, tagger: Tagger) -> None:
    with pytest.raises(UsageError, match=f"sources must be several, not one {type(one).__name__}"):
        tagger.tag_many(one)


def test_two_sources_or_an_array_of_paths_are_many(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    two = ((tone(animals.cat, 1), RATE), (tone(animals.duck, 1), RATE))
    assert [r.tags[0].label for r in tagger.tag_many(two) if isinstance(r, ClipResult)] == ["Cat", "Duck"]
    column = type("Column", (list,), {"dtype": "a text"})(["a.wav", "b.wav"])  # of a data frame
    for paths in (np.array(["a.wav", "b.wav"]), column):
        missing = tagger.tag_many(paths)  # type: ignore[arg-type]
        assert [result.source for result in missing] == ["a.wav", "b.wav"]


def test_a_tensor_is_not_taken_for_many(tagger: Tagger) -> None:
    torch = pytest.importorskip("torch")
    for one in (torch.zeros(2, RATE), (torch.zeros(RATE), torch.tensor(RATE))):
        with pytest.raises(UsageError, match="sources must be several"):
            tagger.tag_many(one)


def test_frame_scores_are_refused_where_the_result_has_none(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    source: Any = (tone(animals.cat, 1), RATE)
    for call in (tagger.tag, tagger.tag_channels, tagger.embed, lambda *a, **k: tagger.tag_many([*a], **k)):
        with pytest.raises(UsageError, match="no frame scores") as caught:
            call(source, frame_scores=True)
        assert "analyse(..., frame_scores=True)" in (caught.value.hint or "")
        call(source, frame_scores=False)


def test_a_model_without_frames_is_no_failure_of_a_source(backend: Any) -> None:
    backend.has_frames = False
    options = TagOptions(frame_scores=True)
    with Tagger(options=options) as tagger, pytest.raises(UsageError, match="without frames"):
        tagger.tag_many(["cat.wav"])


def test_a_missing_file_is_an_error(tagger: Tagger) -> None:
    with pytest.raises(AudioNotFoundError, match=r"none\.wav"):
        tagger.tag("none.wav")


def test_samples_that_no_recording_has_are_silence_with_a_warning_or_refused(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    samples = tone(animals.cat, 60)
    samples[45 * RATE] = np.nan
    result = tagger.tag((samples, RATE))
    assert result.warnings == ("1 unusable sample was replaced by silence: the first is NaN, at 45.000 s",)
    with pytest.raises(CorruptAudioError, match=r"the first is NaN, at 45\.000 s"):
        tagger.tag((samples, RATE), strict=True)


def test_a_file_is_closed_whatever_happens(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "cat.wav"
    soundfile.write(path, tone(animals.cat, 30), RATE)
    with tagger.analyse(path) as analysis:
        next(iter(analysis))
    with pytest.raises(RuntimeError, match="ours"), tagger.analyse(path) as analysis:
        raise RuntimeError("ours")
    # Warnings are errors here: a file left open would be one.


@pytest.mark.parametrize("is_file", [True, False])
def test_windows_are_given_once_and_while_the_source_is_open(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace, tmp_path: Path, is_file: bool
) -> None:
    source: Any = (tone(animals.cat, 90), RATE)
    if is_file:
        soundfile.write(tmp_path / "cat.wav", *source)
        source = tmp_path / "cat.wav"
    with tagger.analyse(source) as analysis:
        assert len(list(analysis)) == 9
        with pytest.raises(UsageError, match="begun already"):
            list(analysis)
    with tagger.analyse(source) as begun, tagger.analyse(source) as unread:
        rows = iter(begun)
        next(rows)
    for rest in (rows, unread):
        with pytest.raises(UsageError, match="closed before it was read"):
            list(rest)


def test_no_window_comes_after_the_analysis_though_all_sound_was_read(
    tagger: Tagger, tone: Tone, animals: SimpleNamespace
) -> None:
    with tagger.analyse((tone(animals.cat, 20), RATE)) as analysis:
        rows = iter(analysis)
        next(rows)
    with pytest.raises(UsageError, match="closed before it was read"):
        next(rows)


@pytest.mark.parametrize("copied", [lambda t: pickle.loads(pickle.dumps(t)), copy.copy, copy.deepcopy])
def test_a_tagger_is_pickled_and_copied_as_its_arguments(
    tone: Tone, animals: SimpleNamespace, copied: Callable[[Tagger], Tagger]
) -> None:
    clip = (tone(animals.cat, 1), RATE)
    with Tagger(threads=1, batch_size=2, options=TagOptions(top=3)) as tagger:
        expected = tagger.tag(clip)
        with copied(tagger) as twin:
            found = twin.tag(clip)
            assert (twin.batch_size, twin.model) == (2, tagger.model)
        assert found.tags == expected.tags and len(found.tags) == 3
        tagger.tag(clip)  # closing the one leaves the other open
    with pytest.raises(UsageError, match="the tagger is closed"):
        copied(tagger)


def test_a_tagger_and_its_labels_say_what_they_are(tagger: Tagger) -> None:
    assert repr(tagger) == "<Tagger fake: fake, none, 527 classes>"
    assert repr(tagger.vocabulary).startswith("<Vocabulary of 527: 'Speech'")


@pytest.mark.parametrize("device", [None, 0])
def test_a_device_is_a_name(device: Any) -> None:
    with pytest.raises(UsageError, match=f"device must be a name, not {device}") as caught:
        Tagger(device=device)
    assert "cuda[:N]" in (caught.value.hint or "")


def test_a_name_is_text_or_a_path(tagger: Tagger, tone: Tone, animals: SimpleNamespace) -> None:
    clip = (tone(animals.cat, 1), RATE)
    with pytest.raises(UsageError, match="name must be text, not 3"):
        tagger.tag(clip, name=3)  # type: ignore[arg-type]
    assert tagger.tag(clip, name=Path("a.wav")).source == "a.wav"  # type: ignore[arg-type]


def test_a_model_that_answers_nonsense_is_no_result(
    backend: Any, tone: Tone, animals: SimpleNamespace
) -> None:
    plain = backend.run
    backend.run = lambda mels, *, frames: Answer(
        plain(mels).logits * np.float32(np.nan), plain(mels).embedding
    )
    with Tagger(threads=2) as tagger, pytest.raises(ModelError, match="NaN"):
        tagger.tag((tone(animals.cat, 30), RATE))


# ---------------------------------------------------------------------- the real model


def test_the_model_that_ships_answers_alike_each_time_and_for_any_number_of_threads(tone: Tone) -> None:
    source = (sounds.noise(22 * RATE), RATE)
    with Tagger(threads=1) as one, Tagger(threads=3) as three:
        results = [one.tag(source), one.tag(source), three.tag(source)]
    assert results[0].model.name == one.model.name != "fake"
    assert len(results[0].model.sha256) == 64
    assert np.isfinite(results[0].embedding).all()
    for result in results[1:]:
        assert np.array_equal(result.scores, results[0].scores)
        assert np.array_equal(result.embedding, results[0].embedding)


@pytest.mark.parametrize(
    ("clip", "labels", "within"),
    [
        ("speech", {"Speech"}, 1),
        ("typing", {"Typing", "Computer keyboard"}, 1),
        ("music", {"Music"}, 3),
        ("metro_station-paris", {"Vehicle", "Train", "Subway, metro, underground", "Rail transport"}, 5),
    ],
)
def test_the_model_that_ships_hears_what_people_hear(
    shared: Path, clip: str, labels: set[str], within: int
) -> None:
    with Tagger() as tagger:
        tags = tagger.tag(shared / "audio" / f"{clip}.wav").tags[:within]
    assert labels & {tag.label for tag in tags}


# ---------------------------------------------------------------------- overlapping windows


@pytest.fixture(scope="module")
def real() -> Iterator[dict[int, Tagger]]:
    """The shipped model on one thread and on three."""
    with Tagger(threads=1) as one, Tagger(threads=3) as three:
        yield {1: one, 3: three}


def stereo_noise(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.normal(0, 0.1, (int(seconds * RATE), 2)).astype(np.float32)


def answers(tagger: Tagger, samples: np.ndarray, **options: Any) -> list[tuple[Any, ...]]:
    with tagger.analyse((samples, RATE), **options) as analysis:
        return [
            (channel, w.start_s, w.end_s, w.logits.tobytes(), w.embedding.tobytes())
            for channel, w in analysis
        ]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("hop_s", [0.1, 0.25, 1.0, 1.234, 1.99], ids=str)
@pytest.mark.parametrize("channel", ["mix", "each"])
def test_sharing_frames_between_windows_changes_no_bit(
    real: dict[int, Tagger], threads: int, hop_s: float, channel: str
) -> None:
    samples = stereo_noise(2 + 17 * min(hop_s, 0.3) + 0.123)
    options: dict[str, Any] = {"window_s": 2.0, "hop_s": hop_s, "channel": channel}
    shared = answers(real[threads], samples, **options)
    alone = []
    for _, start_s, end_s, *_ in shared[:: 2 if channel == "each" else 1]:
        window = samples[round(start_s * RATE) : round(end_s * RATE)]
        alone += answers(real[1], window, window_s=2.0, channel=channel)
    assert [row[3:] for row in shared] == [row[3:] for row in alone]
    assert len(shared) > 2


def test_overlapping_windows_compute_few_frames_twice(
    real: dict[int, Tagger], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    original = LogMel.__call__

    def counting(self: LogMel, samples: np.ndarray) -> np.ndarray:
        computed.append(samples.shape[-1])
        return original(self, samples)

    monkeypatch.setattr(LogMel, "__call__", counting)
    samples = stereo_noise(30)
    for threads, most in ((1, 1.4), (3, 3.0)):
        computed.clear()
        n_windows = len(answers(real[threads], samples, window_s=5.0, hop_s=0.5))
        assert n_windows == 51
        assert sum(computed) < most * len(samples), "without sharing it would be 8.5 times the recording"


# ---------------------------------------------------------------------- closed


@pytest.mark.parametrize("seconds", [3, 35])
def test_a_closed_tagger_says_so_however_long_the_source_is(
    backend: Any, tone: Tone, animals: SimpleNamespace, seconds: int
) -> None:
    with Tagger(threads=2) as tagger:
        pass
    samples = (tone(animals.cat, seconds), RATE)
    calls: list[Callable[[], object]] = [
        lambda: tagger.tag(samples),
        lambda: tagger.embed(samples),
        lambda: list(tagger.tag_many([samples])),
        lambda: tagger.analyse(samples),
        tagger.__enter__,
    ]
    for call in calls:
        with pytest.raises(UsageError, match="the tagger is closed"):
            call()
    tagger.close()  # again


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_result_comes_from_a_tagger_that_was_closed_meanwhile(
    backend: Any, tone: Tone, animals: SimpleNamespace, jobs: int
) -> None:
    tagger = Tagger(threads=2)
    results = tagger.tag_many([(tone(animals.cat, 3), RATE)] * 9, jobs=jobs)
    next(results)
    tagger.close()
    with pytest.raises(UsageError, match="the tagger is closed"):
        next(results)


def test_an_analysis_ends_with_its_tagger(backend: Any, tone: Tone, animals: SimpleNamespace) -> None:
    tagger = Tagger(threads=2)
    with tagger.analyse((tone(animals.cat, 200), RATE)) as analysis:
        windows = iter(analysis)
        next(windows)
        tagger.close()
        with pytest.raises(UsageError, match="the tagger is closed"):
            list(windows)
