from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.encode import BLOCK_FRAMES, write_audio, write_blocks
from dymn_cli.errors import OutputError, UsageError


def read(source: Path | io.BytesIO) -> tuple[np.ndarray, str, str]:
    with open_audio(source) as reader:
        samples = np.concatenate(list(reader.blocks(50_000)))
        return samples, reader.info.container, reader.info.codec


@pytest.mark.parametrize(
    ("suffix", "codec", "container", "decibels"),
    [
        ("wav", "PCM_16", "WAV", 80),
        ("wav", "FLOAT", "WAV", 140),
        ("flac", "PCM_24", "FLAC", 120),
        ("aif", "PCM_16", "AIFF", 80),
        ("ogg", "VORBIS", "OGG", 15),
        ("mp3", "MPEG_LAYER_III", "MP3", 15),
    ],
)
def test_what_is_written_is_read_back(
    tmp_path: Path,
    chirp_44k1_stereo: np.ndarray,
    suffix: str,
    codec: str,
    container: str,
    decibels: float,
) -> None:
    path = tmp_path / f"clip.{suffix}"
    write_audio(path, chirp_44k1_stereo, 44_100, codec=codec)
    samples, found_container, found_codec = read(path)
    assert (found_container, found_codec) == (container, codec)
    assert samples.shape == chirp_44k1_stereo.shape
    error = np.mean((samples - chirp_44k1_stereo) ** 2) + 1e-16
    assert 10 * np.log10(np.mean(chirp_44k1_stereo**2) / error) > decibels


@pytest.mark.parametrize("container", ["WAV", "AIFF", "CAF", "W64", "RF64"])
def test_files_of_floats_do_not_hold_the_time(container: str) -> None:
    memory = io.BytesIO()
    write_audio(memory, np.full(3_200, 0.5), 32_000, container=container, codec="FLOAT")
    assert b"peak" not in memory.getvalue().lower()


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_ogg_holds_no_chance(tmp_path: Path, codec: str) -> None:
    noise = sounds.flat_noise(20 * 48_000, level=0.1)
    written = io.BytesIO()
    write_audio(written, noise, 48_000, container="OGG", codec=codec)
    path = tmp_path / "clip.ogg"
    write_audio(path, noise, 48_000, codec=codec)
    assert path.read_bytes() == written.getvalue()
    with path.open("w+b") as file:
        write_blocks(file.fileno(), [noise[:5], noise[5:50_000], noise[50_000:]], 48_000, 1,
                     name="clip", container="OGG", codec=codec)  # fmt: skip
    assert path.read_bytes() == written.getvalue(), "in other blocks"

    by_libsndfile = tmp_path / "libsndfile.ogg"
    soundfile.write(by_libsndfile, noise[:BLOCK_FRAMES], 48_000, format="OGG", subtype=codec)
    write_audio(path, noise[:BLOCK_FRAMES], 48_000, codec=codec)
    assert (soundfile.read(path)[0] == soundfile.read(by_libsndfile)[0]).all()


def test_whole_numbers_and_floats_may_follow_one_another(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    blocks = [np.full(100, 1 << 30, np.int32), np.full(BLOCK_FRAMES, 0.25), np.full(3, -1 << 29, np.int32)]
    write_blocks(path, blocks, 32_000, 1, name="clip", container="WAV", codec="PCM_24")
    expected = np.repeat([0.5, 0.25, -0.25], [100, BLOCK_FRAMES, 3])
    np.testing.assert_allclose(soundfile.read(path)[0], expected, atol=1e-6)


def test_ogg_of_different_sound_can_be_chained() -> None:
    chain, serials = b"", set()
    for level in (0.1, 0.2):
        memory = io.BytesIO()
        write_audio(memory, sounds.flat_noise(48_000, level=level), 48_000, container="OGG", codec="OPUS")
        chain += memory.getvalue()
        serials.add(memory.getvalue()[14:18])
    assert len(serials) == 2, "RFC 3533, section 4: they tell the links of a chain apart"
    assert len(read(io.BytesIO(chain))[0]) == pytest.approx(96_000, abs=1_000)


def test_a_minute_of_vorbis_does_not_crash_the_encoder(tmp_path: Path) -> None:
    noise = sounds.flat_noise(60 * 22_050, level=0.1)
    write_audio(tmp_path / "minute.ogg", noise, 22_050)
    assert len(read(tmp_path / "minute.ogg")[0]) == len(noise)


def test_into_memory() -> None:
    memory = io.BytesIO()
    write_audio(memory, np.full(3_200, 0.5), 32_000, container="FLAC")
    samples, container, _ = read(memory)
    assert container == "FLAC"
    assert (samples == 0.5).all()


def test_loud_samples_are_clipped_not_wrapped(tmp_path: Path) -> None:
    write_audio(tmp_path / "loud.wav", np.full(3_200, 1.5), 32_000)
    assert read(tmp_path / "loud.wav")[0].min() > 0.99


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    silence = np.zeros(1_000)
    with pytest.raises(UsageError, match="suffix"):
        write_audio(tmp_path / "clip.xyz", silence, 32_000)
    with pytest.raises(UsageError, match="an open file has no suffix"):
        write_audio(io.BytesIO(), silence, 32_000)
    with pytest.raises(UsageError):
        write_audio(tmp_path / "clip.wav", silence, 32_000, codec="VORBIS")
    with pytest.raises(UsageError, match="only supports sample rates"):
        write_audio(tmp_path / "clip.mp3", silence, 192_000)
    with pytest.raises(UsageError, match="Vorbis does not hold 250000 Hz"):
        write_audio(tmp_path / "clip.ogg", silence, 250_000)
    with pytest.raises(OutputError, match="missing"):
        write_audio(tmp_path / "missing" / "clip.wav", silence, 32_000)
