"""PyAV (FFmpeg's libraries) as a decoder: m4a, AAC, WMA, the audio of videos, and more.

Imported only where libsndfile cannot read a source. FFmpeg also reads playlists, which name other files
and addresses; nothing but the source itself is ever opened here.

FFmpeg reads hundreds of formats of old games and devices with little-tested code: some divide by a zero in a
header, which ends the whole process. So only formats and codings that people keep recordings in are allowed.
Pictures are never decoded, not even to look at them: a video of a few bytes may claim gigabytes of pixels.
"""

from __future__ import annotations

import math
import re
from collections import deque
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, cast

import av
import numpy as np
from av.stream import Disposition

from dymn_cli.audio.damage import Adapter, Damage, seconds_text
from dymn_cli.audio.decoder import to_float32
from dymn_cli.audio.mp4 import require_plausible_index
from dymn_cli.audio.virtual_files import GuardedFile, read_at
from dymn_cli.errors import CorruptAudioError, EmptyAudioError, UnsupportedAudioError
from dymn_cli.results import AudioInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["CONTAINERS", "DECODERS", "FAILURES", "MediaDecoder", "NotRecognisedError", "frame_samples"]

FAILURES = (av.error.FFmpegError, OSError, ValueError)
LAST_FRAME = 2048  # samples that the longest usual frame (HE-AAC) may reach beyond the end of its track
MAX_LATE_STREAMS = 100
SLACK_S = 0.25  # coded frames and edit lists make durations and starts of containers this inexact
LAST_PICTURE_S = 2.0  # how long a last picture may stand, which not every container says
MAX_SILENCE_S = 86_400.0  # in place of sound: a time stamp may claim any time
MAX_FAILURES = 100  # packets in a row that cannot be read: then the rest is given up
TELL_DURATION = (
    "mov matroska asf flv avi caf w64 wav aiff ape tta wv tak"  # formats that say how long they are
)
MAX_PLAIN_CHANNELS = 8  # of more, PyAV takes what lies in memory behind the planes for planes, and may crash
PLANAR = {"u8p": "u1", "s16p": "i2", "s32p": "i4", "fltp": "f4", "dblp": "f8"}
SHARED_DURATION = ("matroska", "asf")  # which have one length for all tracks; FFmpeg repeats it for each
TIMED = ("mov", "matroska")  # whose time stamps run on; those of a broadcast start anew on the way
HEAD = 1 << 16
MATROSKA_LENGTH = re.compile(rb"\x15\x49\xa9\x66.{4,4000}?\x44\x89[\x84\x88]", re.DOTALL)  # Info, Duration
ASF_PROPERTIES = re.compile(  # behind the GUID and 48 bytes: duration, (sending it), preroll, flags
    rb"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65.{48}(.{8}).{8}(.{8})(.{4})", re.DOTALL
)
ASF_BROADCAST = 1
DURATION_TAG = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{0,9})?)$")
CONTAINERS = (
    "mov matroska asf aac loas ac3 eac3 dts truehd mlp mp3 mpeg mpegts flv avi ogg wav w64 aiff au caf flac "
    "amr ape dsf iff mpc mpc8 tak tta wv"
)
DECODERS = (
    "aac aac_latm ac3 eac3 alac als amrnb amrwb libopencore_amrnb libopencore_amrwb ape dca dsd_lsbf "
    "dsd_msbf dsd_lsbf_planar dsd_msbf_planar flac mlp truehd mp1 mp1float mp2 mp2float mp3 mp3float mpc7 "
    "mpc8 opus libopus vorbis libvorbis speex libspeex tak tta wavpack wmav1 wmav2 wmapro wmalossless "
    "wmavoice gsm gsm_ms g722 g723_1 g726 g729 nellymoser qdm2 s302m adpcm_ms adpcm_ima_wav adpcm_ima_qt "
    "adpcm_swf pcm_alaw pcm_mulaw pcm_u8 pcm_s8 pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be "
    "pcm_f32le pcm_f32be pcm_f64le pcm_f64be pcm_bluray pcm_dvd"
)
OPTIONS = {
    "protocol_whitelist": "none",  # a list of no protocol: playlists find nothing to open
    "format_whitelist": CONTAINERS.replace(" ", ","),
    "codec_whitelist": DECODERS.replace(" ", ","),
}


def frame_samples(frame: av.AudioFrame) -> NDArray[np.float32]:
    """The (n, channels) samples of a decoded frame."""
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        return to_float32(frame.to_ndarray().reshape(-1, channels))
    if channels <= MAX_PLAIN_CHANNELS:
        return to_float32(frame.to_ndarray().T)
    dtype, planes = PLANAR[frame.format.name], map(bytes, frame.planes[:channels])
    return to_float32(np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes], axis=1))


def _asf_length_s(head: bytes) -> Fraction | None:
    """Seconds that the header of an ASF file claims; None where it is a broadcast, which does not know."""
    found = ASF_PROPERTIES.search(head)
    if found is None:
        return None
    duration, preroll, flags = (int.from_bytes(field, "little") for field in found.groups())
    length_s = Fraction(duration, 10_000_000) - Fraction(preroll, 1_000)
    return None if flags & ASF_BROADCAST or length_s <= 0 else length_s


def _silence(seconds: float, rate_hz: int, channels: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Frames of silence."""
    n_left = round(seconds * rate_hz)
    while n_left > 0:
        yield rate_hz, np.zeros((min(n_left, rate_hz), channels), np.float32)
        n_left -= rate_hz


class NotRecognisedError(Exception):
    """FFmpeg does not know the format either."""


class MediaDecoder:
    """Forward decoding of the first audio stream; a packet that does not decode is left out.

    Times are those of a player: where the sound of a video starts later than its pictures, silence comes
    first, and where the time stamps of an MP4 or a Matroska file leave a time out, at once or bit by bit,
    silence stands for it, unless the file would then be longer than it claims.

    Args:
        stream: a seekable binary file; the caller closes it.
        name: what errors call the source.

    Raises:
        NotRecognisedError: FFmpeg finds no format in it.
        UnsupportedAudioError: no audio in it, as in a silent video, or a coding that is not allowed.
        EmptyAudioError: an audio stream without samples.
        CorruptAudioError: nothing of it decodes, or its index claims more than its bytes can hold.
        InputError: the file object fails to read.
    """

    slack_s = SLACK_S

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._name = name
        self._n_read = 0
        self._packet_s = 0.0  # length of a usual packet
        self._first_s: float | None = None  # time stamp of the first sample
        self._others_start_s = math.inf  # that of the first picture, or of another track
        self._zero_s = 0.0  # time stamp at which a player starts
        self._lead_s = 0.0  # silence before the sound
        self._is_tagged = False  # whether the claimed length is that of a tag of the track
        self._n_missing, self._missing_s = 0, 0.0  # where silence stands for sound, and how long
        self._first_missing_s = 0.0
        self._ends_s: dict[bool, float] = {True: 0.0, False: 0.0}  # of the sound, and of the other streams
        self.damage = Damage()
        require_plausible_index(stream, name)
        # Where Matroska tells no length, or an ASF file is cut off, FFmpeg divides its size by bit rates.
        head = read_at(stream, 0, HEAD)
        self._tells_length = MATROSKA_LENGTH.search(head) is not None
        self._asf_s = _asf_length_s(head)
        stream.seek(0)
        self._file = GuardedFile(stream, name)
        try:
            self._container = av.open(self._file, mode="r", options=OPTIONS, metadata_errors="replace")
        except FAILURES as exc:
            self._file.check()
            raise NotRecognisedError(str(exc)) from exc
        try:
            self._start()
        except BaseException:
            self._container.close()
            raise

    def _start(self) -> None:
        audio = self._container.streams.audio
        if not audio:
            raise UnsupportedAudioError(f"{self._name}: no audio stream in it")
        context = audio[0].codec_context
        if context is None or context.name not in DECODERS.split():
            coding = "an unknown coding" if context is None else f"the coding {context.name}"
            raise UnsupportedAudioError(f"{self._name}: {coding}, which is not decoded")
        self._stream = audio[0]
        self._others = [
            stream
            for stream in (*self._container.streams.video, *audio[1:])
            if not stream.disposition & Disposition.attached_pic
        ]
        self._format = self._container.format.name.split(",")[0]
        # The last subtitle may stand longer than all else, and the length of the file counts it.
        self._subtitles = self._container.streams.subtitles if self._format in SHARED_DURATION else ()
        frames = self._decoded()
        first = next(frames, None)
        if first is None and self.damage.lost_s:
            raise CorruptAudioError(f"{self._name}: damaged from the start")
        if first is None:
            raise EmptyAudioError(f"{self._name}: no samples")
        # The first frame counts, not the header: HE-AAC doubles the rate that its header names.
        rate_hz, samples = first
        if len(audio) > 1:
            self.damage.remark(f"{len(audio)} sound tracks: the first is read")
        self._find_start()
        claimed_s = self._claimed_s()
        claimed = None if claimed_s is None else int(claimed_s * rate_hz)
        self.info = AudioInfo(rate_hz, samples.shape[1], claimed, self._format, context.name)
        self._adapter = Adapter(rate_hz, samples.shape[1], self.damage)
        self._frames = chain(_silence(self._lead_s, rate_hz, samples.shape[1]), [first], frames)
        self._ready: deque[NDArray[np.float32]] = deque()
        self._n_ready = 0

    def _find_start(self) -> None:
        """Where a player starts, and how long it is silent before the sound."""
        if self._first_s is None:
            return
        others_s = self._others_start_s
        if self._format == "mov":  # an index tells where all tracks start, elsewhere FFmpeg guesses
            starts = [(stream.start_time, stream.time_base) for stream in self._others]
            starts_s = [float(start * base) for start, base in starts if start is not None and base]
            others_s = min(starts_s, default=math.inf)
        self._zero_s = max(0.0, min(self._first_s, others_s))
        lead_s = self._first_s - self._zero_s - self.damage.lost_s
        if lead_s > MAX_SILENCE_S:
            self.damage.note("the sound claims to start after more than a day: times count from its start")
        elif lead_s > SLACK_S:
            self._lead_s = lead_s
            self.damage.remark(f"the sound starts at {lead_s:.2f} s: silence comes before it")

    def _claimed_s(self) -> Fraction | None:
        """Seconds that the header claims up to the end of the track; None where FFmpeg only guesses."""
        if self._format not in TELL_DURATION.split():
            return None
        stream, whole_s = self._stream, None
        # A damaged header may tell a negative one.
        if (whole := self._container.duration) is not None and whole > 0:
            whole_s = Fraction(whole, av.time_base)
        is_only = len(self._container.streams) == 1
        if self._format in SHARED_DURATION and not is_only:
            self.slack_s = math.inf  # sound may be shorter than pictures: time stamps tell what is missing
        if self._format == "matroska":
            if whole_s is None or not self._tells_length:
                return None
            end_s = whole_s  # from time stamp 0 on
            tagged_s = None if is_only else self._tagged_s()
            if tagged_s is not None and tagged_s <= whole_s + SLACK_S:
                self._is_tagged, end_s = True, tagged_s
            return claimed if (claimed := end_s - Fraction(self._zero_s)) > 0 else None
        if self._format == "asf":
            return self._asf_s
        if stream.duration is not None and stream.duration > 0 and stream.time_base:
            return stream.duration * stream.time_base + Fraction(self._lead_s)
        return whole_s if is_only else None

    def _tagged_s(self) -> Fraction | None:
        """When the track ends by the tag that muxers write; some count from the start of the track."""
        is_absolute = self._container.metadata.get("ENCODER", "").startswith("Lavf")
        found = DURATION_TAG.match(self._stream.metadata.get("DURATION", ""))
        if found is None or not (is_absolute or (self._first_s or 0.0) <= SLACK_S):
            return None
        return int(found[1]) * 3600 + int(found[2]) * 60 + Fraction(found[3])

    def _tell_what_is_missing(self) -> None:
        """Say at the end what time stamps tell."""
        if self._n_missing:
            where = f"at {self._first_missing_s:.2f} s"
            if self._n_missing > 1:
                where = f"in {self._n_missing:,} places, the first {where},"
            self.damage.note(f"{seconds_text(self._missing_s)} of sound {where} are missing: silence instead")
        claimed = self.info.n_frames
        if self.slack_s == math.inf and claimed is not None:
            end_s = self._ends_s[True] if self._is_tagged else max(self._ends_s.values())
            claimed_s, there_s = claimed / self.info.rate_hz, end_s - self._zero_s
            is_cut = claimed_s - there_s > (SLACK_S if self._is_tagged else LAST_PICTURE_S)
            if is_cut or (self._is_tagged and there_s - claimed_s > SLACK_S):
                what = "truncated or damaged: the" if is_cut else "the"
                self.damage.note(f"{what} header claims {claimed_s:.2f} s, {there_s:.2f} s are there")

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        """The packets of the stream, past those that cannot be read."""
        tracks = [self._stream, *self._others, *self._subtitles]  # of all but the first, time stamps only
        packets = self._container.demux(tracks)
        n_late, n_failures = 0, 0
        while n_failures < MAX_FAILURES:
            try:
                packet = next(packets, None)
            except IndexError:
                # A broadcast may gain a stream on the way, of which PyAV knows only when it is asked anew.
                n_late += 1
                if n_late > MAX_LATE_STREAMS:
                    self.damage.note(
                        "the rest of the file could not be read: too many streams begin on the way"
                    )
                    return
                packets = self._container.demux(tracks)
                continue
            except EOFError:
                return
            except FAILURES:
                self._file.check()
                n_failures += 1
                packets = self._container.demux(tracks)
                continue
            self._file.check()
            if packet is None:
                return
            n_failures = 0
            is_sound = packet.stream.index == self._stream.index
            if packet.pts is not None and packet.time_base:
                start_s = float(packet.pts * packet.time_base)
                end_s = start_s + float((packet.duration or 0) * packet.time_base)
                self._ends_s[is_sound] = max(self._ends_s[is_sound], end_s)
                if not is_sound and self._first_s is None and packet.stream.type != "subtitle":
                    self._others_start_s = min(start_s, self._others_start_s)
            if is_sound:
                yield cast("av.Packet[av.AudioStream]", packet)
        self.damage.note("the rest of the file could not be read")

    def _decoded(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Each frame's rate and its (n, channels) samples."""
        position_s = 0.0
        next_s: float | None = None  # time stamp that the next frame should have
        owed_s = 0.0  # left out by time stamps: many a lost packet is shorter than what we are inexact by
        for packet in self._packets():
            try:
                frames = packet.decode()
            except EOFError:
                frames = []
            except FAILURES:
                self._file.check()
                at_s = self._lead_s + position_s + self.damage.lost_s
                self.damage.gap(at_s, self._length_s(packet))
                if next_s is not None:
                    next_s += self._length_s(packet)
                continue
            for frame in frames:
                if not frame.samples:
                    continue
                samples = frame_samples(frame)
                self._packet_s = frame.samples / frame.sample_rate
                if frame.time is not None:
                    self._first_s = frame.time if self._first_s is None else self._first_s
                    step_s = 0.0 if next_s is None else frame.time - next_s
                    if abs(step_s) > self._packet_s / 2:  # less is a clock that runs otherwise
                        owed_s = max(0.0, owed_s + step_s)
                    if owed_s > SLACK_S:
                        if self._has_room(owed_s, position_s):
                            yield from _silence(owed_s, frame.sample_rate, samples.shape[1])
                            position_s += owed_s
                        owed_s = 0.0
                    next_s = frame.time
                if next_s is not None:
                    next_s += self._packet_s
                position_s += self._packet_s
                yield frame.sample_rate, samples

    def _has_room(self, missing_s: float, position_s: float) -> bool:
        """Whether silence stands for so much sound, which is counted then; a time stamp may be damaged."""
        if self._format not in TIMED or missing_s > MAX_SILENCE_S - self._missing_s:
            return False
        at_s, claimed = self._lead_s + position_s + self.damage.lost_s, self.info.n_frames
        if claimed is not None and at_s + missing_s > claimed / self.info.rate_hz + SLACK_S:
            return False
        if not self._n_missing:
            self._first_missing_s = at_s
        self._n_missing += 1
        self._missing_s += missing_s
        return True

    def _length_s(self, packet: av.Packet[av.AudioStream]) -> float:
        if packet.duration is not None and packet.duration > 0 and packet.time_base:
            return float(packet.duration * packet.time_base)
        return self._packet_s or 0.02

    def read(self, n_frames: int) -> NDArray[np.float32]:
        """Decode the next samples; of the last coded frame only what belongs to the track.

        Raises:
            InputError: the file object fails to read.
        """
        while self._n_ready < n_frames + LAST_FRAME and (frame := next(self._frames, None)) is not None:
            rate_hz, samples = frame
            at_s = (self._n_read + self._n_ready) / self.info.rate_hz
            self._take(self._adapter.put(samples, rate_hz, at_s + self.damage.lost_s))
        if self._n_ready < n_frames + LAST_FRAME:
            self._take(self._adapter.flush())
            self._tell_what_is_missing()
        joined = np.concatenate([*self._ready, np.empty((0, self.info.channels), np.float32)])
        if self._n_ready < n_frames + LAST_FRAME and self.info.n_frames is not None:
            surplus = self._n_read + len(joined) - self.info.n_frames
            if 0 < surplus <= LAST_FRAME:
                joined = joined[: max(0, len(joined) - surplus)]
        block, rest = joined[:n_frames], joined[n_frames:]
        self._ready, self._n_ready = deque([rest]), len(rest)
        self._n_read += len(block)
        return np.ascontiguousarray(block)

    def _take(self, blocks: Iterable[NDArray[np.float32]]) -> None:
        for block in blocks:
            self._ready.append(block)
            self._n_ready += len(block)

    def close(self) -> None:
        """Close FFmpeg's handle, not the stream."""
        self._container.close()
