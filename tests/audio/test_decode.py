from __future__ import annotations

import errno
import gc
import io
import os
import re
import shutil
import stat
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import sounds

from dymn_cli.audio import decode
from dymn_cli.audio.decode import AudioReader, open_audio, spool
from dymn_cli.errors import (
    AudioNotFoundError,
    CorruptAudioError,
    EmptyAudioError,
    InputError,
    UnsupportedAudioError,
    UsageError,
)


def read(reader: AudioReader, block: int = 20_000) -> np.ndarray:
    with reader:
        return np.concatenate(list(reader.blocks(block)))


def drain(reader: AudioReader) -> AudioReader:
    """Read to the end, for what a reader knows then."""
    with reader:
        for _ in reader.blocks(20_000):
            pass
    return reader


@pytest.fixture
def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base installation, whatever is installed here."""
    monkeypatch.delitem(sys.modules, "dymn_cli.audio.media", raising=False)
    monkeypatch.delattr("dymn_cli.audio.media", raising=False)
    monkeypatch.setitem(sys.modules, "av", None)


LOSSLESS = [
    ("WAV", "PCM_U8", 2**-7),
    ("WAV", "PCM_16", 0),
    ("WAV", "PCM_24", 0),
    ("WAV", "PCM_32", 0),
    ("WAV", "FLOAT", 0),
    ("WAV", "DOUBLE", 0),
    ("WAVEX", "PCM_16", 0),
    ("RF64", "PCM_16", 0),
    ("W64", "PCM_24", 0),
    ("FLAC", "PCM_16", 0),
    ("AIFF", "PCM_16", 0),
    ("CAF", "PCM_24", 0),
    ("CAF", "ALAC_16", 0),
    ("AU", "PCM_16", 0),
    ("AU", "ULAW", 0.03),
]


@pytest.mark.parametrize(("container", "codec", "tolerance"), LOSSLESS)
def test_lossless_formats_come_back_as_they_were(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, container: str, codec: str, tolerance: float
) -> None:
    path = tmp_path / "chirp"
    soundfile.write(path, chirp_44k1_stereo, 44_100, format=container, subtype=codec)
    reader = open_audio(path)
    assert reader.info.rate_hz == 44_100
    assert reader.info.channels == 2
    assert reader.info.n_frames == len(chirp_44k1_stereo)
    assert reader.info.container == container.removesuffix("EX")
    assert reader.info.codec == codec
    samples = read(reader)
    assert samples.dtype == np.float32
    assert samples.shape == chirp_44k1_stereo.shape
    assert np.abs(samples - chirp_44k1_stereo).max() <= tolerance
    assert reader.warnings == []
    assert reader.duration_s == 2.5


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"),
    [("OGG", "VORBIS", 44_100), ("OGG", "OPUS", 48_000), ("MP3", "MPEG_LAYER_III", 44_100)],
)
def test_lossy_formats_keep_sound_and_length_whatever_the_blocks(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, container: str, codec: str, rate_hz: int
) -> None:
    path = tmp_path / "chirp"
    soundfile.write(path, chirp_44k1_stereo, rate_hz, format=container, subtype=codec)
    samples = read(open_audio(path), 1 << 20)
    assert samples.shape == chirp_44k1_stereo.shape
    left = np.corrcoef(samples[:, 0], chirp_44k1_stereo[:, 0])[0, 1]
    assert left > 0.99
    np.testing.assert_array_equal(read(open_audio(path), 3_333), samples)
    assert drain(open_audio(path)).warnings == []


def test_a_path_a_file_object_and_a_pipe_give_the_same(
    chirp_wav: Path, chirp_44k1_stereo: np.ndarray
) -> None:
    class Pipe(io.RawIOBase):
        """Bytes that come in small pieces and never again."""

        def __init__(self, data: bytes) -> None:
            self._data = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            return self._data.readinto(memoryview(buffer)[:1_000])

    data = chirp_wav.read_bytes()
    with chirp_wav.open("rb") as file:
        file.read(7)  # read from the start wherever it stands
        sources = [str(chirp_wav), chirp_wav, file, io.BytesIO(data), Pipe(data)]
        for source in sources:
            np.testing.assert_array_equal(read(open_audio(source)), chirp_44k1_stereo)  # type: ignore[arg-type]
        assert not file.closed


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_fifo_is_copied_first(tmp_path: Path, chirp_wav: Path, chirp_44k1_stereo: np.ndarray) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(chirp_wav.read_bytes()))
    writer.start()
    np.testing.assert_array_equal(read(open_audio(fifo)), chirp_44k1_stereo)
    writer.join()


def test_spooling_goes_to_disk_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "SPOOL_BYTES", 1_000)
    with spool(io.BytesIO(bytes(range(256)) * 10)) as copy:
        assert copy.fileno() >= 0
        assert copy.read() == bytes(range(256)) * 10


class Endless(io.RawIOBase):
    """Zeros, as of /dev/zero."""

    def __init__(self) -> None:
        self.n_read = 0

    def readable(self) -> bool:
        return True

    def read(self, n: int = -1, /) -> bytes:
        assert n >= 0, "all of it at once"
        self.n_read += n
        return bytes(n)


def test_an_endless_stream_is_refused_before_it_fills_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([200, 150, 90, 50, 0])
    monkeypatch.setattr(decode, "SPOOL_BYTES", 2 << 20)
    monkeypatch.setattr(decode.shutil, "disk_usage", lambda _: SimpleNamespace(total=1_000, free=next(free)))
    stream = Endless()
    with pytest.raises(InputError, match=r"more than [0-9,]+ bytes, and .* is almost full") as caught:
        spool(stream)  # type: ignore[arg-type]
    assert "TMPDIR" in str(caught.value.hint)
    assert next(free) == 50, "it stops when less than a tenth is free"


def test_a_stream_may_have_a_length_of_its_own() -> None:
    with spool(io.BytesIO(bytes(1_000)), most_bytes=1_000) as copy:
        assert len(copy.read()) == 1_000
    stream = Endless()
    with pytest.raises(InputError, match="more than 5,000,000 bytes") as caught:
        spool(stream, most_bytes=5_000_000)  # type: ignore[arg-type]
    assert "--max-input" in str(caught.value.hint)
    assert stream.n_read < 7_000_000


def test_a_copy_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    with (tmp_path / "copy").open("w+b") as file:
        assert spool(io.BytesIO(b"sound"), into=file) is file
        assert (file.read(), file.closed) == (b"sound", False)


def test_a_closed_stdin_is_an_input_error() -> None:
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(InputError, match="cannot copy the stream"):
        spool(closed)
    with pytest.raises(InputError, match="-: cannot be read"):
        open_audio(closed, name="-")


def test_a_name_that_is_not_utf8_opens(tmp_path: Path, chirp_wav: Path) -> None:
    path = tmp_path / os.fsdecode(b"take \xff [1].wav")
    try:
        chirp_wav.rename(path)
    except OSError:
        pytest.skip("this file system has no such names")
    assert drain(open_audio(path)).frames_read == 110_250


def test_the_suffix_does_not_matter(chirp_wav: Path) -> None:
    for suffix in (".raw", ".mp3", ".vox", ""):
        path = chirp_wav.with_suffix(suffix)
        path.write_bytes(chirp_wav.read_bytes())
        assert drain(open_audio(path)).info.container == "WAV"


def test_missing_and_forbidden_files_are_not_found(tmp_path: Path, chirp_wav: Path) -> None:
    with pytest.raises(AudioNotFoundError, match=r"gone\.wav: no such file"):
        open_audio(tmp_path / "gone.wav")
    with pytest.raises(AudioNotFoundError, match="cannot be opened"):
        open_audio("nul\0byte.wav")
    chirp_wav.chmod(0)
    try:
        if not os.access(chirp_wav, os.R_OK):
            with pytest.raises(AudioNotFoundError, match="no permission"):
                open_audio(chirp_wav)
    finally:
        chirp_wav.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_a_file_in_a_closed_folder_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as closed:
        closed.setattr("builtins.open", refuse)
        closed.setattr(os, "stat", refuse)
        with pytest.raises(AudioNotFoundError, match="no permission"):
            open_audio("closed/a.wav")


def test_a_folder_and_a_device_are_no_audio(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAudioError, match="a folder"):
        open_audio(tmp_path)
    if Path("/dev/zero").exists():
        with pytest.raises(UnsupportedAudioError, match="a device"):
            open_audio("/dev/zero")


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    for source in (path, io.BytesIO()):
        with pytest.raises(EmptyAudioError, match="an empty file"):
            open_audio(source)


def test_text_named_wav_is_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    for text in (b"this is no sound\n" * 100, "this neither, as Windows writes it\n".encode("utf-16") * 100):
        path.write_bytes(text)
        with pytest.raises(UnsupportedAudioError, match=r"text\.wav: not a known audio format"):
            open_audio(path)


@pytest.mark.parametrize("with_pyav", [True, False])
@pytest.mark.parametrize(("name", "scheme"), [("a.zip", "zip"), ("a.tar", "tar"), ("a.tar.gz", "tar")])
def test_an_archive_is_refused_with_the_name_that_reads_it(
    tmp_path: Path, name: str, scheme: str, with_pyav: bool, request: pytest.FixtureRequest
) -> None:
    if not with_pyav:
        request.getfixturevalue("without_pyav")
    path = tmp_path / name
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.flac", sounds.noise(32_000, level=0.1, seed=0), 32_000)
    kind = {"a.zip": "zip", "a.tar": "tar", "a.tar.gz": "gztar"}[name]
    shutil.make_archive(str(tmp_path / "a"), kind, tmp_path / "in")
    with pytest.raises(UnsupportedAudioError, match="not a known audio format") as caught:
        open_audio(path)
    assert caught.value.hint == f"{scheme}://::{path} reads the recordings in it"
    with pytest.raises(UnsupportedAudioError, match="not a known audio format") as caught:
        open_audio(io.BytesIO(path.read_bytes()), name="-")
    assert "reads the recordings in it" not in str(caught.value.hint)


@pytest.mark.usefixtures("without_pyav")
def test_without_pyav_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UnsupportedAudioError) as caught:
        open_audio(io.BytesIO(b"\0\0\0\x20ftypM4A " + bytes(100)), name="talk.m4a")
    assert str(caught.value) == "talk.m4a: not a known audio format"
    assert "pip install 'dymn[media]'" in (caught.value.hint or "")


def test_a_header_without_samples_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "header.wav"
    soundfile.write(path, np.zeros((0, 2)), 44_100)
    with pytest.raises(EmptyAudioError, match="no samples"):
        drain(open_audio(path))


def test_one_sample_is_too_short_and_50_ms_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    for n, enough in ((1, False), (2_204, False), (2_205, True)):
        soundfile.write(path, np.full(n, 0.1), 44_100)
        if enough:
            assert drain(open_audio(path)).frames_read == n
        else:
            with pytest.raises(EmptyAudioError, match="at least 50 ms"):
                drain(open_audio(path))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_no_recording_has_are_silence_and_located(tmp_path: Path, bad: float) -> None:
    samples = np.full((44_100, 2), 0.5, np.float32)
    samples[33_075, 1] = samples[40_000, 0] = bad
    path = tmp_path / "bad.wav"
    soundfile.write(path, samples, 44_100, subtype="FLOAT")
    reader = open_audio(path)
    heard = read(reader)
    samples[~(np.abs(samples) <= 1)] = 0
    np.testing.assert_array_equal(heard, samples)
    assert re.fullmatch(
        r"2 unusable samples were replaced by silence: the first is \S+, at 0\.750 s", reader.warnings[0]
    )
    with pytest.raises(CorruptAudioError, match=r"bad\.wav: damaged: .* at 0\.750 s"):
        drain(open_audio(path, strict=True))


def test_floats_that_were_not_scaled_are_named(tmp_path: Path) -> None:
    path = tmp_path / "unscaled.wav"
    samples = np.float32(sounds.noise(16_000, level=0.01) * 32_768)
    soundfile.write(path, samples, 32_000, subtype="FLOAT")
    reader = open_audio(path)
    np.testing.assert_array_equal(read(reader)[:, 0], samples)
    (warning,) = reader.warnings
    assert f"samples reach {np.abs(samples).max():,.0f}, full scale is 1" in warning
    soundfile.write(path, samples / 4_096, 32_000, subtype="FLOAT")  # as loud as anybody may mean it
    assert not drain(open_audio(path)).warnings


def test_a_double_beyond_float_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "huge.wav"
    soundfile.write(path, np.full(4_000, 1e200), 8_000, subtype="DOUBLE")
    with pytest.raises(
        CorruptAudioError, match=r"most samples are unusable: the first is infinite, at 0\.000 s"
    ):
        drain(open_audio(path))


@pytest.mark.parametrize(
    ("rate_hz", "accepted"), [(999, False), (1_000, True), (768_000, True), (768_001, False)]
)
def test_rates_from_1_to_768_khz(tmp_path: Path, rate_hz: int, accepted: bool) -> None:
    path = tmp_path / "rate.wav"
    soundfile.write(path, np.zeros(rate_hz // 10), rate_hz)
    if accepted:
        assert drain(open_audio(path)).duration_s == pytest.approx(0.1, rel=0.01)
    else:
        with pytest.raises(CorruptAudioError, match=f"{rate_hz} Hz"):
            open_audio(path)


def test_64_channels_and_not_one_more(tmp_path: Path) -> None:
    path = tmp_path / "many.wav"
    soundfile.write(path, np.zeros((1_000, 64)), 8_000)
    assert drain(open_audio(path)).info.channels == 64
    soundfile.write(path, np.zeros((1_000, 65)), 8_000)
    with pytest.raises(CorruptAudioError, match="65 channels"):
        open_audio(path)


TRUNCATED = ["WAV", "RF64", "AIFF", "AU", "W64", "FLAC", "MP3"]


@pytest.mark.parametrize("container", TRUNCATED)
def test_of_a_truncated_file_what_is_there_is_read_with_a_warning(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, container: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    soundfile.write(whole, chirp_44k1_stereo, 44_100, format=container)
    data = whole.read_bytes()
    cut = tmp_path / "truncated"
    cut.write_bytes(data[: len(data) * 6 // 10])
    reader = open_audio(cut)
    assert reader.info.n_frames == pytest.approx(110_250, abs=200)
    samples = read(reader, 1 << 20)
    assert 1.2 < len(samples) / 44_100 < 1.6
    np.testing.assert_allclose(samples[:40_000], read(open_audio(whole))[:40_000], atol=1e-6)
    assert len(reader.warnings) == 1
    assert "the header claims 2.50 s, 1." in reader.warnings[0]
    capfd.readouterr()


def test_a_truncated_ogg_lacks_its_end_mark(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> None:
    path = tmp_path / "cut.ogg"
    soundfile.write(path, np.tile(chirp_44k1_stereo, (4, 1)), 44_100)
    path.write_bytes(path.read_bytes()[:-20_000])
    reader = drain(open_audio(path))
    assert reader.warnings == ["cut off: the stream stops before its end mark"]
    assert 2 < reader.duration_s < 10


def test_garbage_behind_a_known_beginning_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "broken.wav"
    path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0")
    with pytest.raises(CorruptAudioError, match=r"broken\.wav: damaged"):
        open_audio(path)


def test_an_error_of_the_file_object_is_told_not_printed(
    chirp_wav: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Flaky(io.BytesIO):
        """A connection that breaks."""

        budget = 60_000

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            Flaky.budget -= len(data)
            if Flaky.budget < 0:
                raise ConnectionResetError("connection reset")
            return data

    with pytest.raises(InputError, match="far away: cannot be read: connection reset"):
        drain(open_audio(Flaky(chirp_wav.read_bytes()), name="far away"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.int8, -128, 127),
        (np.uint8, 0, 255),
        (np.int16, -(2**15), 2**15 - 1),
        (np.int32, -(2**31), 2**31 - 1),
    ],
)
def test_integer_arrays_are_scaled_by_their_full_range(dtype: type, low: int, high: int) -> None:
    samples = np.array([low, high] * 1_000, dtype)
    heard = read(open_audio((samples, 8_000)))
    assert heard.shape == (2_000, 1)
    assert heard[0, 0] == -1
    assert 0.99 < heard[1, 0] <= 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_arrays_are_taken_as_they_are_and_not_changed(dtype: type) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (2_000, 2)).astype(dtype)
    before = samples.copy()
    samples.flags.writeable = False
    np.testing.assert_array_equal(read(open_audio((samples, 8_000)), 300), samples.astype(np.float32))
    np.testing.assert_array_equal(samples, before)


def test_arrays_that_are_no_audio_are_refused() -> None:
    for samples in (
        np.zeros(8_000, bool),
        np.zeros(8_000, complex),
        np.zeros(8_000, np.int64),
        np.array(["a"]),
        np.zeros((2, 3, 4)),
        np.zeros((2, 8_000)),
        np.float32(1),
    ):
        with pytest.raises(UsageError):
            open_audio((samples, 8_000))  # type: ignore[arg-type]
    for rate in (44_100.5, "44100", None, -8_000, float("nan")):
        with pytest.raises(UsageError, match="whole number"):
            open_audio((np.zeros(8_000), rate))  # type: ignore[arg-type]
    for rate in (0, 999, 768_001, 10**9):
        with pytest.raises(UsageError, match=rf"sample rate of {rate} Hz, not between 1000 and 768000 Hz"):
            open_audio((np.zeros(8_000), rate))
    with pytest.raises(UsageError, match=r"not ndarray$") as caught:
        open_audio((8_000, np.zeros(8_000)))  # type: ignore[arg-type]
    assert caught.value.hint == "(array, rate_hz)"
    with pytest.raises(EmptyAudioError):
        open_audio((np.zeros(0), 8_000))
    assert open_audio((np.zeros(8_000), np.int64(8_000))).info.rate_hz == 8_000  # type: ignore[arg-type]


def test_samples_that_make_no_array_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match="no array of this Tensor") as caught:
        open_audio((torch.zeros(8_000, requires_grad=True), 8_000))
    assert caught.value.hint == "give tensor.detach().cpu().numpy()"
    tensor = torch.zeros(8_000, dtype=torch.bfloat16)
    with pytest.raises(UsageError, match="no array of this Tensor") as caught:
        open_audio((tensor, 8_000))
    assert caught.value.hint == "give tensor.detach().float().cpu().numpy()"
    assert open_audio((tensor.detach().float().cpu().numpy(), 8_000)).info.n_frames == 8_000
    with pytest.raises(UsageError, match=r"an array of shape \(1, 8000\)$"):
        open_audio((torch.zeros(1, 8_000), 8_000))


def test_a_ragged_list_is_told_of_its_rows() -> None:
    with pytest.raises(UsageError, match="no array of this list") as caught:
        open_audio(([[0.1, 0.2], [0.3]], 8_000))  # type: ignore[arg-type]
    assert "rows of a list must have one length" in (caught.value.hint or "")


def test_a_recording_of_hugging_face_is_told_which_two_of_its_values_are_wanted() -> None:
    audio = {"array": np.zeros(8_000), "sampling_rate": 8_000, "path": None}
    with pytest.raises(UsageError, match="not an audio source: dict") as caught:
        open_audio(audio)  # type: ignore[arg-type]
    assert caught.value.hint == 'give (audio["array"], audio["sampling_rate"])'
    assert open_audio((audio["array"], audio["sampling_rate"])).info.n_frames == 8_000  # type: ignore[arg-type]


def test_what_is_no_source_is_refused(chirp_wav: Path) -> None:
    for source in (None, 42, chirp_wav.read_bytes()):
        with pytest.raises(UsageError):
            open_audio(source)  # type: ignore[arg-type]
    with chirp_wav.open(encoding="latin-1") as text, pytest.raises(UsageError, match="binary"):
        open_audio(text)  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's list of open files")
def test_no_descriptor_is_left_open(tmp_path: Path, chirp_wav: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0")
    gc.collect()
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    drain(open_audio(chirp_wav))
    for _ in range(5):
        with pytest.raises(InputError):
            open_audio(broken)
        open_audio(chirp_wav).close()
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208
