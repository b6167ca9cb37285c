"""libsndfile as a decoder: WAV, RF64, FLAC, Ogg Vorbis and Opus, MP3, AIFF, CAF, W64, AU and more.

Files that this package opened are handed over as descriptors: any name opens, no format is guessed from a
suffix, and no Python runs while C decodes. Other file objects go through callbacks.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from dymn_cli.audio.virtual_files import GuardedFile
from dymn_cli.errors import CorruptAudioError, UnsupportedAudioError
from dymn_cli.results import AudioInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MEDIA_HINT", "SoundfileDecoder", "libsndfile_version"]

MEDIA_HINT = "m4a, AAC, WMA and video need one more package: pip install 'dymn[media]'"

LENGTH_UNKNOWN = 1 << 62  # SF_COUNT_MAX is above, any real length below
# sf_error numbers: unknown format, unknown coding, and bytes like MPEG's sync that no frame follows.
UNRECOGNISED = frozenset({1, 4, 7})
MALFORMED = 3
UNIMPLEMENTED = 18

# The log has the sizes that a header claims beside those that the file allows.
CLAIMED_SIZE = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
STREAMED_SIZES = range(0x7FFF_F000, 1 << 32)  # what writers into pipes leave in 32-bit fields
NO_END_MARK = "Last page lacks an end-of-stream bit"
OGG_DAMAGE = ("Corrupted bitstream", "reports a hole", "ended unexpectedly", "Junk after")


class _ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc, unused-ignore]
    """A SoundFile that only reads on.

    As a seekable file it would seek after each read, which at the end of a FLAC stream of unknown length
    loses the last block, and would stop at the length that an MP3 header guesses.
    """

    def seekable(self) -> bool:
        return False


def libsndfile_version() -> str:
    """The version of the C library; MP3 came with 1.1."""
    return str(soundfile.__libsndfile_version__)


def _reason(error: soundfile.LibsndfileError) -> str:
    text = error.error_string.rstrip(".").removeprefix("Error : ")
    return "its headers do not add up" if error.code == MALFORMED else f"{text[:1].lower()}{text[1:]}"


def _scaled(block: NDArray[np.int16]) -> NDArray[np.float32]:
    """The same float32 as libsndfile makes of 16-bit samples, a sample at a time; NumPy is thrice as fast."""
    scaled = block.astype(np.float32)
    scaled *= np.float32(1 / 32_768)
    return scaled


class SoundfileDecoder:
    """Forward reading through libsndfile, to the end or to the first damaged spot.

    Args:
        stream: a seekable binary file; the caller closes it.
        name: what errors call the source.
        by_descriptor: let libsndfile read from the stream's file descriptor.
        container: what to call the format, where the stream is a view of another one.
        length_known: the number of samples that libsndfile finds is one.

    Raises:
        UnsupportedAudioError: libsndfile does not know the format.
        CorruptAudioError: it does, but the header is damaged.
        InputError: the file object fails to read.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        *,
        by_descriptor: bool = False,
        container: str = "",
        length_known: bool = True,
    ) -> None:
        self._name = name
        self._stream = stream
        self._guard: GuardedFile | None = None
        self._sound = self._open(stream, by_descriptor=by_descriptor)
        self._lacks_end_mark = False
        self.n_read = 0
        self.is_broken = False
        self.last = np.empty((0, 0), np.float32)  # what came when it broke
        self.info = self._describe(container, length_known=length_known)

    def _open(self, stream: BinaryIO, *, by_descriptor: bool) -> _ForwardSoundFile:
        stream.seek(0)
        try:
            if by_descriptor:
                return _ForwardSoundFile(stream.fileno(), closefd=False)
            self._guard = GuardedFile(stream, self._name)
            return _ForwardSoundFile(self._guard)
        except soundfile.LibsndfileError as exc:
            self._check_guard()
            if exc.code in UNRECOGNISED:
                raise UnsupportedAudioError(f"{self._name}: not a known audio format") from exc
            if exc.code == UNIMPLEMENTED:
                raise UnsupportedAudioError(
                    f"{self._name}: a codec that libsndfile does not decode", hint=MEDIA_HINT
                ) from exc
            raise CorruptAudioError(f"{self._name}: damaged: {_reason(exc)}") from exc

    def _describe(self, container: str, *, length_known: bool) -> AudioInfo:
        sound = self._sound
        log = sound.extra_info
        n_frames: int | None = sound.frames
        if not length_known or sound.frames >= LENGTH_UNKNOWN:
            n_frames = None
        elif (claim := CLAIMED_SIZE.search(log)) is not None:
            claimed, there = int(claim[1]), int(claim[2])
            if claimed > there > 0 and claimed not in STREAMED_SIZES and claimed < LENGTH_UNKNOWN:
                n_frames = sound.frames + (claimed - there) * sound.frames // there
        self._lacks_end_mark = NO_END_MARK in log
        container = container or ("WAV" if sound.format == "WAVEX" else sound.format)
        return AudioInfo(sound.samplerate, sound.channels, n_frames, container, sound.subtype)

    def forget_length(self) -> None:
        """Set the length to unknown: more follows."""
        self.info = replace(self.info, n_frames=None)

    @property
    def lacks_end_mark(self) -> bool:
        """Whether an Ogg stream breaks off."""
        return self._lacks_end_mark

    @property
    def has_holes(self) -> bool:
        """Whether an Ogg stream turned out to have gaps, which only libsndfile's log says."""
        log = self._sound.extra_info
        return any(text in log for text in OGG_DAMAGE)

    @property
    def position(self) -> int:
        """How far the file has been read, in bytes, which may be a little ahead of the samples."""
        return (self._guard or self._stream).tell()

    def read(self, n_frames: int) -> NDArray[np.float32]:
        """Decode the next (n, channels) samples; none at the end, or where the stream is damaged.

        Raises:
            InputError: the file object fails to read.
        """
        dtype = np.int16 if self.info.codec == "PCM_16" else np.float32
        block = np.empty((0 if self.is_broken else n_frames, self.info.channels), dtype)
        try:
            if len(block):
                block = self._sound.read(out=block)
        except soundfile.LibsndfileError:
            self._check_guard()
            block = block[: max(0, self._sound.tell() - self.n_read)]
            self.is_broken = True
            self.last = block
        self._check_guard()
        self.n_read += len(block)
        return block if block.dtype == np.float32 else _scaled(block)

    def _check_guard(self) -> None:
        if self._guard is not None:
            self._guard.check()

    def close(self) -> None:
        """Close libsndfile's handle, not the stream."""
        self._sound.close()
