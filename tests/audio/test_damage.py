"""Damage of every kind in every format: what is left is read to the sample, and what is missing is said."""

from __future__ import annotations

import io
import random
import re
import struct
import sys
from collections.abc import Callable

import numpy as np
import pytest
import sounds

from dymn_cli.audio import ogg
from dymn_cli.audio.damage import Damage
from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import to_mono_32k
from dymn_cli.audio.virtual_files import ByteWindow, SplicedFile
from dymn_cli.errors import CorruptAudioError, EmptyAudioError, InputError, UnsupportedAudioError

RATE = 16_000
SECONDS = 4
N = RATE * SECONDS
JUNK = random.Random(0).randbytes(4_000)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """(n,) int16: a chirp and noise, never silent."""
    chirp = sounds.sweep(200, 500, SECONDS, RATE, level=0.3)
    return np.round((chirp + sounds.noise(N, level=0.02)) * 32_767).astype(np.int16)


def file_of(sound: np.ndarray, container: str, codec: str = "PCM_16", rate_hz: int = RATE) -> bytes:
    return sounds.encoded(sound, rate_hz, container, codec)


def heard(data: bytes, block: int = 20_000) -> tuple[np.ndarray, list[str], int]:
    """Samples, warnings and rate."""
    with open_audio(io.BytesIO(data), name="x") as reader:
        samples = np.concatenate(list(reader.blocks(block)))
        return samples, reader.warnings, reader.info.rate_hz


def size_at(name: bytes, form: str, value: int, skip: int = 0) -> Callable[[bytes], bytes]:
    """Write a size behind the name of a chunk."""

    def change(data: bytes) -> bytes:
        at = data.index(name) + len(name) + skip
        return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]

    return change


def unfilled_ds64(data: bytes) -> bytes:
    """RF64 as a recorder leaves it that lost power."""
    at = data.index(b"ds64") + 8
    return data[:at] + bytes(24) + data[at + 24 :]


HALF = r"the header claims 2\.00 s, 4\.00 s are there"
SIZES = {
    "WAV half": ("WAV", size_at(b"data", "<I", N), HALF),
    "WAV none": ("WAV", size_at(b"data", "<I", 0), ""),
    "WAV tiny": ("WAV", size_at(b"data", "<I", 44), r"the header claims 0\.00 s, 4\.00 s are there"),
    "RF64 none": ("RF64", unfilled_ds64, ""),
    "W64 half": ("W64", size_at(b"data", "<Q", N + 24, 12), HALF),
    "W64 none": ("W64", size_at(b"data", "<Q", 24, 12), ""),
    "AIFF half": ("AIFF", size_at(b"SSND", ">I", N + 8), HALF),
    "AIFF none": ("AIFF", size_at(b"SSND", ">I", 0), ""),
    "AIFF unknown": ("AIFF", size_at(b"SSND", ">I", 0xFFFF_FFFF), ""),
    "AU half": ("AU", size_at(b".snd", ">I", N, 4), HALF),
    "AU none": ("AU", size_at(b".snd", ">I", 0, 4), ""),
    "CAF half": ("CAF", size_at(b"data", ">Q", N + 4), HALF),
    "CAF unknown": ("CAF", size_at(b"data", ">q", -1), ""),
    "CAF none": ("CAF", size_at(b"data", ">Q", 0), ""),
}


@pytest.mark.parametrize("case", SIZES)
def test_samples_are_read_whatever_the_header_claims(case: str, sound: np.ndarray) -> None:
    container, change, said = SIZES[case]
    samples, warnings, _ = heard(change(file_of(sound, container)))
    np.testing.assert_array_equal(samples[:, 0] * 32_768, sound)
    assert (len(warnings) == 1 and re.search(said, warnings[0])) if said else warnings == []


def test_sizes_that_have_wrapped_at_4_gib_are_read_to_the_end() -> None:
    class Sparse(io.RawIOBase):
        """A header, and 4 GiB and one second of zeros."""

        head = struct.pack(
            "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 2 * RATE, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16,
            b"data", 2 * RATE,
        )  # fmt: skip
        position = 0

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.position = offset + (0, self.position, len(self.head) + (1 << 32) + 2 * RATE)[whence]
            return self.position

        def tell(self) -> int:
            return self.position

        def read(self, n_bytes: int = -1) -> bytes:
            data = self.head[self.position : self.position + n_bytes].ljust(n_bytes, b"\0")
            data = data[: max(0, len(self.head) + (1 << 32) + 2 * RATE - self.position)]
            self.position += len(data)
            return data

    with open_audio(Sparse()) as reader:  # type: ignore[arg-type]
        assert reader.info.n_frames == (1 << 31) + RATE
        assert next(reader.blocks(1_000)).shape == (1_000, 1)


@pytest.mark.parametrize("behind", [JUNK, b"text, no samples. " * 200], ids=["noise", "text"])
@pytest.mark.parametrize("container", ["WAV", "W64", "AIFF", "AU", "CAF"])
def test_what_is_no_sound_behind_samples_is_left_out(
    container: str, behind: bytes, sound: np.ndarray
) -> None:
    samples, warnings, _ = heard(file_of(sound, container) + behind)
    np.testing.assert_array_equal(samples[:, 0] * 32_768, sound)
    assert warnings == [f"{len(behind):,} bytes behind the audio are left out: they are no samples"]


@pytest.mark.parametrize("container", ["WAV", "W64", "AIFF", "AU", "CAF", "FLAC"])
def test_joined_files_are_read_to_the_end_of_the_last(container: str, sound: np.ndarray) -> None:
    data = file_of(sound, container)
    samples, warnings, _ = heard(data + data)
    np.testing.assert_array_equal(samples[:, 0] * 32_768, np.tile(sound, 2))
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("container", "codec"),
    [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")],
)
def test_a_part_of_another_rate_and_with_more_channels_is_converted(
    container: str, codec: str, sound: np.ndarray
) -> None:
    stereo = file_of(np.stack([sound, sound], 1)[::2], container, codec, 32_000)
    samples, warnings, rate_hz = heard(file_of(sound, container, codec) + stereo)
    assert rate_hz == RATE
    assert samples.shape[1] == 1
    assert len(samples) / RATE == pytest.approx(SECONDS + SECONDS / 4, abs=0.2)
    assert any(re.match(r"the rate changes from 16,000 to 32,000 Hz at 4\.\d\d s", text) for text in warnings)


FRONTS = [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]


@pytest.mark.parametrize("junk", [JUNK, bytes(3_000)], ids=["noise", "zeros"])
@pytest.mark.parametrize(("container", "codec"), FRONTS)
def test_junk_in_front_is_left_out(container: str, codec: str, junk: bytes, sound: np.ndarray) -> None:
    data = file_of(sound, container, codec)
    whole, _, _ = heard(data)
    samples, warnings, _ = heard(junk + data)
    np.testing.assert_array_equal(samples, whole)
    assert warnings == [f"{len(junk):,} bytes in front of the audio are left out"]


# ---------------------------------------------------------------------- FLAC


def flac_hit(data: bytes, run: int) -> bytes:
    """One of several kinds of damage at a random place behind the header."""
    rng = random.Random(run)
    hit, at, n = bytearray(data), rng.randrange(500, len(data) - 3_000), rng.choice((1, 30, 2_000))
    match run % 4:
        case 0:
            hit[at] ^= 1 << rng.randrange(8)
        case 1:
            hit[at : at + n] = bytes(n)
        case 2:
            hit[at:at] = rng.randbytes(n)
        case 3:
            del hit[at : at + n]
    return bytes(hit)


@pytest.mark.parametrize("run", range(16))
def test_a_hit_flac_loses_the_frames_that_are_hit(run: int, sound: np.ndarray) -> None:
    """Every sample that comes is right and in its order, and at most the frames that were hit are missing."""
    data = file_of(sound, "FLAC")
    samples, warnings, _ = heard(flac_hit(data, run))
    got = np.round(samples[:, 0] * 32_768).astype(np.int64)
    frame = 4_096
    assert N - 3 * frame <= len(got) <= N
    same_front = np.cumprod(got == sound[: len(got)]).sum()
    same_back = np.cumprod(got[::-1] == sound[::-1][: len(got)]).sum()
    assert same_front + same_back >= N - 3 * frame
    assert len(warnings) >= 1
    assert re.match(r"\d+\.\d ms of audio at \d\.\d\d s could not be decoded", warnings[0])
    at_s = float(warnings[0].split(" at ")[1].split()[0])
    assert at_s == pytest.approx(same_front / RATE, abs=2 * frame / RATE)


def test_a_damaged_flac_is_the_same_whatever_the_blocks(sound: np.ndarray) -> None:
    for run in range(4):
        hit = flac_hit(file_of(sound, "FLAC"), run)
        first = heard(hit)
        for block in (333, 5_000, 1 << 20):
            other = heard(hit, block)
            np.testing.assert_array_equal(other[0], first[0])
            assert other[1] == first[1]


def test_flac_without_its_front_or_with_another_rate_in_it_is_read(sound: np.ndarray) -> None:
    data = file_of(sound, "FLAC")
    samples, warnings, rate_hz = heard(data[len(data) // 4 :])
    assert rate_hz == RATE
    assert 0.6 * N < len(samples) < 0.8 * N
    assert "the front of the stream is missing" in warnings[0]
    np.testing.assert_array_equal(samples[:, 0] * 32_768, sound[-len(samples) :])
    samples, warnings, rate_hz = heard(data[:19] + bytes((data[19] ^ 0x80,)) + data[20:])
    assert (len(samples), rate_hz) == (N, RATE)
    assert "its header is damaged" in warnings[0]


# ---------------------------------------------------------------------- MP3


@pytest.mark.parametrize("n_bytes", [300, 1_500, 5_000])
def test_a_hole_in_an_mp3_costs_little_more_than_itself(
    n_bytes: int, sound: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    data = file_of(sound, "MP3", "MPEG_LAYER_III")
    middle = len(data) // 2
    samples, warnings, _ = heard(data[:middle] + bytes(n_bytes) + data[middle + n_bytes :])
    lost_s = n_bytes / len(data) * SECONDS
    assert SECONDS - lost_s - 0.2 < len(samples) / RATE <= SECONDS
    assert re.search(r"of audio at (1\.9|2\.0)\d s could not be decoded", warnings[0])
    capfd.readouterr()


def test_an_mp3_in_a_wav_is_read_as_mp3(sound: np.ndarray) -> None:
    mp3 = file_of(sound, "MP3", "MPEG_LAYER_III")
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 8_000, 1, 0, 12, 1, 2, 288, 1, 0)
    rest = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(mp3)) + mp3
    samples, warnings, _ = heard(b"RIFF" + struct.pack("<I", len(rest)) + rest)
    assert len(samples) / RATE == pytest.approx(SECONDS, abs=0.2)
    assert warnings == []


# ---------------------------------------------------------------------- Ogg


def stamped(data: bytes, change: Callable[[int], int]) -> bytes:
    """An Ogg file with other time stamps."""
    out = bytearray(data)
    for page, _ in ogg.pages(ByteWindow(io.BytesIO(data)), 0):
        if page.granule > 0:
            struct.pack_into("<q", out, page.offset + 6, change(page.granule))
            out[page.offset + 22 : page.offset + 26] = bytes(4)
            check = ogg.checksum(bytes(out[page.offset : page.end]))
            struct.pack_into("<I", out, page.offset + 22, check)
    return bytes(out)


@pytest.mark.parametrize("shift", [-100_000, -3, 300, 100_000])
def test_opus_is_read_by_its_packets_whatever_their_time_stamps(shift: int, sound: np.ndarray) -> None:
    data = file_of(sound, "OGG", "OPUS")
    whole, _, rate_hz = heard(data)
    jitter = random.Random(1)
    for change in (lambda at: at + shift, lambda at: at + jitter.randrange(abs(shift) % 1_000 + 1)):
        samples, warnings, _ = heard(stamped(data, change))
        assert len(samples) / rate_hz == pytest.approx(len(whole) / rate_hz, abs=0.05)
        assert np.mean(samples**2) == pytest.approx(np.mean(whole**2), rel=0.05)
        assert warnings == []


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_an_ogg_page_that_is_damaged_is_said_and_left_out(codec: str, sound: np.ndarray) -> None:
    data = file_of(np.tile(sound, 4), "OGG", codec)
    found = [page for page, _ in ogg.pages(ByteWindow(io.BytesIO(data)), 0)]
    page = found[len(found) // 2]
    hit = data[: page.body + 9] + bytes((data[page.body + 9] ^ 1,)) + data[page.body + 10 :]
    whole, _, rate_hz = heard(data)
    samples, warnings, _ = heard(hit)
    lost_s = (len(whole) - len(samples)) / rate_hz
    assert 0.1 < lost_s < 4
    told = re.match(r"(\S+) (m?s) of audio at \d+\.\d\d s could not be decoded", warnings[0])
    assert told
    assert float(told[1]) / (1_000 if told[2] == "ms" else 1) == pytest.approx(lost_s, rel=0.1)


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_a_chain_of_the_same_serial_number_is_read_link_by_link(codec: str, sound: np.ndarray) -> None:
    data = file_of(sound, "OGG", codec)
    whole, _, rate_hz = heard(data)
    samples, _, _ = heard(data * 3)
    assert len(samples) / rate_hz == pytest.approx(3 * len(whole) / rate_hz, abs=0.05)
    np.testing.assert_allclose(samples[: len(whole)], whole, atol=1e-6)


# ---------------------------------------------------------------------- the rest


def test_valid_but_unsupported_is_never_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dymn_cli.audio.media", raising=False)
    monkeypatch.delattr("dymn_cli.audio.media", raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    fmt = struct.pack("<HHIIHH", 0x2000, 1, RATE, 8_000, 1, 0)
    rest = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", 4_000) + JUNK
    with pytest.raises(UnsupportedAudioError, match="coding 0x2000") as caught:
        open_audio(io.BytesIO(b"RIFF" + struct.pack("<I", len(rest)) + rest))
    assert "dymn[media]" in (caught.value.hint or "")


def test_zero_bytes_are_said_to_be_that() -> None:
    with pytest.raises(CorruptAudioError, match="nothing but zero bytes") as caught:
        open_audio(io.BytesIO(bytes(100_000)))
    assert caught.value.hint is None


def test_nothing_left_to_read_is_an_error(sound: np.ndarray) -> None:
    data = file_of(sound, "FLAC")
    with pytest.raises((CorruptAudioError, EmptyAudioError)), open_audio(io.BytesIO(data[:200])) as reader:
        list(reader.blocks(1_000))


def test_channels_that_cancel_are_said(sound: np.ndarray) -> None:
    for right, cancels in ((-sound, True), (sound, False), (np.roll(sound, 99), False), (sound * 0, False)):
        stereo = np.stack([sound, right], 1)
        with open_audio((stereo, RATE)) as reader:
            for _ in to_mono_32k(reader):
                pass
            assert ["--channel 0, or each" in text for text in reader.warnings] == ([True] if cancels else [])
        with open_audio((stereo, RATE)) as reader:
            for _ in to_mono_32k(reader, "1"):
                pass
            assert reader.warnings == []


def test_many_gaps_take_one_sentence() -> None:
    damage = Damage()
    for n in range(500):
        damage.gap(n, 0.01)
    assert damage.sentences() == ["5.00 s of audio in 500 places could not be decoded, the first at 0.00 s"]


def test_a_view_of_parts_reads_like_a_file() -> None:
    data = bytes(range(256)) * 40
    view = SplicedFile(io.BytesIO(data), [b"head", range(10, 2_000), range(2_000, 3_000), b"", range(5, 9)])
    expected = b"head" + data[10:3_000] + data[5:9]
    assert view.read() == expected
    assert view.seek(0, io.SEEK_END) == len(expected)
    for start, n in ((0, 3), (2, 10), (3_000, 500), (len(expected) + 5, 4)):
        view.seek(start)
        assert view.read(n) == expected[start : start + n]


def test_an_error_of_the_file_object_in_the_midst_of_repair_is_told(sound: np.ndarray) -> None:
    class Flaky(io.BytesIO):
        budget = 1_000_000

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            Flaky.budget -= len(data)
            if Flaky.budget < 0:
                raise RuntimeError("gone")
            return data

    hit = flac_hit(file_of(sound, "FLAC"), 1)
    for budget in range(len(hit) // 2, 3 * len(hit), len(hit) // 3):
        Flaky.budget = budget
        try:
            with open_audio(Flaky(hit), name="far away") as reader:
                list(reader.blocks(20_000))
        except InputError as exc:
            assert "far away: cannot be read: gone" in str(exc)
