"""How far a run is: counts, speed, what is left, and when a line is worth writing."""

from __future__ import annotations

import io
import sys
from itertools import pairwise

import pytest
from rich.progress import TextColumn, TimeElapsedColumn

from dymn_cli.cli.terminal.progress import Bar, Lines, Share, Tally, span


class Clock:
    """A time that goes on when it is told to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_line_says_files_audio_speed_failures_and_what_is_left(clock: Clock) -> None:
    tally = Tally(2_000, clock=clock)
    for n in range(120):
        tally.advance(f"{n}.wav", 12.6 if n % 40 else 0.0, failed=n % 40 == 0)
    clock.now += 20
    assert tally.line() == "120 of 2000 files, 0.41 h of audio, 74 × real time, 3 failed, about 5.2 min left"


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_speed(clock: Clock) -> None:
    tally = Tally(1_000, clock=clock)
    for _ in range(900):
        tally.kept()
    for n in range(10):
        tally.advance(f"{n}", 10.0)
    clock.now += 5
    assert tally.line() == "910 of 1000 files, 0.03 h of audio, 20 × real time, about 45 s left"


def test_a_long_file_at_the_end_takes_the_time_of_its_audio(clock: Clock) -> None:
    tally = Tally(101, clock=clock)
    for n in range(100):
        tally.advance(f"{n}.wav", 1.0)
    clock.now += 10.0
    tally.within("long.wav", 900.0, 9900.0)  # 100 × real time
    assert tally.left_s == pytest.approx(90.0)


def test_a_long_file_shows_how_far_it_is(clock: Clock) -> None:
    tally = Tally(1, clock=clock)
    clock.now += 60
    tally.within("day.flac", 21_600.0, 86_400.0)
    assert tally.n_files == 0.25
    assert tally.left_s == 180
    assert tally.audio_s == 21_600
    assert tally.line() == "25% done, 6.00 h of audio, 360 × real time, about 3.0 min left"
    tally.advance("day.flac", 86_400.0)
    assert (tally.n_files, tally.audio_s, tally.left_s) == (1, 86_400, 0)


def test_one_thing_after_another_is_done_in_shares(clock: Clock) -> None:
    share = Share(clock=clock)
    share.at("comparing embeddings", 0.0)
    assert share.line() == "comparing embeddings: 0%"
    clock.now += 60
    share.at("comparing embeddings", 0.25)
    assert share.line() == "comparing embeddings: 25%, about 3.0 min left"
    share.at("listening", 0.0)
    clock.now += 5
    share.at("listening", 0.5)
    assert (share.line(), share.completed) == ("listening: 50%, about 5.0 s left", 0.5)


def test_of_a_pipe_no_share_is_known(clock: Clock) -> None:
    tally = Tally(1, clock=clock)
    clock.now += 60
    tally.within("-", 600.0, None)
    assert (tally.total, tally.left_s) == (None, None)
    assert tally.line() == "0.17 h of audio, 10 × real time"
    assert tally.short() == "0.17 h of audio, 10 × real time, 60 s so far"


def test_without_a_total_or_a_beginning_nothing_is_promised(clock: Clock) -> None:
    stream = Tally(None, clock=clock)
    stream.advance("a", 3600.0)
    clock.now += 360
    assert stream.line() == "1 files, 1.00 h of audio, 10 × real time"
    assert "left" not in Tally(10, clock=clock).line()


def test_a_claim_shorter_than_the_file_does_not_count_it_twice(clock: Clock) -> None:
    tally = Tally(2, clock=clock)
    tally.within("a.wav", 50.0, 10.0)
    assert tally.n_files == 1


def test_the_summary_is_one_line(clock: Clock) -> None:
    tally = Tally(2_000, clock=clock)
    for n in range(2_000):
        tally.advance(str(n), 10.0, failed=n == 7)
    clock.now += 192
    assert tally.summary() == "2000 files, 5.56 h of audio in 3.2 min (104 × real time), 1 failed"


def test_lines_come_after_ten_seconds_then_every_half_minute_then_more_rarely(clock: Clock) -> None:
    said: list[tuple[float, str]] = []
    begin = clock.now
    with Tally(None, Lines(lambda line: said.append((clock.now - begin, line))), clock) as tally:
        for n in range(3 * 3_600):
            clock.now += 1
            tally.advance(str(n), 1.0)
    times = [at for at, _ in said]
    assert times[:4] == [10, 40, 70, 100]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 400
    assert len(times) < 80


@pytest.mark.parametrize(("done_s", "time"), [(30.0, "about 90 s left"), (0.0, "30 s so far")])
def test_a_bar_shows_one_time_and_says_which(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, done_s: float, time: str
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Bar(color=False)
    with Tally(1, bar, clock) as tally:
        clock.now += 30
        tally.within("a.wav", done_s, 120.0)
    drawn = bar._drawn
    assert drawn is not None
    (task,) = drawn.tasks
    shown = " ".join(str(column.render(task)) for column in drawn.columns if isinstance(column, TextColumn))
    assert shown.endswith(f" × real time, {time}")
    assert "0:" not in shown
    assert not any(isinstance(column, TimeElapsedColumn) for column in drawn.columns)


def test_a_short_run_says_nothing_while_it_goes_on(clock: Clock) -> None:
    said: list[str] = []
    with Tally(3, Lines(said.append), clock) as tally:
        for n in range(3):
            clock.now += 3
            tally.advance(str(n), 1.0)
    assert said == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.31, "0.3 s"),
        (9.4, "9.4 s"),
        (42.4, "42 s"),
        (192, "3.2 min"),
        (9_000, "2.5 h"),
        (259_200, "3.0 days"),
    ],
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text
