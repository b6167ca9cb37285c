from __future__ import annotations

import hashlib
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sounds
from numpy.typing import NDArray

from dymn_cli.errors import EmptyAudioError, UsageError
from dymn_cli.frontend import FrontEndConfig, LogMel
from dymn_cli.frontend.melbank import FRAMEWISE

Samples = NDArray[np.float32]
Arrays = dict[str, NDArray[np.float64]]
SILENCE = (math.log(1e-5) + 4.5) / 5


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel()


def many_sines(rate_hz: int) -> NDArray[np.float64]:
    """A second of 400 sines below 6.8 kHz that fades in and out: the same sound at any rate from 16 kHz."""
    rng = np.random.default_rng(3)
    frequency_hz = rng.uniform(100, 6_800, 400)
    level = 0.01 * rng.uniform(0.2, 1, 400)
    phase = rng.uniform(0, 2 * np.pi, 400)
    time_s = np.arange(rate_hz) / rate_hz
    waves = np.sin(2 * np.pi * frequency_hz[:, None] * time_s + phase[:, None])
    return np.sin(np.pi * time_s) ** 2 * (level @ waves)


class TestAgainstTheFrontEndOfEfficientSED:
    """16 kHz, 7 kHz, and a floor instead of an offset.

    `golden/framewise.npz` comes from a run of the public repository theMoro/EfficientSED (commit 7bef42e):
    the `mel_forward` of its `FrameMNWrapper`, in float64 and evaluation mode, of `many_sines(16_000)`; a few
    of the 100 frames, at `frames`. In single precision it is 2e-4 away from that.
    """

    def test_many_sines(self) -> None:
        ours = LogMel(FRAMEWISE)(many_sines(32_000))[0, 0]
        assert ours.shape == (128, 100)
        with np.load(Path(__file__).parent / "golden" / "framewise.npz") as golden:
            np.testing.assert_allclose(ours[:, golden["frames"]], golden["mel64"], rtol=0, atol=5e-5)

    def test_silence_lies_on_the_floor(self) -> None:
        silent = LogMel(FRAMEWISE)(np.zeros(32_000))
        np.testing.assert_allclose(silent, (math.log(1e-7) + 4.5) / 5, rtol=0, atol=1e-6)


def band_of(frequency_hz: float, n_mels: int = 128) -> int:
    """The band whose centre is nearest on the mel scale from 0 to 15 kHz."""
    spacing = math.log(1 + 15_000 / 700) / (n_mels + 1)
    return round(math.log(1 + frequency_hz / 700) / spacing) - 1


class TestAgainstThePublishedFrontEnd:
    def test_a_short_signal(self, log_mel: LogMel, golden_1000: Arrays) -> None:
        ours = log_mel(golden_1000["samples"])[0, 0]
        assert ours.shape == (128, 4)
        np.testing.assert_allclose(ours, golden_1000["mel64"], rtol=0, atol=2e-5)

    @pytest.mark.parametrize("name", ["synthetic1000", "synthetic16000", "synthetic96017"])
    def test_synthetic_signals(self, log_mel: LogMel, published: Arrays, name: str) -> None:
        ours = log_mel(published[f"{name}/samples"])[0, 0]
        np.testing.assert_allclose(ours, published[f"{name}/mel64"], rtol=0, atol=5e-5)

    def test_silence(self, log_mel: LogMel, published: Arrays) -> None:
        np.testing.assert_allclose(
            log_mel(np.zeros(32_000))[0, 0], published["silence/mel"], rtol=0, atol=1e-6
        )

    def test_a_recording_resampled_from_44100_hz(
        self, log_mel: LogMel, published: Arrays, clip: Callable[[str], Samples]
    ) -> None:
        ours = log_mel(clip("metro_station-paris"))[0, 0]
        np.testing.assert_allclose(ours, published["metro_station-paris/mel"], rtol=0, atol=3e-5)
        np.testing.assert_allclose(ours, published["metro_station-paris/mel64"], rtol=0, atol=3e-5)

    @pytest.mark.parametrize("name", ["speech", "music", "typing"])
    def test_recordings(
        self, log_mel: LogMel, published: Arrays, clip: Callable[[str], Samples], name: str
    ) -> None:
        stored = published[f"{name}/mel"]  # float16: half a unit in its last place is the best it can say
        half_unit = np.spacing(np.abs(stored)).astype(np.float32) / 2
        assert (np.abs(log_mel(clip(name))[0, 0] - stored) <= half_unit + 3e-5).all()


class TestShape:
    def test_ten_seconds_are_1000_frames(self, log_mel: LogMel, pink_10s: Samples) -> None:
        mel = log_mel(pink_10s)
        assert mel.shape == (1, 1, 128, 1000)
        assert mel.dtype == np.float32
        assert log_mel.n_frames(320_000) == 1000

    @pytest.mark.parametrize("n_samples", [514, 800, 801, 1600, 3201, 22_720, 22_721, 23_040, 23_041])
    def test_n_frames_announces_the_shape(self, log_mel: LogMel, pink_10s: Samples, n_samples: int) -> None:
        mel = log_mel(np.stack([pink_10s[:n_samples]] * 2))
        assert mel.shape == (2, 1, 128, log_mel.n_frames(n_samples))
        assert np.isfinite(mel).all()

    @pytest.mark.parametrize("n_samples", [0, 1, 2, 513])
    def test_too_short_an_input_is_empty_audio(self, log_mel: LogMel, n_samples: int) -> None:
        with pytest.raises(EmptyAudioError, match=f"{n_samples} samples.*514"):
            log_mel(np.zeros(n_samples, np.float32))

    def test_no_windows_give_no_rows(self, log_mel: LogMel) -> None:
        assert log_mel(np.zeros((0, 32_000), np.float32)).shape == (0, 1, 128, 100)

    def test_three_dimensions_are_refused(self, log_mel: LogMel) -> None:
        with pytest.raises(UsageError, match="3 dimensions"):
            log_mel(np.zeros((1, 1, 32_000), np.float32))


class TestWhatItHears:
    @pytest.mark.parametrize("frequency_hz", [440.0, 1000.0, 3141.0, 8000.0, 14_000.0])
    def test_a_tone_is_loudest_in_its_band(self, log_mel: LogMel, frequency_hz: float) -> None:
        mel = log_mel(sounds.sine(frequency_hz, 1))[0, 0, :, 10:90]
        assert np.abs(mel.argmax(axis=0) - band_of(frequency_hz)).max() <= 1

    @pytest.mark.parametrize("n_mels", [40, 64, 256])
    def test_a_tone_is_loudest_in_its_band_of_a_variant(self, n_mels: int) -> None:
        mel = LogMel(FrontEndConfig(n_mels=n_mels))(sounds.sine(3141.0, 1))[0, 0, :, 10:90]
        assert np.abs(mel.argmax(axis=0) - band_of(3141.0, n_mels)).max() <= 1

    def test_ten_times_louder_adds_the_same_everywhere(self, log_mel: LogMel, pink_10s: Samples) -> None:
        quiet, loud = log_mel(pink_10s)[0, 0, 20:], log_mel(10 * pink_10s)[0, 0, 20:]
        well_above_the_offset = quiet > (math.log(1e-1) + 4.5) / 5
        assert well_above_the_offset.mean() > 0.3
        np.testing.assert_allclose((loud - quiet)[well_above_the_offset], 2 * math.log(10) / 5, atol=1e-4)

    def test_silence_is_the_floor(self, log_mel: LogMel) -> None:
        np.testing.assert_allclose(log_mel(np.zeros(5_000)), SILENCE, rtol=0, atol=1e-6)

    def test_a_constant_is_nearly_removed_by_the_pre_emphasis(self, log_mel: LogMel) -> None:
        assert log_mel(np.full(32_000, 0.5))[0, 0, 20:].max() < SILENCE + 0.05

    def test_a_click_is_heard_in_the_frames_that_reach_it_only(self, log_mel: LogMel) -> None:
        samples = np.zeros(32_000, np.float32)
        samples[16_000] = 0.5
        loud = np.flatnonzero(log_mel(samples)[0, 0].max(axis=0) > SILENCE + 0.1)
        assert loud.tolist() == [49, 50, 51]  # 16,000 / 320 = 50, and the window reaches 400 to each side

    def test_a_shift_by_the_hop_shifts_the_frames(self, log_mel: LogMel, pink_10s: Samples) -> None:
        whole, later = log_mel(pink_10s)[0, 0], log_mel(pink_10s[3200:])[0, 0]
        np.testing.assert_allclose(later[:, 2:-1], whole[:, 12:-1], rtol=0, atol=1e-5)
        assert np.abs(later[:, 0] - whole[:, 10]).max() > 1e-3  # mirrored there, not continued

    def test_half_the_hop_puts_frames_in_between(self, log_mel: LogMel, pink_10s: Samples) -> None:
        finer = LogMel(FrontEndConfig(n_hop=160))(pink_10s)[0, 0]
        assert finer.shape == (128, 2000)
        np.testing.assert_allclose(finer[:, ::2], log_mel(pink_10s)[0, 0], rtol=0, atol=1e-5)


class TestSameBits:
    def test_in_a_batch_as_alone(self, log_mel: LogMel, pink_10s: Samples) -> None:
        windows = np.stack([pink_10s[start : start + 60_000] for start in (0, 7, 99_000, 260_000)])
        together = log_mel(windows)
        for window, row in zip(windows, together, strict=True):
            np.testing.assert_array_equal(log_mel(window)[0], row)

    @pytest.mark.parametrize("n_frames", [2, 71, 72, 73, 144, 145])
    def test_whatever_comes_after(self, log_mel: LogMel, pink_10s: Samples, n_frames: int) -> None:
        n_samples = 320 * (n_frames - 1) + 401
        cut = log_mel(pink_10s[:n_samples])[0, 0]
        np.testing.assert_array_equal(cut[:, : n_frames - 1], log_mel(pink_10s)[0, 0, :, : n_frames - 1])

    def test_from_strided_and_double_precision_input(self, log_mel: LogMel, pink_10s: Samples) -> None:
        stereo = np.stack([pink_10s, -pink_10s], axis=1)
        np.testing.assert_array_equal(log_mel(stereo[:, 0]), log_mel(pink_10s))
        np.testing.assert_array_equal(log_mel(pink_10s.astype(np.float64)), log_mel(pink_10s))

    def test_from_several_threads_at_once(self, log_mel: LogMel, pink_10s: Samples) -> None:
        windows = [pink_10s[start : start + 150_000] for start in range(0, 160_000, 10_000)]
        alone = [log_mel(window) for window in windows]
        with ThreadPoolExecutor(8) as pool:
            for ours, expected in zip(pool.map(log_mel, windows * 3), alone * 3, strict=True):
                np.testing.assert_array_equal(ours, expected)

    def test_after_a_damaged_input(self, pink_10s: Samples) -> None:
        log_mel = LogMel()
        expected = log_mel(pink_10s[:2_000])
        assert np.isnan(log_mel(np.full(40_000, np.nan, np.float32))).all()
        np.testing.assert_array_equal(log_mel(pink_10s[:2_000]), expected)
        with np.errstate(all="ignore"):
            log_mel(np.resize(np.array([1e25, -1e25], np.float32), 40_000))  # its power overflows
        np.testing.assert_array_equal(log_mel(pink_10s[:2_000]), expected)  # and without a warning

    def test_after_the_way_to_a_worker_process(self, pink_10s: Samples) -> None:
        log_mel = LogMel(FrontEndConfig(n_mels=64))
        log_mel(pink_10s)
        there = pickle.loads(pickle.dumps(log_mel))
        np.testing.assert_array_equal(there(pink_10s), log_mel(pink_10s))

    def test_with_any_number_of_blas_threads(self, repository: Path, pink_10s: Samples) -> None:
        code = (
            "import sys, numpy as np; from dymn_cli.frontend import LogMel\n"
            "x = np.frombuffer(sys.stdin.buffer.read(), np.float32)\n"
            "sys.stdout.buffer.write(LogMel()(x).tobytes())"
        )
        digests = set()
        for threads in ("1", "4"):
            env = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
            done = subprocess.run(
                [sys.executable, "-c", code],
                input=pink_10s.tobytes(),
                capture_output=True,
                check=True,
                env=env,
                cwd=repository,
                timeout=60,
            )
            digests.add(hashlib.sha256(done.stdout).hexdigest())
        assert len(digests) == 1


def test_the_input_is_left_as_it_was(log_mel: LogMel, pink_10s: Samples) -> None:
    samples = pink_10s.copy()
    samples.flags.writeable = False
    log_mel(samples)
    np.testing.assert_array_equal(samples, pink_10s)
