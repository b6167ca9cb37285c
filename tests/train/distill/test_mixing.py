from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sounds

from dymn_cli.frontend import FrontEndConfig, LogMel
from dymn_cli.frontend.melbank import FRAMEWISE
from dymn_cli.train.distill.mixing import Mix, MixOptions, mix_log_mels

FRONT_END = FrontEndConfig()
PLAIN = MixOptions(
    p_clips=(1.0,),
    gain_db=(0.0, 0.0),
    below_db=(0.0, 0.0),
    p_join=0.0,
    p_further_once=0.0,
    p_first_once=0.0,
    p_reverse=0.0,
    max_speed=1.0,
    max_shift_bands=0,
    p_wide=0.0,
    max_tilt_db=0.0,
    p_equalizer=0.0,
    p_band_limit=0.0,
    p_reverb=0.0,
    p_far=0.0,
    p_noise=0.0,
)


def noise(seed: int, level: float = 0.1, seconds: float = 1.0) -> np.ndarray:
    return sounds.noise(round(32_000 * seconds), level=level, seed=seed)


def rows(samples: np.ndarray) -> np.ndarray:
    return LogMel()(samples)[0, 0].T.astype(np.float16)


def whole_mix(clips: list[np.ndarray], n_frames: int = 100, seed: int = 0, **changes: object) -> Mix:
    options = dataclasses.replace(PLAIN, **changes)
    return mix_log_mels(clips, n_frames, FRONT_END, options, np.random.default_rng(seed))


def mix(clips: list[np.ndarray], n_frames: int = 100, seed: int = 0, **changes: object) -> np.ndarray:
    return whole_mix(clips, n_frames, seed, **changes).log_mel


def power(mel: np.ndarray) -> np.ndarray:
    return np.exp(mel.astype(np.float64) * 5 - 4.5)


def test_a_clip_left_alone_is_itself() -> None:
    clip = rows(noise(0))
    mixed = mix([clip])
    assert mixed.shape == (128, 100)
    start = int(np.abs(clip[:, 60].astype(np.float32)[:, None] - mixed[60]).min(axis=1).argmin())
    assert start >= 0
    # Repeated from anywhere: the same frames in a circle.
    assert np.allclose(np.sort(mixed, axis=1), np.sort(clip.T.astype(np.float32), axis=1), atol=1e-3)


def test_powers_of_sounds_add_up() -> None:
    one, other = noise(1), noise(2)
    mixed = mix([rows(one), rows(other)])
    together = LogMel()(one + other)[0, 0]
    assert power(mixed[40:]).mean() == pytest.approx(power(together[40:]).mean(), rel=0.1)
    assert power(mixed).mean() == pytest.approx(2 * power(rows(one)).mean(), rel=0.1)


def test_gain_is_in_decibels() -> None:
    clip = rows(noise(0, 0.02))
    louder = mix([clip], gain_db=(10.0, 10.0))
    assert power(louder).mean() / power(mix([clip])).mean() == pytest.approx(10, rel=0.01)


def test_a_further_clip_lies_below_the_first() -> None:
    loud, soft = rows(noise(1, 0.5)), rows(noise(2, 0.001))
    mixed = mix([soft, loud], below_db=(20.0, 20.0), p_further_once=0.0)
    assert power(mixed).mean() / power(mix([soft])).mean() == pytest.approx(1.01, abs=0.02)


def test_a_longer_clip_is_cut_a_shorter_one_repeated_or_heard_once() -> None:
    long, short = rows(noise(1, seconds=3)), rows(noise(2, seconds=0.3))
    assert mix([long], n_frames=50).shape == (128, 50)
    repeated = mix([short, short], p_further_once=0.0)
    once = mix([short, short], p_further_once=1.0)
    energy = power(once).mean(axis=0)
    assert power(repeated).mean() > power(once).mean()
    assert (energy > 1.4 * np.median(energy)).sum() in range(20, 35)


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_a_clip_alone_is_heard_in_one_stretch_with_quiet_around_it(seconds: float) -> None:
    floor = (np.log(1e-5) + 4.5) / 5
    lengths, starts = set(), set()
    for seed in range(20):
        mixed = mix(
            [rows(noise(1, seconds=seconds))], n_frames=200, seed=seed, p_first_once=1.0, shortest_piece=0.1
        )
        heard = np.flatnonzero((mixed > floor + 0.05).any(axis=0))
        assert len(heard) == heard[-1] - heard[0] + 1
        lengths.add(len(heard))
        starts.add(int(heard[0]))
    assert len(starts) > 10
    assert 18 <= min(lengths) < max(lengths) <= min(200, 100 * seconds)


def test_bands_move_up_and_silence_moves_in() -> None:
    clip = rows(noise(0))
    shifts = [mix([clip], seed=seed, max_shift_bands=3) for seed in range(12)]
    floor = (np.log(1e-5) + 4.5) / 5
    empty = {(int((m[:4, 0] < floor + 0.01).sum()), int((m[-4:, 0] < floor + 0.01).sum())) for m in shifts}
    assert any(low >= 2 for low, _ in empty)
    assert any(high >= 2 for _, high in empty)


def test_a_floor_takes_the_place_of_an_offset() -> None:
    log_mel = LogMel(FRAMEWISE)
    clip = log_mel(np.concatenate([noise(0), np.zeros(32_000, np.float32)]))[0, 0].T.astype(np.float16)
    made = mix_log_mels([clip], 200, FRAMEWISE, PLAIN, np.random.default_rng(0)).log_mel
    assert np.isfinite(made).all()
    assert made.min() == pytest.approx((np.log(1e-7) + 4.5) / 5, abs=2e-3)
    assert np.allclose(np.sort(made, axis=1), np.sort(clip.T.astype(np.float32), axis=1), atol=2e-3)


def test_silence_gives_silence() -> None:
    silent = rows(np.zeros(32_000, np.float32))
    mixed = mix([silent, silent], gain_db=(5.0, 5.0))
    assert np.allclose(mixed, (np.log(1e-5) + 4.5) / 5, atol=2e-3)


def test_a_silent_mix_is_faint_noise_or_nothing_for_teacher_and_student_alike() -> None:
    mixes = [
        whole_mix([rows(noise(1))], seed=seed, p_silent=1.0, teacher_level_db=-24.0) for seed in range(60)
    ]
    assert all(one.parts == () for one in mixes)
    assert all(np.array_equal(one.log_mel, one.at_level) for one in mixes)
    loudest = LogMel()(noise(2, level=10 ** (-40 / 20)))[0, 0]
    powers = sorted(float(power(one.log_mel).mean()) for one in mixes)
    nothing = power(np.full(1, (np.log(1e-5) + 4.5) / 5)).item()
    assert powers[0] == pytest.approx(nothing, rel=1e-3)
    assert 30 * nothing < powers[-1] < 3 * power(loudest).mean()


def test_a_mix_says_where_it_is_silent() -> None:
    loud, soft = rows(noise(1, level=10 ** (-50 / 20))), rows(noise(1, level=10 ** (-70 / 20)))
    assert not whole_mix([loud]).silent.any()
    assert whole_mix([soft]).silent.all()
    assert whole_mix([soft], gain_db=(20.0, 20.0)).silent.sum() == 0
    sparse = whole_mix([np.concatenate([loud, rows(np.zeros(32_000, np.float32))])], 200)
    assert sparse.silent.sum() == pytest.approx(100, abs=3)


@pytest.mark.parametrize("seed", range(8))
def test_any_mix_is_finite_and_depends_on_the_generator_alone(seed: int) -> None:
    clips = [rows(noise(1)), rows(noise(2, seconds=0.1)), rows(noise(3, seconds=4))]
    options = MixOptions()
    first, again = (
        mix_log_mels(clips, 80, FRONT_END, options, np.random.default_rng(seed)) for _ in range(2)
    )
    assert np.isfinite(first.log_mel).all()
    assert (first.log_mel == again.log_mel).all()
    assert first.log_mel.dtype == np.float32
    for one, other in zip(first.parts, again.parts, strict=True):
        assert (one.audible == other.audible).all()
        assert (one.frames == other.frames).all()
        assert 0 <= one.audible.min() <= one.audible.max() <= 1
        assert 0 <= one.frames.min() <= one.frames.max() < len(clips[one.clip])


# ------------------------------------------------------------------ variations


def tone(band: int, n_frames: int, level: float = 1.0) -> np.ndarray:
    """A log-mel (n_frames, 128) with power in one band alone."""
    rows = np.full((n_frames, 128), 1e-5)
    rows[:, band] = level
    return ((np.log(rows) + 4.5) / 5).astype(np.float16)


def rising(n_frames: int) -> np.ndarray:
    """A log-mel whose power grows from frame to frame, by which frames are told apart."""
    powers = np.linspace(1, 2, n_frames)[:, np.newaxis] * np.ones(128)
    return ((np.log(powers) + 4.5) / 5).astype(np.float16)


def test_one_clip_follows_the_other() -> None:
    joints = set()
    for seed in range(12):
        mixed = whole_mix([tone(20, 400), tone(90, 400)], seed=seed, p_join=1.0)
        first, second = power(mixed.log_mel)[20] > 0.1, power(mixed.log_mel)[90] > 0.1
        joint = int(first.sum())
        assert first[:joint].all()
        assert second[joint:].all()
        assert not (first & second).any()
        assert [(part.audible > 0.5).tolist() for part in mixed.parts] == [first.tolist(), second.tolist()]
        joints.add(joint)
    assert 18 <= min(joints) < max(joints) <= 82
    assert len(joints) > 6


def test_a_clip_runs_backwards() -> None:
    clip = rising(100)
    mixed = whole_mix([clip], p_reverse=1.0, p_first_once=1.0, shortest_piece=1.0)
    assert (np.diff(mixed.parts[0].frames) == -1).all()
    levels = power(mixed.log_mel).mean(axis=0)
    assert levels[0] > 1.9 * levels[-1]


@pytest.mark.parametrize(("wide", "least", "most"), [(0.0, 1.15, 1.25), (1.0, 1.6, 2.0)])
def test_speed_and_shift_have_a_usual_and_a_wide_limit(wide: float, least: float, most: float) -> None:
    limits = {
        "max_speed": 1.25,
        "max_shift_bands": 5,
        "p_wide": wide,
        "wide_max_speed": 2.0,
        "wide_max_shift_bands": 16,
    }
    paces, shifts = [], []
    for seed in range(40):
        mixed = whole_mix([tone(60, 400)], 100, seed, **limits)
        frames = mixed.parts[0].frames
        paces.append((frames[-1] - frames[0]) / 99)
        shifts.append(int(power(mixed.log_mel)[:, 50].argmax()) - 60)
    assert least < max(paces) < most + 0.02
    assert 1 / (most + 0.02) < min(paces) < 1 / least
    assert max(map(abs, shifts)) in (range(10, 17) if wide else range(4, 6))
    assert min(shifts) < 0 < max(shifts)


def test_an_equaliser_is_smooth_and_differs_from_clip_to_clip() -> None:
    clip = rows(noise(0))
    plain = power(mix([clip])).mean(axis=1)
    gains = [
        10 * np.log10(power(mix([clip], seed=seed, p_equalizer=1.0)).mean(axis=1) / plain)
        for seed in range(12)
    ]
    # The level stays that of the first clip, so gains are compared within each mix.
    spreads = [float(np.std(one)) for one in gains]
    assert 1.0 < np.median(spreads) < 5.0
    assert max(float(np.abs(np.diff(one)).max()) for one in gains) < 2.5
    assert np.corrcoef(gains)[np.triu_indices(12, 1)].max() < 0.999


def test_reverberation_goes_on_after_a_sound_and_dies_away() -> None:
    tails = []
    for seed in range(8):
        mixed = whole_mix([tone(40, 30)], 300, seed, p_first_once=1.0, shortest_piece=1.0, p_reverb=1.0)
        level = power(mixed.log_mel)[40]
        start = int(np.flatnonzero(level > 0.3)[0])
        assert (level[:start] < 1e-4).all()
        after = level[start + 30 :]
        if len(after) > 40:
            audible = np.flatnonzero(after > 1e-4)
            tails.append(len(audible))
            assert (np.diff(after[audible]) < 0).all()
            falls = np.diff(np.log(after[after > 1e-3]))
            assert np.allclose(falls, falls[0], rtol=0.05)  # exponentially
            assert mixed.parts[0].audible[start + 30 : start + 33].all()
    assert len(tails) > 3
    assert len(set(tails)) > 3


def test_far_sounds_are_dull_and_noisy() -> None:
    clip = rows(noise(0))
    dull = []
    for seed in range(8):
        near, far = (power(mix([clip], seed=seed, p_far=p)).mean(axis=1) for p in (0.0, 1.0))
        ratio = far / near
        dull.append(ratio[110:].mean() / ratio[:10].mean())
        scatter = power(mix([tone(20, 100)], seed=seed, p_far=1.0))
        assert (scatter[60:] > 0).any()
    assert max(dull) < 0.7
    assert np.median(dull) < 0.3


def test_what_is_masked_is_not_audible() -> None:
    steady = [tone(20, 100), tone(90, 100)]
    levels = {}
    for below in (5.0, 15.0, 25.0):
        loud, soft = whole_mix(steady, below_db=(below, below)).parts
        assert (loud.audible == 1).all()
        levels[below] = float(soft.audible.mean())
    assert levels[5.0] == 1
    assert levels[15.0] == pytest.approx(0.5, abs=0.03)
    assert levels[25.0] == 0


def test_what_lies_far_below_its_peak_is_not_audible() -> None:
    clip = np.concatenate([tone(20, 50), tone(20, 50, level=1e-4)])  # 40 dB below
    (part,) = whole_mix([clip], p_first_once=1.0, shortest_piece=1.0).parts
    assert part.audible.tolist() == [1.0] * 50 + [0.0] * 50
    assert part.frames.tolist() == list(range(100))


def test_the_teacher_hears_every_mix_at_one_level() -> None:
    clip = rows(noise(0, level=0.1))
    quiet, loud = (whole_mix([clip], gain_db=(db, db), teacher_level_db=-24.0) for db in (-20.0, 6.0))
    assert (quiet.at_level == loud.at_level).all()
    assert power(loud.log_mel).sum() == pytest.approx(10**2.6 * power(quiet.log_mel).sum(), rel=0.02)
    same = whole_mix([clip], gain_db=(-20.0, -20.0))
    assert same.at_level is same.log_mel
