"""The clips that ship: they are what the script makes, they are what they claim, and the model hears it."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli import Tagger
from dymn_cli.demo import DemoClip, demo_clips
from dymn_cli.demo import synthesise as syn
from dymn_cli.errors import OutputError
from dymn_cli.labels import Vocabulary

CLIPS = demo_clips()
each_clip = pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger(threads=1)


def samples_of(name: str) -> tuple[np.ndarray, int]:
    (clip,) = (clip for clip in CLIPS if clip.name == name)
    return soundfile.read(clip.path, dtype="float64")


# ---------------------------------------------------------------------- the files


def test_two_or_three_different_clips_with_names_of_their_own() -> None:
    assert len({clip.name for clip in CLIPS}) == len(CLIPS) == 3
    assert all(clip.description and "\n" not in clip.description for clip in CLIPS)


@each_clip
def test_a_clip_is_short_mono_and_not_clipped(clip: DemoClip) -> None:
    samples, rate_hz = soundfile.read(clip.path)
    assert samples.ndim == 1
    assert 3 <= len(samples) / rate_hz <= 10
    assert 0.1 < np.max(np.abs(samples)) < 0.9
    assert abs(samples[-1]) < 0.002  # no click at the end, nor where a short clip is repeated
    assert abs(samples[0]) < 0.02


def test_all_clips_together_are_small() -> None:
    assert sum(clip.path.stat().st_size for clip in CLIPS) < 400_000


def test_nothing_else_is_shipped_as_audio() -> None:
    shipped = {
        Path(entry.name)
        for entry in importlib.resources.files("dymn_cli.demo").iterdir()
        if not entry.name.endswith(".py") and entry.name != "__pycache__"
    }
    assert shipped == {Path(clip.path.name) for clip in CLIPS}


@each_clip
def test_the_script_makes_exactly_the_committed_samples(clip: DemoClip) -> None:
    committed, rate_hz = soundfile.read(clip.path, dtype="int16")
    assert rate_hz == syn.RATE_HZ
    np.testing.assert_array_equal(committed, syn.pcm16(syn.CLIPS[clip.path.name]()))


def test_the_script_writes_every_clip(tmp_path: Path) -> None:
    syn.write_clips(tmp_path)
    for clip in CLIPS:
        written, _ = soundfile.read(tmp_path / clip.path.name, dtype="int16")
        np.testing.assert_array_equal(written, soundfile.read(clip.path, dtype="int16")[0])


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        syn.write_clips(tmp_path / "missing")


def test_listing_the_clips_loads_no_numpy() -> None:
    code = "import sys; from dymn_cli.demo import demo_clips; demo_clips(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------- what the model says


@each_clip
def test_the_shipped_model_recognises_it(clip: DemoClip, tagger: Tagger) -> None:
    tags = tagger.tag(clip.path, top=5).tags
    assert tags[0].label in clip.labels
    assert set(clip.labels) <= {tag.label for tag in tags}


@each_clip
@pytest.mark.parametrize("gain", [0.7, 1.4])
@pytest.mark.parametrize("shift_s", [-0.37, 0.13])
def test_it_does_so_when_louder_softer_earlier_or_later(
    clip: DemoClip, tagger: Tagger, gain: float, shift_s: float
) -> None:
    samples, rate_hz = soundfile.read(clip.path, dtype="float32")
    n_shift = round(abs(shift_s) * rate_hz)
    shifted = samples[n_shift:] if shift_s < 0 else np.concatenate([np.zeros(n_shift, np.float32), samples])
    tags = tagger.tag((gain * shifted, rate_hz), top=1).tags
    assert tags[0].label in clip.labels


@each_clip
def test_its_labels_are_labels(clip: DemoClip) -> None:
    vocabulary = Vocabulary.audioset()
    assert clip.labels == tuple(vocabulary.find(label).name for label in clip.labels)


# ---------------------------------------------------------------------- physics


@pytest.mark.parametrize("frequency_hz", [82.407, 123.471, 246.942, 440.0])
def test_a_string_is_in_tune_within_three_cents(frequency_hz: float) -> None:
    string = syn.plucked_string(frequency_hz, 2.0, seed=5)
    near = np.fft.rfft(string * np.hanning(len(string)), 1 << 20)
    axis_hz = np.fft.rfftfreq(1 << 20, 1 / syn.RATE_HZ)
    around = (axis_hz > 0.9 * frequency_hz) & (axis_hz < 1.1 * frequency_hz)
    found_hz = axis_hz[around][np.argmax(np.abs(near[around]))]
    assert abs(1200 * np.log2(found_hz / frequency_hz)) < 3


def test_a_string_loses_its_treble_before_its_fundamental() -> None:
    string = syn.plucked_string(200.0, 2.0, seed=5)
    early, late = (np.abs(np.fft.rfft(part)) for part in (string[:16_000], string[-16_000:]))
    fundamental, tenth = slice(98, 103), slice(998, 1003)  # bins of 2 Hz
    kept = late[fundamental].max() / early[fundamental].max()
    assert 0.2 < kept < 0.6  # 60 dB in 10 s is 9 dB in the 1.5 s between the two
    assert late[tenth].max() / early[tenth].max() < kept / 5


def test_the_guitar_ends_on_a_g_major_chord() -> None:
    samples, rate_hz = samples_of("guitar")
    spectrum = np.abs(np.fft.rfft(samples[-rate_hz:] * np.hanning(rate_hz)))  # bins of 1 Hz

    def strength(note_hz: float) -> float:
        return float(spectrum[round(note_hz) - 2 : round(note_hz) + 3].max())

    in_chord = [98.0, 123.5, 146.8, 196.0, 246.9]  # G2 B2 D3 G3 B3
    out_of_chord = [110.0, 130.8, 164.8, 220.0, 233.1]  # A2 C3 E3 A3 B flat 3
    assert min(map(strength, in_chord)) > 5 * max(map(strength, out_of_chord))


def test_the_bird_sings_where_songbirds_do() -> None:
    samples, rate_hz = samples_of("birdsong")
    power = np.abs(np.fft.rfft(samples)) ** 2
    axis_hz = np.fft.rfftfreq(len(samples), 1 / rate_hz)
    assert power[(axis_hz > 2000) & (axis_hz < 7000)].sum() > 0.99 * power.sum()


def test_the_siren_sweeps_as_the_regulation_says() -> None:
    samples, rate_hz = samples_of("siren")
    hop = 160
    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::hop]
    pitch_hz = np.array([fundamental_hz(frame, rate_hz) for frame in frames])
    wail_hz, yelp_hz = pitch_hz[: 3 * rate_hz // hop], pitch_hz[-rate_hz // hop :]
    assert wail_hz.min() == pytest.approx(650, rel=0.02)
    assert wail_hz.max() == pytest.approx(1500, rel=0.02)
    half_a_wail_s = np.argmax(wail_hz) * hop / rate_hz
    assert 10 <= 60 / (2 * half_a_wail_s) <= 30
    assert 150 <= 60 * rate_hz / hop / period_of(yelp_hz) <= 250


def period_of(values: np.ndarray) -> int:
    """The shift by which a swinging series is most like itself, at least past its first dip."""
    swing = values - values.mean()
    likeness = np.array([np.corrcoef(swing[lag:], swing[: len(swing) - lag])[0, 1] for lag in range(1, 110)])
    dip = int(np.argmin(likeness[:60]))
    return dip + 1 + int(np.argmax(likeness[dip:]))


def fundamental_hz(frame: np.ndarray, rate_hz: int) -> float:
    """Pitch of a frame between 500 and 2000 Hz, from the highest peak of its autocorrelation."""
    finer = 8  # parts of a sample
    spectrum = np.fft.rfft(frame * np.hanning(len(frame)), 2 * len(frame))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, finer * 2 * len(frame))
    lags = np.arange(finer * rate_hz // 2000, finer * rate_hz // 500)
    return float(finer * rate_hz / lags[np.argmax(correlation[lags])])
