"""PyAV (FFmpeg's libraries) as a decoder: m4a, AAC, WMA, the audio of videos, and more.

Imported only where libsndfile cannot read a source. FFmpeg also reads playlists, which name other files
and addresses; nothing but the source itself is ever opened here.

FFmpeg reads hundreds of formats of old games and devices with little-tested code: some divide by a zero in a
header, which ends the whole process. So only formats and codings that people keep recordings in are allowed.
Pictures are never decoded, not even to look at them: a video of a few bytes may claim gigabytes of pixels.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np

from dymn_cli.audio.damage import Adapter, Damage
from dymn_cli.audio.decoder import to_float32
from dymn_cli.audio.mp4 import require_plausible_index
from dymn_cli.audio.virtual_files import GuardedFile
from dymn_cli.errors import CorruptAudioError, EmptyAudioError, UnsupportedAudioError
from dymn_cli.results import AudioInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["CONTAINERS", "DECODERS", "FAILURES", "MediaDecoder", "NotRecognisedError", "frame_samples"]

FAILURES = (av.error.FFmpegError, OSError, ValueError)
LAST_FRAME = 2048  # samples that the longest usual frame (HE-AAC) may reach beyond the end of its track
MAX_LATE_STREAMS = 100
MAX_FAILURES = 100  # packets in a row that cannot be read: then the rest is given up
TELL_DURATION = (
    "mov matroska asf flv avi caf w64 wav aiff ape tta wv tak"  # formats that say how long they are
)
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
    samples, channels = frame.to_ndarray(), frame.layout.nb_channels
    return to_float32(samples.T if frame.format.is_planar else samples.reshape(-1, channels))


class NotRecognisedError(Exception):
    """FFmpeg does not know the format either."""


class MediaDecoder:
    """Forward decoding of the first audio stream; a packet that does not decode is left out.

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

    slack_s = 0.25  # coded frames and edit lists make durations of containers this inexact

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._name = name
        self._n_read = 0
        self._packet_s = 0.0  # length of a usual packet
        self.damage = Damage()
        require_plausible_index(stream, name)
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
        self._frames = self._decoded()
        first = next(self._frames, None)
        if first is None and self.damage.lost_s:
            raise CorruptAudioError(f"{self._name}: damaged from the start")
        if first is None:
            raise EmptyAudioError(f"{self._name}: no samples")
        # The first frame counts, not the header: HE-AAC doubles the rate that its header names.
        rate_hz, samples = first
        container = self._container.format.name.split(",")[0]
        claimed_s = self._claimed_s(container)
        claimed = None if claimed_s is None else int(claimed_s * rate_hz)
        self.info = AudioInfo(rate_hz, samples.shape[1], claimed, container, context.name)
        self._adapter = Adapter(rate_hz, samples.shape[1], self.damage)
        self._ready = deque(self._adapter.put(samples, rate_hz, 0.0))
        self._n_ready = sum(map(len, self._ready))

    def _claimed_s(self, container: str) -> Fraction | None:
        """Seconds that the header claims for the track; None where FFmpeg only guesses."""
        if container not in TELL_DURATION.split():
            return None
        stream = self._stream
        # A damaged header may tell a negative one.
        if stream.duration is not None and stream.duration > 0 and stream.time_base:
            return stream.duration * stream.time_base
        whole = self._container.duration
        if whole is not None and whole > 0 and len(self._container.streams) == 1:
            return Fraction(whole, av.time_base)
        return None

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        """The packets of the stream, past those that cannot be read."""
        packets = self._container.demux(self._stream)
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
                packets = self._container.demux(self._stream)
                continue
            except EOFError:
                return
            except FAILURES:
                self._file.check()
                n_failures += 1
                packets = self._container.demux(self._stream)
                continue
            self._file.check()
            if packet is None:
                return
            n_failures = 0
            yield packet
        self.damage.note("the rest of the file could not be read")

    def _decoded(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Each frame's rate and its (n, channels) samples."""
        position_s = 0.0
        for packet in self._packets():
            try:
                frames = packet.decode()
            except EOFError:
                frames = []
            except FAILURES:
                self._file.check()
                self.damage.gap(position_s + self.damage.lost_s, self._length_s(packet))
                continue
            for frame in frames:
                if frame.samples:
                    self._packet_s = frame.samples / frame.sample_rate
                    position_s += self._packet_s
                    yield frame.sample_rate, frame_samples(frame)

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
