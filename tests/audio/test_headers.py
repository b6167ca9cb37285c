"""Headers that announce less than the file holds: what libsndfile alone cuts short is read to the end."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds

from dymn_cli.audio import chunks
from dymn_cli.audio.decode import AudioReader, open_audio
from dymn_cli.errors import CorruptAudioError, EmptyAudioError

RATE = 44_100


def pcm_wav(samples: np.ndarray, data_size: int, riff_size: int) -> bytes:
    """A mono 16-bit WAV file whose sizes are as a program leaves them that cannot go back."""
    return (
        struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE")
        + struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
        + struct.pack("<4sI4s", b"LIST", 4, b"INFO")
        + struct.pack("<4sI", b"data", data_size)
        + samples.astype("<i2").tobytes()
    )


def drain(reader: AudioReader) -> np.ndarray:
    with reader:
        return np.concatenate(list(reader.blocks(30_000)))


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(5).integers(-20_000, 20_000, RATE)


@pytest.mark.parametrize("data_size", [0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF])
@pytest.mark.parametrize("riff_size", [0, 0xFFFF_FFFF])
def test_a_streamed_wav_is_read_to_its_end_without_a_warning(
    tmp_path: Path, noise: np.ndarray, data_size: int, riff_size: int
) -> None:
    path = tmp_path / "streamed.wav"
    path.write_bytes(pcm_wav(noise, data_size, riff_size))
    for source in (path, io.BytesIO(path.read_bytes())):
        reader = open_audio(source)
        np.testing.assert_array_equal(drain(reader)[:, 0] * 32_768, noise)
        assert reader.info.n_frames == len(noise)
        assert reader.warnings == []


def test_an_empty_data_chunk_before_another_chunk_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.write_bytes(pcm_wav(np.zeros(0), 0, 52) + struct.pack("<4sI", b"LIST", 400) + b"INFO" + bytes(396))
    with pytest.raises(EmptyAudioError, match="no samples"):
        drain(open_audio(path))


def test_a_flac_stream_of_unknown_length_keeps_its_last_block(tmp_path: Path, noise: np.ndarray) -> None:
    path = tmp_path / "streamed.flac"
    soundfile.write(path, noise.astype(np.int16), RATE)
    data = bytearray(path.read_bytes())
    assert data[4] & 0x7F == 0  # STREAMINFO, with the number of samples in the last 36 bits before the MD5
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    reader = open_audio(path)
    assert reader.info.n_frames is None
    np.testing.assert_array_equal(drain(reader)[:, 0] * 32_768, noise)
    assert reader.warnings == []


@pytest.fixture(scope="module")
def vbr_mp3(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """6 s of variable rate: the first half is loud noise, the second silence."""
    loud = np.random.default_rng(6).uniform(-0.7, 0.7, 3 * RATE)
    path = tmp_path_factory.mktemp("mp3") / "vbr.mp3"
    with soundfile.SoundFile(path, "w", RATE, 1, compression_level=0.5, bitrate_mode="VARIABLE") as file:
        file.write(np.concatenate([loud, np.zeros(3 * RATE)]))
    data = path.read_bytes()
    assert data.count(b"Xing") == 1
    return data


def frames_of(data: bytes, tmp_path: Path) -> tuple[int, int]:
    """Samples that libsndfile alone would give, and that we give."""
    path = tmp_path / "some.mp3"
    path.write_bytes(data)
    return len(soundfile.read(path)[0]), len(drain(open_audio(path)))


def test_an_mp3_with_a_frame_count_is_believed(vbr_mp3: bytes, tmp_path: Path) -> None:
    assert frames_of(vbr_mp3, tmp_path) == (6 * RATE, 6 * RATE)


def test_a_variable_mp3_without_a_frame_count_is_read_to_its_end(vbr_mp3: bytes, tmp_path: Path) -> None:
    alone, ours = frames_of(vbr_mp3.replace(b"Xing", bytes(4)), tmp_path)
    assert abs(alone - 6 * RATE) > RATE, "the guess is bad, or this test shows nothing"
    assert ours == pytest.approx(6 * RATE, abs=4 * 1152)


def test_tags_at_both_ends_are_no_audio(vbr_mp3: bytes, tmp_path: Path) -> None:
    id3v2 = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048)
    picture = bytes(range(256)) * 400
    ape = picture + struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(picture) + 32, 1, 0)
    id3v1 = b"TAG" + b"title".ljust(125, b"\0")
    for data in (vbr_mp3, vbr_mp3.replace(b"Xing", bytes(4))):
        plain = len(drain(open_audio(io.BytesIO(data))))
        assert len(drain(open_audio(io.BytesIO(id3v2 + data + ape + id3v1)))) == plain


def test_joined_mp3_parts_are_read_to_the_end_of_the_last(
    vbr_mp3: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    alone, ours = frames_of(vbr_mp3 * 3, tmp_path)
    assert alone == 6 * RATE
    assert ours == pytest.approx(18 * RATE, abs=9 * 1152)
    capfd.readouterr()


def test_a_doubtful_mp3_is_said_to_have_no_known_length(vbr_mp3: bytes) -> None:
    with open_audio(io.BytesIO(vbr_mp3.replace(b"Xing", bytes(4)))) as reader:
        assert reader.info.n_frames is None
        assert reader.info.duration_s is None


def test_a_truncated_mp3_without_a_frame_count_loses_little(vbr_mp3: bytes, tmp_path: Path) -> None:
    data = vbr_mp3.replace(b"Xing", bytes(4))
    loud_end = data.rindex(b"\xff\xfb", 0, len(data) * 6 // 10)
    _, whole = frames_of(data[:loud_end], tmp_path)
    _, broken = frames_of(data[: loud_end + 100], tmp_path)
    assert whole > 2 * RATE
    assert whole - broken <= 16 * 1152


def id3v2(size: int) -> bytes:
    return b"ID3\4\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "FLAC", "CAF", "RF64", "W64", "AU", "OGG"])
@pytest.mark.parametrize("tags", [id3v2(20), id3v2(5_000) + id3v2(0)], ids=["one", "two"])
def test_tags_in_front_of_other_formats_cost_no_sound(
    container: str, tags: bytes, noise: np.ndarray, tmp_path: Path
) -> None:
    """libsndfile refuses some formats behind a tag, and from memory it cuts others short by its length."""
    codec = "VORBIS" if container == "OGG" else "PCM_16"
    plain = sounds.encoded(noise.astype(np.int16), RATE, container, codec)
    path = tmp_path / "tagged"
    path.write_bytes(tags + plain)
    expected = drain(open_audio(io.BytesIO(plain)))
    for source in (path, io.BytesIO(tags + plain)):
        reader = open_audio(source)
        np.testing.assert_array_equal(drain(reader), expected)
        assert reader.warnings == []


def test_hundreds_of_tags_are_not_followed_but_searched(noise: np.ndarray) -> None:
    sound = pcm_wav(noise, 2 * len(noise), 48 + 2 * len(noise))
    reader = open_audio(io.BytesIO(id3v2(0) * 101 + sound))
    assert len(drain(reader)) == len(noise)
    assert reader.warnings == ["1,010 bytes in front of the audio are left out"]
    with pytest.raises(CorruptAudioError, match="hundreds of tags"):
        open_audio(io.BytesIO(id3v2(0) * 200_000 + sound))


class Counted(io.BytesIO):
    """Knows how often it was read."""

    n_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.n_reads += 1
        return super().read(size)


def test_a_file_of_nothing_but_chunks_is_given_up() -> None:
    """Each takes two calls of the operating system: a gigabyte of them would take minutes."""
    stream = Counted(b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 100_000)
    assert chunks.pieces(stream) == []
    assert stream.n_reads <= 100


def test_sizes_that_no_file_has_are_the_end(tmp_path: Path) -> None:
    """Operating systems refuse to move to such positions; that is no failure of the disk."""
    path = tmp_path / "endless.caf"
    desc = struct.pack(">d4sIIIII", 8_000, b"alac", 0, 2, 1, 1, 16)
    head = b"caff\0\1\0\0desc" + struct.pack(">Q", len(desc)) + desc
    path.write_bytes(head + b"free" + struct.pack(">Q", (1 << 63) - 9) + bytes(100))
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(CorruptAudioError, match="damaged"):
            open_audio(source)
