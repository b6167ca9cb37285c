from __future__ import annotations

import io
import re
import struct
import tracemalloc
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.audio.decode import AudioReader, open_audio
from dymn_cli.audio.excerpts import Excerpts
from dymn_cli.cli.views.info import probe
from dymn_cli.errors import CorruptAudioError, InputError, UnsupportedAudioError
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Analysis

av = pytest.importorskip("av", reason="needs the media extra")

from dymn_cli.audio.media import frame_samples  # noqa: E402

CODECS = {"m4a": "aac", "aac": "aac", "wma": "wmav2", "mka": "pcm_s16le", "mp4": "aac", "ac3": "ac3"} | {
    "mkv": "pcm_s16le",
    "wmv": "wmav2",
    "ts": "mp2",
}


def write_media(
    path: Path,
    samples: np.ndarray,
    rate_hz: int = 44_100,
    *,
    video: bool = False,
    video_s: int = 1,
    late_s: float = 0.0,
    pause: tuple[float, float] = (0.0, 0.0),
    lost: Sequence[int] = (),
    n_tracks: int = 1,
) -> None:
    """Encode (n, channels) floats with PyAV, with a picture track where asked for.

    The sound has time stamps from `late_s` on, and those after `pause[0]` seconds are later by `pause[1]`;
    its packets of the numbers `lost` are left out.
    """
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=25) if video else None
        layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
        tracks = []
        for _ in range(n_tracks if samples.size else 0):
            tracks.append(container.add_stream(CODECS[path.suffix[1:]], rate=rate_hz, layout=layout))
            tracks[-1].bit_rate = 128_000
        if pictures is not None:
            pictures.width = pictures.height = 64
            for _ in range(25 * video_s):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode(None))
        for number, sound in enumerate(tracks):
            planes = np.ascontiguousarray(samples.T * 0.5**number, np.float32)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
            resampler = av.AudioResampler(
                sound.codec_context.format, layout, rate_hz, sound.codec_context.frame_size or 1024
            )
            for n, part in enumerate((*resampler.resample(frame), *resampler.resample(None))):
                if part.pts is None or n in lost:
                    continue
                is_behind = pause[1] and part.pts >= pause[0] * rate_hz
                part.pts += round((late_s + (pause[1] if is_behind else 0.0)) * rate_hz)
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))


def read(reader: AudioReader) -> np.ndarray:
    with reader:
        return np.concatenate(list(reader.blocks(20_000)))


@pytest.mark.parametrize("suffix", ["m4a", "aac", "wma", "mka", "ac3"])
def test_media_files_sound_as_they_should(tmp_path: Path, chirp_44k1_stereo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"chirp.{suffix}"
    write_media(path, chirp_44k1_stereo)
    reader = open_audio(path)
    samples = read(reader)
    assert (reader.info.rate_hz, reader.info.channels) == (44_100, 2)
    assert reader.info.codec == CODECS[suffix]
    assert reader.warnings == []
    assert len(samples) == pytest.approx(110_250, abs=4_096)
    power = np.abs(np.fft.rfft(samples[-80_000:, 1])) ** 2
    assert np.argmax(power) * 44_100 / 80_000 == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(np.sqrt(np.mean(chirp_44k1_stereo**2)), rel=0.05)
    np.testing.assert_array_equal(read(open_audio(io.BytesIO(path.read_bytes()))), samples)


def test_an_m4a_has_the_length_of_its_track(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> None:
    path = tmp_path / "chirp.m4a"
    write_media(path, chirp_44k1_stereo)
    for block in (1_000, 110_000, 110_250, 1 << 20):
        with open_audio(path) as reader:
            assert reader.info.n_frames == 110_250
            assert sum(len(part) for part in reader.blocks(block)) == 110_250


def test_blocks_are_as_small_as_asked(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> None:
    path = tmp_path / "chirp.m4a"
    write_media(path, chirp_44k1_stereo)
    with open_audio(path) as reader:
        sizes = [len(block) for block in reader.blocks(700)]
    assert set(sizes[:-1]) == {700}


def test_the_sound_of_a_video_is_read(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> None:
    path = tmp_path / "film.mp4"
    write_media(path, chirp_44k1_stereo, video=True)
    assert len(read(open_audio(path))) == 110_250


def test_a_silent_video_has_no_audio_stream(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    write_media(path, np.zeros((0, 1)), video=True)
    with pytest.raises(UnsupportedAudioError, match=r"silent\.mp4: no audio stream"):
        open_audio(path)


def test_of_a_damaged_m4a_only_the_damaged_packets_are_lost(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray
) -> None:
    path = tmp_path / "broken.m4a"
    write_media(path, np.tile(chirp_44k1_stereo, (4, 1)))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4_000] = np.random.default_rng(0).bytes(4_000)
    path.write_bytes(data)
    reader = open_audio(path)
    assert len(read(reader)) / 44_100 == pytest.approx(9.8, abs=0.2)
    assert re.search(r"of audio .* could not be decoded", reader.warnings[0])
    with pytest.raises(CorruptAudioError, match=r"broken\.m4a: damaged: .* could not be decoded"):
        read(open_audio(path, strict=True))


def test_a_change_of_rate_and_channels_on_the_way_is_converted(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray
) -> None:
    parts = []
    for rate_hz, samples in ((44_100, chirp_44k1_stereo), (22_050, chirp_44k1_stereo[::2, 1:])):
        path = tmp_path / f"{rate_hz}.aac"
        write_media(path, samples, rate_hz)
        parts.append(path.read_bytes())
    joined = tmp_path / "joined.aac"
    joined.write_bytes(b"".join(parts))
    reader = open_audio(joined)
    samples = read(reader)
    assert reader.info.channels == 2
    assert len(samples) / 44_100 == pytest.approx(5.0, abs=0.15)
    assert re.match(r"the rate changes from 44,100 to 22,050 Hz at 2\.\d\d s", reader.warnings[0])
    power = np.abs(np.fft.rfft(samples[-80_000:, 0])) ** 2
    assert np.argmax(power) * 44_100 / 80_000 == pytest.approx(440, abs=1)


def test_a_stream_that_begins_later_ends_nothing(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV stumbles over a stream that a broadcast gains on the way, and goes on when it is asked again."""
    path = tmp_path / "broadcast.m4a"
    write_media(path, chirp_44k1_stereo)
    whole = read(open_audio(path))
    opened = av.open

    class Stumbling:
        """A container that breaks off after some packets, the first two times."""

        def __init__(self, *args: object, **options: object) -> None:
            self._container = opened(*args, **options)
            self._stumbles = 2

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def demux(self, stream: object) -> Iterator[object]:
            for n, packet in enumerate(self._container.demux(stream)):
                yield packet
                if n == 20 and self._stumbles:
                    self._stumbles -= 1
                    raise IndexError("list index out of range")

    monkeypatch.setattr(av, "open", Stumbling)
    np.testing.assert_array_equal(read(open_audio(path)), whole)


def test_frames_of_many_channels_have_no_more_than_these() -> None:
    """Damaged AAC claims dozens; PyAV's own conversion reads on behind them and may crash."""
    planes = np.random.default_rng(0).random((43, 1024), np.float32)
    frame = av.AudioFrame(format="fltp", layout="43 channels", samples=1024)
    for plane, values in zip(frame.planes[:43], planes, strict=True):
        plane.update(np.resize(values, plane.buffer_size // 4).tobytes())
    np.testing.assert_array_equal(frame_samples(frame), planes.T)


def test_formats_and_codings_of_old_games_are_not_let_in() -> None:
    """Their readers may take the process down, as ADX does: it divides by what stands in the header."""
    adx = b"\x80\0\0\x20\3\x12\6\2\0\0\xbb\x80\0\0\x25\x80\1\xf4\3" + bytes(15) + b"(c)CRI" + bytes(4_000)
    with pytest.raises(UnsupportedAudioError):
        open_audio(io.BytesIO(adx))


def test_a_playlist_opens_no_other_file(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that looks like a playlist must not make us read what it names, here or on the network."""
    write_media(tmp_path / "secret.aac", chirp_44k1_stereo)
    monkeypatch.chdir(tmp_path)
    target = (tmp_path / "secret.aac").as_uri()
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n"
    concat = "ffconcat version 1.0\nfile secret.aac\n"
    for text in (hls, concat):
        path = tmp_path / "innocent.wav"
        path.write_text(text)
        for source in (path, io.BytesIO(text.encode())):
            with pytest.raises(UnsupportedAudioError):
                open_audio(source)


def test_an_error_of_the_file_object_is_told(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    class Flaky(io.BytesIO):
        """A disk that fails behind its first megabyte, scaled down."""

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if self.tell() > 100_000 and self.armed:
                raise OSError("disk on fire")
            return data

    path = tmp_path / "long.m4a"
    write_media(path, np.tile(chirp_44k1_stereo, (8, 1)))
    file = Flaky(path.read_bytes())
    file.armed = False  # type: ignore[attr-defined]
    reader = open_audio(file, name="tape")
    file.armed = True  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="tape: cannot be read: disk on fire"):
        read(reader)
    assert capfd.readouterr() == ("", "")


def said_lengths(warning: str) -> re.Match[str]:
    """What the header of a truncated file claims, and what is there, in seconds."""
    said = re.fullmatch(
        r"truncated or damaged: the header claims (\d+\.\d\d) s, (\d\.\d\d) s are there", warning
    )
    assert said
    return said


@pytest.mark.parametrize("video", [True, False])
def test_what_is_missing_of_a_truncated_asf_file_is_said(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, video: bool
) -> None:
    """FFmpeg would guess the length of such a file from its size."""
    path = tmp_path / "film.wmv"
    write_media(path, np.tile(chirp_44k1_stereo, (4, 1)), video=video, video_s=10)
    reader = open_audio(path, strict=True)
    n_whole = len(read(reader))
    assert reader.info.n_frames is not None
    assert reader.info.n_frames == pytest.approx(n_whole, abs=4_096)
    assert reader.warnings == []
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = open_audio(path)
    n_read = len(read(reader))
    said = said_lengths(reader.warnings[-1])
    assert float(said[1]) == pytest.approx(10.0, abs=0.1)
    assert float(said[2]) == pytest.approx(n_read / 44_100, abs=0.2)


@pytest.mark.parametrize(
    ("field", "value"),
    [(64, 0), (64, 10), (80, 1 << 40), (88, 1)],
    ids=["none", "short", "late", "broadcast"],
)
def test_an_asf_file_may_not_know_its_length(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, field: int, value: int
) -> None:
    """FFmpeg tells lengths below zero for damaged ones."""
    path = tmp_path / "chirp.wma"
    write_media(path, chirp_44k1_stereo)
    data = bytearray(path.read_bytes())
    at = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + field
    size = 4 if field == 88 else 8
    data[at : at + size] = value.to_bytes(size, "little")
    path.write_bytes(data)
    reader = open_audio(path)
    assert len(read(reader)) == pytest.approx(len(chirp_44k1_stereo), abs=4_096)
    assert reader.info.n_frames is None
    assert reader.warnings == []


@pytest.mark.parametrize("tag", [b"DURATION", b"XURATION"], ids=["tagged", "untagged"])
@pytest.mark.parametrize("sound_s", [10.0, 2.5], ids=["as long", "shorter"])
def test_what_is_missing_of_a_truncated_mkv_with_pictures_is_said(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, tag: bytes, sound_s: float
) -> None:
    """Matroska has one length for pictures and sound, and only some programs tag that of the sound."""
    path = tmp_path / "film.mkv"
    n_parts = round(sound_s / 2.5)
    write_media(path, np.tile(chirp_44k1_stereo, (n_parts, 1)), video=True, video_s=10)
    data = path.read_bytes().replace(b"DURATION", tag)
    path.write_bytes(data)
    claimed_s = sound_s if tag == b"DURATION" else 10.0
    with open_audio(path, strict=True) as reader:
        assert reader.info.n_frames is not None
        assert reader.info.n_frames / 44_100 == pytest.approx(claimed_s, abs=0.1)
        assert sum(map(len, reader.blocks(20_000))) == pytest.approx(sound_s * 44_100, abs=2)
    assert (reader.warnings, reader.remarks) == ([], ())
    path.write_bytes(data[: int(len(data) * 0.4)])
    reader = open_audio(path)
    n_read = len(read(reader))
    assert n_read < sound_s * 44_100
    said = said_lengths(reader.warnings[-1])
    assert float(said[1]) == pytest.approx(claimed_s, abs=0.1)
    assert float(said[2]) == pytest.approx(n_read / 44_100, abs=0.2)
    with pytest.raises(CorruptAudioError, match="truncated"):
        read(open_audio(path, strict=True))


@pytest.mark.parametrize("tag", [b"DURATION", b"XURATION"], ids=["tagged", "untagged"])
def test_a_subtitle_that_stands_longer_than_all_else_is_no_damage(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, tag: bytes
) -> None:
    plain, path = tmp_path / "plain.mkv", tmp_path / "film.mkv"
    write_media(plain, chirp_44k1_stereo, video=True, late_s=1.0)
    text = b"1\n00:00:00,500 --> 00:00:20,000\nThe End\n"
    with (
        av.open(str(plain)) as film,
        av.open(io.BytesIO(text), format="srt") as titles,
        av.open(str(path), "w") as out,
    ):
        tracks = {stream: out.add_stream_from_template(stream) for stream in (*titles.streams, *film.streams)}
        for packet in chain(titles.demux(), film.demux()):
            if packet.dts is not None:
                packet.stream = tracks[packet.stream]
                out.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"DURATION", tag))
    reader = open_audio(path, strict=True)
    assert len(read(reader)) == 44_100 + len(chirp_44k1_stereo)
    assert reader.warnings == []


@pytest.mark.parametrize("video", [True, False])
def test_a_length_that_ffmpeg_guesses_is_no_claim(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, video: bool
) -> None:
    """A recording that ends at once has no length in its header; FFmpeg divides its size by the bit rates."""
    path = tmp_path / "live.mkv"
    write_media(path, np.tile(chirp_44k1_stereo, (4, 1)), video=video, video_s=10)
    data = path.read_bytes().replace(b"DURATION", b"XURATION")
    data = data.replace(b"\x44\x89\x88", b"\x44\x81\x88")
    path.write_bytes(data)
    reader = open_audio(path, strict=True)
    assert len(read(reader)) == 4 * len(chirp_44k1_stereo)
    assert reader.info.n_frames is None
    assert reader.warnings == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "wmv", "ts"])
def test_sound_that_starts_after_the_pictures_has_the_times_of_a_player(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"late.{suffix}"
    write_media(path, chirp_44k1_stereo, video=True, video_s=8, late_s=3.0)
    reader = open_audio(path, strict=True)
    samples = read(reader)
    assert len(samples) / 44_100 == pytest.approx(5.5, abs=0.1)
    assert np.flatnonzero(np.abs(samples[:, 1]) > 0.02)[0] / 44_100 == pytest.approx(3.0, abs=0.05)
    assert reader.warnings == []
    assert re.fullmatch(r"the sound starts at (3\.0|2\.9)\d s: silence comes before it", reader.remarks[0])
    if suffix == "mkv":
        np.testing.assert_array_equal(samples[3 * 44_100 :], chirp_44k1_stereo)
    np.testing.assert_array_equal(read(open_audio(io.BytesIO(path.read_bytes()))), samples)
    with Excerpts(str(path)) as excerpts:
        cut = np.concatenate(list(excerpts.blocks(130_000, 150_000)))
    np.testing.assert_array_equal(cut, samples[130_000:150_000])


def test_more_sound_than_an_mkv_claims_is_said(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> None:
    path = tmp_path / "film.mkv"
    write_media(path, np.tile(chirp_44k1_stereo, (4, 1)), video=True, video_s=10)
    path.write_bytes(path.read_bytes().replace(b"00:00:10.", b"00:00:08."))
    reader = open_audio(path)
    assert len(read(reader)) == 4 * len(chirp_44k1_stereo)
    assert reader.warnings == ["the header claims 8.00 s, 10.00 s are there"]


def test_late_sound_that_is_cut_off_is_said(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> None:
    path = tmp_path / "late.mkv"
    write_media(path, chirp_44k1_stereo, video=True, video_s=1, late_s=3.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        CorruptAudioError, match=r"truncated or damaged: the header claims 5\.50 s, 4\.\d\d s are"
    ):
        read(open_audio(path, strict=True))


@pytest.mark.parametrize(
    ("suffix", "video", "late_s"), [("mp4", True, 0.1), ("mkv", True, 0.1), ("mka", False, 3.0)]
)
def test_small_offsets_and_those_of_sound_alone_change_nothing(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, suffix: str, video: bool, late_s: float
) -> None:
    path, plain = tmp_path / f"late.{suffix}", tmp_path / f"plain.{suffix}"
    write_media(path, chirp_44k1_stereo, video=video, video_s=4, late_s=late_s)
    write_media(plain, chirp_44k1_stereo, video=video, video_s=4)
    reader = open_audio(path, strict=True)
    samples, expected = read(reader), read(open_audio(plain))
    assert len(samples) == pytest.approx(len(expected), abs=2_048)
    assert np.flatnonzero(np.abs(samples[:, 1]) > 0.02)[0] < 3_000
    assert (reader.warnings, reader.remarks) == ([], ())


def test_no_time_stamp_fills_the_memory_or_days(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> None:
    path = tmp_path / "late.mkv"
    write_media(path, chirp_44k1_stereo, video=True, late_s=600.0)
    with open_audio(path) as reader:
        tracemalloc.start()
        n_read = sum(map(len, reader.blocks(20_000)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert n_read == 600 * 44_100 + len(chirp_44k1_stereo)
    assert peak < 20 << 20
    write_media(path, chirp_44k1_stereo, video=True, late_s=200_000.0)
    reader = open_audio(path)
    np.testing.assert_array_equal(read(reader), chirp_44k1_stereo)
    assert reader.warnings[0].startswith("the sound claims to start after more than a day")


@pytest.mark.parametrize("video", [True, False])
def test_silence_stands_for_sound_that_time_stamps_leave_out(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray, video: bool
) -> None:
    path = tmp_path / "paused.mkv"
    write_media(path, chirp_44k1_stereo, video=video, video_s=8, pause=(1.0, 4.0))
    reader = open_audio(path)
    samples = read(reader)
    at = 44 * 1024  # of the first frame from 1 s on
    np.testing.assert_array_equal(samples[:at], chirp_44k1_stereo[:at])
    assert len(samples) == pytest.approx(len(chirp_44k1_stereo) + 4 * 44_100, abs=100)
    on = at + np.flatnonzero(samples[at:, 0])[0]
    assert on == pytest.approx(at + 4 * 44_100, abs=100)  # Matroska counts in milliseconds
    np.testing.assert_array_equal(samples[on : on + 60_000], chirp_44k1_stereo[at : at + 60_000])
    assert reader.warnings == ["4.00 s of sound at 1.02 s are missing: silence instead"]


def test_lost_packets_that_are_short_add_up(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> None:
    """As in a recorded call, which loses a packet now and then; each is shorter than starts are inexact."""
    path, sound = tmp_path / "call.mkv", np.tile(chirp_44k1_stereo, (4, 1))
    write_media(path, sound, lost=[n for n in range(400) if n % 40 in (37, 38, 39)])
    reader = open_audio(path)
    samples = read(reader)
    assert len(samples) / 44_100 == pytest.approx(len(sound) / 44_100, abs=0.25)
    last = chirp_44k1_stereo[-30 * 1024 :]
    np.testing.assert_array_equal(samples[-len(last) :], last)
    silent = np.flatnonzero(~samples.any(axis=1)) / 44_100
    assert [round(silent[0], 1), round(silent[-1], 1)] == [3.4, 7.4]
    assert reader.warnings == [
        "556.2 ms of sound in 2 places, the first at 3.44 s, are missing: silence instead"
    ]


def test_no_silence_reaches_beyond_the_length_that_a_header_claims(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray
) -> None:
    """A bit of a damaged time stamp would be hours of silence."""
    path = tmp_path / "damaged.mkv"
    write_media(path, chirp_44k1_stereo, pause=(1.0, 4.0))
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3
    path.write_bytes(data[:at] + struct.pack(">d", 2500.0) + data[at + 8 :])
    reader = open_audio(path)
    np.testing.assert_array_equal(read(reader), chirp_44k1_stereo)
    assert reader.warnings == []


def test_of_several_sound_tracks_the_first_is_read_and_the_result_says_so(
    tmp_path: Path, chirp_44k1_stereo: np.ndarray
) -> None:
    path, single = tmp_path / "dubbed.mkv", tmp_path / "single.mkv"
    write_media(path, chirp_44k1_stereo, video=True, n_tracks=2)
    write_media(single, chirp_44k1_stereo, video=True)
    np.testing.assert_array_equal(read(open_audio(path, strict=True)), chirp_44k1_stereo)
    told = "2 sound tracks: the first is read"
    assert told in probe(str(path), decode=True).warnings
    assert told not in probe(str(single), decode=True).warnings
    with Analysis.of_cuts(path, TagOptions(strict=True)) as analysis:
        list(analysis.cuts())
    assert told in analysis.warnings
    assert analysis.damage == ()  # it is listed with what is damaged by nobody
