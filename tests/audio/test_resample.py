from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds
import soxr

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, channels_32k, response, to_mono_32k
from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.errors import InputError, UsageError


def mono(samples: np.ndarray, rate_hz: int, channel: str = "mix") -> np.ndarray:
    with open_audio((samples, rate_hz)) as reader:
        return np.concatenate(list(to_mono_32k(reader, channel)))


@pytest.fixture(scope="module")
def anti_phase_stereo() -> np.ndarray:
    """Two channels that cancel each other."""
    wave = sounds.flat_noise(40_000, level=0.9, seed=1)
    return np.stack([wave, -wave], axis=1)


def test_the_rate_is_the_one_the_models_know() -> None:
    assert RATE_HZ == 32_000


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_streamed_is_the_same_as_at_once(rate_hz: int) -> None:
    noise = sounds.flat_noise(300_000, seed=2)
    np.testing.assert_array_equal(mono(noise, rate_hz), soxr.resample(noise, rate_hz, 32_000, quality="HQ"))


def test_a_tone_keeps_its_pitch_and_level() -> None:
    tone = sounds.sine(1_000, 2, 48_000)
    heard = mono(tone, 48_000)
    expected = sounds.sine(1_000, 2)
    np.testing.assert_allclose(heard[500:-500], expected[500:-500], atol=1e-5)


def test_32_khz_passes_untouched() -> None:
    noise = sounds.flat_noise(200_000, seed=3)
    np.testing.assert_array_equal(mono(noise, 32_000), noise)


def test_mix_is_the_mean_of_the_channels(anti_phase_stereo: np.ndarray) -> None:
    assert not mono(anti_phase_stereo, 44_100).any()
    surround = sounds.flat_noise((5_000, 6), seed=4)
    np.testing.assert_allclose(mono(surround, 32_000), surround.mean(axis=1, dtype=np.float64), atol=2e-7)


def test_one_channel_can_be_chosen(anti_phase_stereo: np.ndarray) -> None:
    np.testing.assert_array_equal(mono(anti_phase_stereo, 32_000, "0"), anti_phase_stereo[:, 0])
    np.testing.assert_array_equal(mono(anti_phase_stereo, 32_000, "1"), anti_phase_stereo[:, 1])


def test_a_channel_that_is_not_there_is_a_fault_of_this_input(anti_phase_stereo: np.ndarray) -> None:
    with open_audio((anti_phase_stereo, 32_000), name="two.wav") as reader:
        with pytest.raises(InputError, match=r"two\.wav: no channel 2, it has channels 0 to 1"):
            to_mono_32k(reader, "2")
        for nonsense in ("left", "-1", "1.0", "", "²", "each"):
            with pytest.raises(UsageError):
                to_mono_32k(reader, nonsense)


def test_all_channels_in_one_pass_equal_each_on_its_own(chirp_44k1_stereo: np.ndarray) -> None:
    with open_audio((chirp_44k1_stereo, 44_100)) as reader:
        both = np.concatenate(list(channels_32k(reader)))
    assert both.shape == (80_000, 2)
    for number in (0, 1):
        np.testing.assert_array_equal(both[:, number], mono(chirp_44k1_stereo, 44_100, str(number)))


@pytest.mark.parametrize(("rate_hz", "channels"), [(1_000, 1), (1_000, 64), (768_000, 64)])
def test_blocks_are_bounded_before_and_after(rate_hz: int, channels: int) -> None:
    silence = np.broadcast_to(np.zeros((), np.int8), (max(rate_hz // 4, 5_000), channels))
    with open_audio((silence, rate_hz)) as reader:
        decoded: list[int] = []
        read_blocks = reader.blocks

        def spy(n_frames: int) -> Iterator[np.ndarray]:
            for block in read_blocks(n_frames):
                decoded.append(block.size)
                yield block

        reader.blocks = spy  # type: ignore[method-assign]
        sizes = [block.size for block in channels_32k(reader)]
    assert len(decoded) > 1
    assert max(decoded) <= 1 << 17
    assert max(sizes) <= 1 << 21  # soxr collects some input before it gives anything
    assert sum(sizes) == pytest.approx(len(silence) * channels * 32_000 / rate_hz, rel=1e-3)


def test_50_ms_of_any_rate_is_enough_for_a_window() -> None:
    for rate_hz in (1_000, 8_000, 11_025, 22_050, 44_100, 48_000, 768_000):
        shortest = np.zeros(-(-rate_hz // 20), np.float32)
        with open_audio((shortest, rate_hz)) as reader:
            (window,) = windows(to_mono_32k(reader), WindowPlan(pad="none"))
        assert len(window.samples) >= 1_600


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "silence_48k.wav"

    def peak(minutes: int) -> int:
        soundfile.write(path, np.zeros(1, np.int16), 48_000)
        data_bytes = minutes * 60 * 48_000 * 2
        with path.open("r+b") as file:
            file.seek(40)
            file.write(data_bytes.to_bytes(4, "little"))
            file.truncate(44 + data_bytes)  # sparse: takes no room
        gc.collect()
        tracemalloc.start()
        with open_audio(path) as reader:
            n = sum(1 for _ in windows(to_mono_32k(reader), WindowPlan()))
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert n == minutes * 6
        return top

    peak(1)  # what is imported and kept on the first use does not count
    short, long = peak(1), min(peak(4), peak(4))  # garbage that waits to be collected may add to one
    assert long < 8 << 20
    assert long < short + (1 << 20)


def test_the_metro_clip_is_resampled_as_the_checkpoints_were_fed(shared: Path) -> None:
    path = shared / "audio" / "metro_station-paris.wav"
    samples, rate_hz = soundfile.read(path, dtype="float32")
    with open_audio(path) as reader:
        assert (reader.info.rate_hz, reader.info.codec) == (44_100, "PCM_24")
        heard = np.concatenate(list(to_mono_32k(reader)))
    assert len(heard) == 320_000
    np.testing.assert_array_equal(heard, soxr.resample(samples, rate_hz, 32_000, quality="HQ"))


# ---------------------------------------------------------------------- for whoever resamples elsewhere


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 96_000])
def test_the_response_is_what_soxr_does_to_any_signal(rate_hz: int) -> None:
    """Its rows and columns are the samples of a stretch, and what becomes of them."""
    found = response(rate_hz)
    assert found is not None
    reach, n_out = (len(found.matrix) - found.period) // 2, found.matrix.shape[1]
    assert n_out * rate_hz == found.period * RATE_HZ
    noise = sounds.flat_noise(9 * found.period + 4 * reach, seed=6)
    first = -(-reach // found.period) + 1  # the first stretch that is far enough from the start
    stretch = noise[first * found.period - reach :][: len(found.matrix)]
    expected = soxr.resample(noise, rate_hz, RATE_HZ, quality="HQ")[first * n_out :][:n_out]
    np.testing.assert_allclose(stretch @ found.matrix, expected, atol=3e-6)


@pytest.mark.parametrize("rate_hz", [32_000, 12_345, 44_101, 1])
def test_where_there_is_nothing_to_do_or_no_simple_ratio_there_is_no_response(rate_hz: int) -> None:
    assert response(rate_hz) is None


def test_somebody_else_may_resample() -> None:
    samples = sounds.flat_noise((5_000, 2), seed=7)
    with open_audio((samples, 44_100)) as reader:
        got = np.concatenate(list(to_mono_32k(reader, "1", lambda blocks: (2 * block for block in blocks))))
    np.testing.assert_array_equal(got, 2 * samples[:, 1])
    with open_audio((samples, 44_100)) as reader:
        got = np.concatenate(list(channels_32k(reader, lambda blocks: (2 * block for block in blocks))))
    np.testing.assert_array_equal(got, 2 * samples)
