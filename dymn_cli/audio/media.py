"""PyAV (FFmpeg's libraries) as a decoder: m4a, AAC, WMA, the sound of videos, and what else it knows.

Imported only where libsndfile cannot read a source. FFmpeg also knows playlists, which name other files
and addresses; nothing but the source itself is ever opened here.

FFmpeg also knows hundreds of formats of old games and devices, whose readers see little testing: some
divide by a zero that stands in a header, which no Python survives. So only formats and codings are let in
that people keep recordings in. Pictures are never decoded, not even to look at them: a video of a few
bytes may claim gigabytes of pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np

from dymn_cli.audio.decode import to_float32
from dymn_cli.audio.sndfile import GuardedFile
from dymn_cli.errors import CorruptAudioError, EmptyAudioError, UnsupportedAudioError
from dymn_cli.results import AudioInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["MediaDecoder", "NotRecognisedError"]

FAILURES = (av.error.FFmpegError, OSError, ValueError)
LAST_FRAME = 2048  # samples that the longest usual frame (HE-AAC) may reach beyond the end of its track
MAX_LATE_STREAMS = 100
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


class NotRecognisedError(Exception):
    """FFmpeg does not know the format either."""


class MediaDecoder:
    """Forward decoding of the first audio stream.

    Args:
        stream: a seekable binary file; closed by whoever opened it.
        name: what errors call the source.

    Raises:
        NotRecognisedError: FFmpeg finds no format in it.
        UnsupportedAudioError: no sound in it, as in a silent video, or a coding not let in.
        EmptyAudioError: an audio stream without samples.
        CorruptAudioError: it does not decode from the start.
        InputError: the file object fails to read.
    """

    slack_s = 0.25  # coded frames and edit lists make durations of containers this inexact

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._name = name
        self._n_read = 0
        self._n_decoded = 0
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
        self._frames = self._decoded(audio[0])
        first = next(self._frames, None)
        if first is None:
            raise EmptyAudioError(f"{self._name}: no samples")
        # The first frame is asked, not the header: HE-AAC doubles the rate that its header names.
        self._rate_hz, self._pending = first
        claimed = None
        if "mov" in self._container.format.name and audio[0].duration and audio[0].time_base:
            claimed = int(audio[0].duration * audio[0].time_base * self._rate_hz)
        container = self._container.format.name.split(",")[0]
        self.info = AudioInfo(self._rate_hz, self._pending.shape[1], claimed, container, context.name)

    def _decoded(self, stream: av.AudioStream) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Each frame's rate and its (n, channels) samples."""
        frames = self._container.decode(stream)
        n_late = 0
        while True:
            try:
                frame = next(frames, None)
            except IndexError as exc:
                # A broadcast may gain a stream on the way, of which PyAV knows only when it is asked anew.
                n_late += 1
                if n_late > MAX_LATE_STREAMS:
                    raise self._damaged() from exc
                frames = self._container.decode(stream)
                continue
            except FAILURES as exc:
                self._file.check()
                if n_late and isinstance(exc, EOFError):  # the decoder had given its last before
                    return
                raise self._damaged() from exc
            self._file.check()
            if frame is None:
                return
            if frame.samples:
                samples = frame.to_ndarray()
                planar = frame.format.is_planar
                channels = frame.layout.nb_channels
                self._n_decoded += frame.samples
                yield frame.sample_rate, to_float32(samples.T if planar else samples.reshape(-1, channels))

    def _damaged(self) -> CorruptAudioError:
        at_s = f"at {self._n_decoded / self._rate_hz:.2f} s" if self._n_decoded else "from the start"
        return CorruptAudioError(f"{self._name}: damaged {at_s}")

    def read(self, n_frames: int) -> NDArray[np.float32]:
        """Decode the next samples; of the last coded frame only what belongs to the track.

        Raises:
            CorruptAudioError: the stream is damaged, or changes its rate or channels on the way.
            InputError: the file object fails to read.
        """
        parts, n = [self._pending], len(self._pending)
        while n < n_frames + LAST_FRAME and (frame := next(self._frames, None)) is not None:
            rate_hz, samples = frame
            if rate_hz != self._rate_hz or samples.shape[1] != self.info.channels:
                at_s = (self._n_read + n) / self._rate_hz
                raise CorruptAudioError(f"{self._name}: rate or channels change at {at_s:.2f} s")
            parts.append(samples)
            n += len(samples)
        joined = np.concatenate(parts)
        if n < n_frames + LAST_FRAME and self.info.n_frames is not None:
            surplus = self._n_read + n - self.info.n_frames
            if 0 < surplus <= LAST_FRAME:
                joined = joined[: max(0, n - surplus)]
        block, self._pending = joined[:n_frames], joined[n_frames:]
        self._n_read += len(block)
        return np.ascontiguousarray(block)

    def notes(self) -> list[str]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Close FFmpeg's handle, not the stream."""
        self._container.close()
