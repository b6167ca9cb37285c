"""What the measure of `dymn listen` plays, and how it judges what was heard."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dymn_cli.bench.live import Line, Placed, Programme, Sent, judge, main
from dymn_cli.errors import UsageError

RATE_HZ = 32_000


def test_a_programme_is_the_same_in_whatever_pieces_it_is_played() -> None:
    programme = Programme(120, seed=1)
    start, end = 8 * RATE_HZ, 70 * RATE_HZ
    pieces = [programme.samples(at, min(at + 1601, end)) for at in range(start, end, 1601)]
    assert np.array_equal(np.concatenate(pieces), Programme(120, seed=1).samples(start, end))


def test_sounds_are_loud_and_apart() -> None:
    programme = Programme(600, seed=0)
    for sound, following in pairwise(programme.placed):
        assert 20 <= following.start_s - sound.end_s <= 30
    assert {sound.label for sound in programme.placed} == {"Siren", "Bird", "Guitar"}
    for sound in programme.placed:
        start, end = round(sound.start_s * RATE_HZ), round(sound.end_s * RATE_HZ)
        assert np.abs(programme.samples(start, end)).max() > 0.05
        assert np.abs(programme.samples(end, end + RATE_HZ)).max() < 0.001
        assert np.abs(programme.samples(start - RATE_HZ, start)).max() < 0.001


def test_it_breaks_off_within_a_sound_and_between_sounds() -> None:
    programme = Programme(600, seed=0)
    during = [
        any(sound.start_s < one.start_s < sound.end_s for sound in programme.placed)
        for one in programme.breaks()
    ]
    assert during == [True, False, False]
    assert [one.hangs_up for one in programme.breaks()] == [True, False, True]


def test_sounds_are_missed_told_twice_or_not_sent() -> None:
    placed = [Placed("Siren", at, at + 4) for at in (10.0, 40.0, 70.0, 100.0, 130.0)]
    sent = [Sent(0.0, 102.0), Sent(103.0, 129.0), Sent(129.5, 200.0)]
    lines = [
        Line("Siren", 10.2, 14.5, 11.0, 15.5),  # the first sound
        Line("Bird", 41.0, 43.0, 42.0, 44.0),  # another label: the second sound is missed
        Line("Siren", 70.0, 71.0, 71.2, 72.0),  # the third sound, twice
        Line("Siren", 72.0, 74.0, 73.0, 75.0),
        Line("Siren", 100.1, 102.0, 101.0, 102.0),  # the fourth was not sent to its end, the fifth too early
        Line("Siren", 150.0, 151.0, 151.0, 152.0),  # no sound at all
    ]
    found = judge(placed, sent, lines)
    assert (found.n_heard, found.n_missed, found.n_twice, found.n_extra) == (3, 1, 1, 2)
    assert found.begins_s == pytest.approx([1.0, 1.2])
    assert found.ends_s == pytest.approx([1.5, -2.0])
    assert found.clock_off_s == pytest.approx([0.2, 0.0])


def test_too_short_is_said() -> None:
    with pytest.raises(UsageError, match="too short"):
        next(main(0.2))


@pytest.mark.process
@pytest.mark.slow
def test_half_a_minute_of_web_radio() -> None:
    pytest.importorskip("av")
    said = dict(line.split("\t") for line in main(0.5))
    assert said["sounds: played, heard as a whole"] == "1, 1"
    assert said["sounds: missed, told twice"] == "0, 0"
    assert said["events: all, of no sound"] == "1, 0"
    assert said["clips, handed over"] == "1, 1"
    assert said["it said"].startswith("heard")
    assert "it ended with" not in said["it said"]
    assert float(said["begins: median, 95 %, largest"].split(",")[0]) < 1.5
