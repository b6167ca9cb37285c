from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.report.locate import Recordings
from dymn_cli.report.model import Source, Span
from dymn_cli.report.sound import Plan, hear_source, plan_pictures

HOUR_S = 3600.0


def source(name: str = "a.wav", *spans: Span, duration_s: float | None = None) -> Source:
    return Source(name, duration_s, 0, 0, (), None, spans, len(spans))


def planned(sources: list[Source], *, embed: bool = False) -> tuple[Plan, ...]:
    return plan_pictures(sources, [one.duration_s for one in sources], embed=embed)


@pytest.mark.parametrize(
    ("n", "seconds"), [(1, 1.0), (1, 12 * HOUR_S), (1000, 10.0), (1000, 12 * HOUR_S), (50_000, 60.0)]
)
def test_the_page_stays_of_a_size_whatever_it_holds(n: int, seconds: float) -> None:
    spans = [Span(float(at), at + 2.0, "Owl") for at in range(0, int(seconds), 10)][:100]
    plans = planned([source(f"{k}.wav", *spans, duration_s=seconds) for k in range(n)])
    coarse = sum(plan.width for plan in plans)
    fine = sum(end - start for plan in plans for start, end in plan.finer) * 25
    assert coarse * 64 <= 13 << 20
    assert fine * 64 <= 6 << 20
    assert min(plan.width for plan in plans) >= 3


def test_a_short_recording_gets_all_there_is_and_a_long_one_finer_stretches() -> None:
    (short,) = planned([source("a.wav", Span(1, 2, "Owl"), duration_s=10.0)])
    assert short == Plan(500, (), False)
    spans = (Span(100, 102, "Owl"), Span(103, 105, "Owl"), Span(9000, 9001, "Owl"))
    (long,) = planned([source("a.wav", *spans, duration_s=12 * HOUR_S)])
    assert long.finer == ((97, 108), (8997, 9004))


def test_only_short_recordings_are_copied_and_an_hour_of_them() -> None:
    lengths = [30.0, 61.0, None, *[60.0] * 100]
    plans = planned([source(f"{n}", duration_s=length) for n, length in enumerate(lengths)], embed=True)
    assert [plan.embeds for plan in plans[:4]] == [True, False, False, True]
    assert sum(plan.embeds for plan in plans) == 60


def hear(folder: Path, plan: Plan, name: str = "a b.wav", channel: str = "mix"):
    return hear_source(source(name), plan, Recordings(beside=[str(folder)]), folder / "page.html", channel)


def test_a_recording_is_linked_and_drawn(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a b.wav", np.zeros((48_000, 2)), 48_000)
    sound = hear(tmp_path, Plan(50, (), False))
    assert (sound.href, sound.problem, sound.duration_s) == ("a%20b.wav", "", 1.0)
    assert len(sound.tiles) == 1


def test_a_copy_sounds_the_same(tmp_path: Path) -> None:
    t = np.arange(64_000) / 32_000
    soundfile.write(tmp_path / "a b.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), 32_000)
    sound = hear(tmp_path, Plan(50, (), True))
    kind, _, data = sound.href.partition(",")
    assert kind == "data:audio/mpeg;base64"
    samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert len(samples) / rate_hz == pytest.approx(2.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * rate_hz / len(samples) == pytest.approx(1000, abs=2)
    assert sound.href == hear(tmp_path, Plan(50, (), True)).href


def test_what_is_wrong_with_a_recording_is_told_in_the_page(tmp_path: Path) -> None:
    assert "no such recording" in hear(tmp_path, Plan(50, (), False)).problem
    (tmp_path / "a b.wav").write_bytes(b"no audio")
    broken = hear(tmp_path, Plan(50, (), False))
    assert broken.href == "a%20b.wav"
    assert broken.problem
    assert not broken.tiles
    soundfile.write(tmp_path / "a b.wav", np.zeros(32_000), 32_000)
    assert "no channel 3" in hear(tmp_path, Plan(50, (), False), channel="3").problem
