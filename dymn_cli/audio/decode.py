"""From a source to float32 blocks, whatever the format: path, open file, pipe, or array.

    open_audio ──▶ AudioReader ──▶ Decoder: sndfile (WAV, FLAC, Ogg, MP3, AIFF, CAF, W64, AU, ...)
                                            media   (m4a, AAC, WMA, video: where PyAV is installed)
                                            an array

An AudioReader checks every source alike: rate, channels, finite samples, a minimum length, and as much audio
as its header claims. Every failure is one of our errors.

A few kilobytes may hold a day, since silence compresses to next to nothing. Such a file is a recording like
any other, and no length is refused: memory does not grow with it, and the batch engine can limit the time.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, SupportsIndex, TypeAlias, cast

import numpy as np

from dymn_cli.audio import headers
from dymn_cli.audio.damage import Damage
from dymn_cli.audio.decoder import Decoder, to_float32
from dymn_cli.audio.piped import Pipe, PipedWavDecoder, open_piped_wav
from dymn_cli.audio.segments import SegmentDecoder, open_behind_junk
from dymn_cli.audio.sndfile import MEDIA_HINT
from dymn_cli.audio.virtual_files import ForeignFile
from dymn_cli.errors import (
    AudioNotFoundError,
    CorruptAudioError,
    EmptyAudioError,
    InputError,
    UnsupportedAudioError,
    UsageError,
    os_error_text,
)
from dymn_cli.remote.reading import open_uri
from dymn_cli.remote.uri import is_uri, named
from dymn_cli.results import AudioInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MAX_CHANNELS",
    "MAX_RATE_HZ",
    "MIN_RATE_HZ",
    "SHORTEST_MS",
    "AudioReader",
    "Source",
    "open_audio",
    "spool",
]

Source: TypeAlias = "str | os.PathLike[str] | BinaryIO | tuple[ArrayLike, SupportsIndex]"

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 768_000
MAX_CHANNELS = 64
SHORTEST_MS = 50
LOUDEST = 2.0**31  # 32-bit integers kept as floats without scaling; beyond it is no sound
UNSCALED_RMS = 8.0  # of a block; music that is loud beyond measure has no more than 2
SPOOL_BYTES = 64 << 20
SPOOL_CHUNK = 1 << 20
SPOOL_LOOK = 16 << 20  # so many bytes are copied between two looks at what is free
KEPT_FREE_BYTES = 1 << 30
ARRAY_TYPES = {"f2", "f4", "f8", "i1", "u1", "i2", "i4"}


class AudioReader:
    """An open source: its format, and its samples, read once from start to end.

    Args:
        decoder: where samples come from.
        name: what errors call the source.
        opened: what is to be closed with the reader.
        strict: refuse a damaged source instead of reading what is left of it.
    """

    def __init__(
        self, decoder: Decoder, name: str, opened: contextlib.ExitStack, *, strict: bool = False
    ) -> None:
        self._decoder = decoder
        self._opened = opened
        self._strict = strict
        self._is_closed = False
        self._n_bad = 0
        self._bad = ""
        self._peak = 0.0  # of blocks that are far too loud
        self.name = name
        self.info = decoder.info
        self.warnings: list[str] = []
        self.frames_read = 0

    @property
    def duration_s(self) -> float:
        """Seconds decoded so far; after the last block, the duration of the source."""
        return self.frames_read / self.info.rate_hz

    @property
    def remarks(self) -> tuple[str, ...]:
        """How the source is read, where that is worth knowing and no damage."""
        return tuple(self._decoder.damage.remarks)

    @property
    def is_live(self) -> bool:
        """Whether it may be a sound that goes on while we read: a pipe that says no length."""
        return isinstance(self._decoder, PipedWavDecoder)

    def blocks(self, n_frames: int) -> Iterator[NDArray[np.float32]]:
        """Decode the rest of the source, block by block.

        What does not decode is left out, and unusable samples (NaN, infinite or absurdly large) become
        silence; `warnings`, complete after the last block, says so.

        Args:
            n_frames: at most so many samples per channel in a block.

        Yields:
            (n, channels) float32 in [-1, 1] for integer formats; not to be written to.

        Raises:
            EmptyAudioError: the source ends before 50 ms.
            CorruptAudioError: most of its samples are unusable; or it is damaged and `strict` is set.
            InputError: the file object that was given fails to read.
            UsageError: the reader is closed.
        """
        while len(block := self._read(n_frames)):
            block = self._silence_bad_samples(block)
            if self._strict:
                self._refuse_damage()
            self.frames_read += len(block)
            yield block
        self._finish()

    def require_open(self) -> None:
        """Refuse to give anything of a source that is closed.

        Raises:
            UsageError: it is.
        """
        if self._is_closed:
            raise UsageError(
                f"{self.name}: closed before it was read",
                hint="read it inside the `with` block that opens it",
            )

    def _read(self, n_frames: int) -> NDArray[np.float32]:
        self.require_open()
        return self._decoder.read(n_frames)

    def _silence_bad_samples(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        samples = block.ravel()
        with np.errstate(invalid="ignore", over="ignore"):
            # The fast path, which almost every block takes: false for NaN and for overflow.
            if np.dot(samples, samples) <= UNSCALED_RMS**2 * samples.size:
                return block
            levels = np.abs(block)
            bad = ~(levels <= LOUDEST)
        self._peak = max(self._peak, float(levels.max(where=~bad, initial=0)))
        if not bad.any():
            return block
        if not self._n_bad:
            frame, channel = np.unravel_index(int(bad.argmax()), bad.shape)
            value = block[frame, channel]
            what = "NaN" if np.isnan(value) else "infinite" if np.isinf(value) else f"{value:.3g}"
            at_s = (self.frames_read + int(frame)) / self.info.rate_hz
            self._bad = f"the first is {what}, at {at_s:.3f} s"
        self._n_bad += int(bad.sum())
        return np.where(bad, np.float32(0), block)

    def _faults(self) -> list[str]:
        """What is wrong with the part that was read."""
        faults = self._decoder.damage.sentences()
        if self._n_bad:
            was = "1 unusable sample was" if self._n_bad == 1 else f"{self._n_bad:,} unusable samples were"
            faults.append(f"{was} replaced by silence: {self._bad}")
        return faults

    def _refuse_damage(self) -> None:
        if faults := self._faults():
            raise CorruptAudioError(
                f"{self.name}: damaged: {faults[0]}", hint="without --strict, the rest is read"
            )

    def _finish(self) -> None:
        claimed, rate = self.info.n_frames, self.info.rate_hz
        if self.frames_read == 0:
            claim = f" (its header claims {claimed / rate:.2f} s)" if claimed else ""
            raise EmptyAudioError(f"{self.name}: no samples{claim}")
        if self.frames_read * 1000 < SHORTEST_MS * rate:
            raise EmptyAudioError(
                f"{self.name}: {self.duration_s * 1000:.1f} ms of audio, at least {SHORTEST_MS} ms are needed"
            )
        if self._n_bad * 2 > self.frames_read * self.info.channels:
            raise CorruptAudioError(f"{self.name}: most samples are unusable: {self._bad}")
        if claimed is not None:
            lost_s, slack_s = self._decoder.damage.lost_s, self._decoder.slack_s
            missing_s = (claimed - self.frames_read) / rate
            # How long gaps are is in part a guess.
            is_cut, is_more = missing_s - lost_s > slack_s + lost_s / 4, -missing_s > slack_s
            if is_cut or is_more:
                what = "truncated or damaged: the" if is_cut else "the"
                self._decoder.damage.note(
                    f"{what} header claims {claimed / rate:.2f} s, {self.duration_s:.2f} s are there"
                )
        self.warnings = self._faults()
        if self._strict:
            self._refuse_damage()
        if self._peak > UNSCALED_RMS:
            self.warnings.append(
                f"samples reach {self._peak:,.0f}, full scale is 1: was the sound not divided by 32,768?"
            )

    def close(self) -> None:
        """Close what was opened for this source; a file object that was given stays open."""
        self._is_closed = True
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_audio(source: Source, *, name: str | None = None, strict: bool = False) -> AudioReader:
    """Open a source for one pass over its samples; use it as a context manager.

    Args:
        source: a path or a URI (see `dymn_cli.remote`); a binary file object, read from its start and left
            open (one that cannot seek is copied first, see `spool`); or (array, rate_hz) with an (n,) or
            (n, channels) array of floats in [-1, 1] or of 8-, 16- or 32-bit integers, which is read in place
            and never changed.
        name: what errors call the source; by default the path, or the file object's own name.
        strict: refuse a damaged source when the damage is met, instead of reading what is left of it.

    Raises:
        AudioNotFoundError: no such file, or no permission to read it.
        UnsupportedAudioError: a format that this installation cannot decode, or no file at all.
        CorruptAudioError: a damaged header; a rate outside 1 to 768 kHz; more than 64 channels.
        EmptyAudioError: the file has no bytes.
        UsageError: a source that is none of the above, or an array whose rate or shape is no audio's.
    """
    if name is not None:
        given: object = name  # types are hints, and callers may have none
        if not isinstance(given, str | os.PathLike):
            raise UsageError(f"name must be text, not {given!r:.60}")
        name = os.fsdecode(name)
    if isinstance(source, tuple):
        return _open_array(source, name or "array", strict=strict)
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        path = named(path) if is_uri(path) else path
        return _open_path(path, name or path, strict=strict)
    if isinstance(cast("object", source), io.TextIOBase):
        raise UsageError("a text file: audio is binary", hint="open the file with mode 'rb'")
    if not hasattr(source, "read"):
        hint = "give a path, a binary file object (io.BytesIO for bytes), or (array, rate_hz)"
        if isinstance(cast("object", source), Mapping) and {"array", "sampling_rate"} <= set(source):
            hint = 'give (audio["array"], audio["sampling_rate"])'  # as data sets of Hugging Face hold it
        raise UsageError(f"not an audio source: {type(source).__name__}", hint=hint)
    own = getattr(source, "name", None)
    name = name or (own if isinstance(own, str) else "audio")
    return _open_stream(source, name, owned=False, strict=strict)


def spool(
    stream: BinaryIO | Pipe, *, most_bytes: int | None = None, into: BinaryIO | None = None
) -> BinaryIO:
    """Copy a stream that cannot seek, such as stdin: in memory to 64 MiB, then in a temporary file.

    Args:
        stream: what is to be copied, to its end; a `Pipe` has a limit of its own.
        most_bytes: a longer stream is refused; None for one that leaves 1 GB of the disk of temporary files
            free, or a tenth where that is less.
        into: the file of the copy, instead of one of its own; it is closed where the copy fails.

    Raises:
        InputError: the stream cannot be read, is too long, or there is no room for the copy.
    """
    copy = into or cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115
    pipe = stream if isinstance(stream, Pipe) else Pipe(stream, most_bytes)
    n_bytes = 0
    try:
        while chunk := pipe.read(SPOOL_CHUNK):
            n_bytes += len(chunk)
            if pipe.most_bytes is None:
                _require_room(n_bytes, len(chunk))
            copy.write(chunk)
        copy.seek(0)
    except (OSError, ValueError) as exc:  # ValueError: the stream is closed
        copy.close()
        raise InputError(
            os_error_text("cannot copy the stream", exc),
            hint="long streams are kept in a temporary file; TMPDIR says where",
        ) from exc
    except BaseException:
        copy.close()
        raise
    return copy


def _require_room(n_bytes: int, n_new: int) -> None:
    """Refuse to fill the disk with the copy of an endless stream; the disk is checked now and then."""
    if n_bytes <= SPOOL_BYTES or n_bytes % SPOOL_LOOK >= n_new:
        return
    folder = tempfile.gettempdir()
    disk = shutil.disk_usage(folder)
    if disk.free < min(KEPT_FREE_BYTES, disk.total // 10):
        raise InputError(
            f"the stream has more than {n_bytes:,} bytes, and {folder} is almost full",
            hint="TMPDIR puts the copy on another disk, --max-input SIZE uses what is left of this one",
        )


def _open_path(path: str, name: str, *, strict: bool) -> AudioReader:
    if is_uri(path):
        return _open_stream(open_uri(path), name, owned=True, strict=strict)
    try:
        stream = cast("BinaryIO", open(path, "rb", buffering=0))  # noqa: PTH123, SIM115 - the reader closes it
    except FileNotFoundError as exc:
        raise AudioNotFoundError(f"{name}: no such file") from exc
    except (IsADirectoryError, PermissionError) as exc:
        if os.path.isdir(path):  # noqa: PTH112 - in a folder that is closed, pathlib raises
            raise UnsupportedAudioError(f"{name}: a folder, not an audio file") from exc
        raise AudioNotFoundError(f"{name}: no permission to read it") from exc
    except (OSError, ValueError) as exc:
        raise AudioNotFoundError(os_error_text(f"{name}: cannot be opened", exc)) from exc
    if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise UnsupportedAudioError(f"{name}: a device, not an audio file")
    return _open_stream(stream, name, owned=True, strict=strict)


def _open_stream(stream: BinaryIO, name: str, *, owned: bool, strict: bool) -> AudioReader:
    """Open a stream of bytes; an `owned` one is closed here, and only we move its position."""
    with contextlib.ExitStack() as opened:
        if owned:
            opened.callback(stream.close)
        try:
            spooled = not _can_seek(stream)
            if spooled:
                pipe = stream if isinstance(stream, Pipe) else Pipe(stream)
                piped = open_piped_wav(pipe, name)
                if piped is not None:
                    _require_usable(piped.info, name)
                    return AudioReader(piped, name, opened.pop_all(), strict=strict)
                stream = spool(pipe)
                opened.callback(stream.close)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
        except (OSError, ValueError) as exc:
            raise InputError(f"{name}: cannot be read: {exc}") from exc
        if not size:
            if name == "-":
                raise EmptyAudioError(
                    "standard input: nothing came", hint="did the program before the pipe fail?"
                )
            raise EmptyAudioError(f"{name}: an empty file")
        if not owned:
            stream = ForeignFile(stream, name).as_file()
        # C libraries on Windows do not share file descriptors.
        by_descriptor = owned and isinstance(stream, io.FileIO) and os.name != "nt"
        try:
            decoder = _decoder_of(stream, name, by_descriptor=by_descriptor)
        except UnsupportedAudioError as error:
            if name == "-" and error.hint is None:
                raise UnsupportedAudioError(
                    error.message.replace("-", "standard input", 1),
                    hint="raw samples have no header that says what they are: pipe WAV, ffmpeg -f wav -",
                ) from error
            if owned and not spooled and error.hint is None:  # its name opens it, unlike that of a pipe
                with contextlib.suppress(OSError):
                    error.hint = headers.archive_hint(stream, name)
            raise
        opened.callback(decoder.close)
        _require_usable(decoder.info, name)
        return AudioReader(decoder, name, opened.pop_all(), strict=strict)


def _require_usable(info: AudioInfo, name: str) -> None:
    if not MIN_RATE_HZ <= info.rate_hz <= MAX_RATE_HZ:
        raise CorruptAudioError(_wrong_rate(info.rate_hz, name))
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise CorruptAudioError(f"{name}: {info.channels} channels, not between 1 and {MAX_CHANNELS}")


def _wrong_rate(rate_hz: int, name: str) -> str:
    return f"{name}: a sample rate of {rate_hz} Hz, not between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz"


def _can_seek(stream: BinaryIO) -> bool:
    seekable = getattr(stream, "seekable", None)
    return hasattr(stream, "seek") if seekable is None else bool(seekable())


def _decoder_of(stream: BinaryIO, name: str, *, by_descriptor: bool) -> Decoder:
    """Ask libsndfile first; PyAV for what it does not know, and for what it finds malformed."""
    try:
        return SegmentDecoder(stream, name, by_descriptor=by_descriptor)
    except (UnsupportedAudioError, CorruptAudioError) as exc:
        error = exc
    try:
        if headers.is_all_zeros(stream):
            raise CorruptAudioError(
                f"{name}: nothing but zero bytes: no audio was ever written to it"
            ) from error
        if headers.lacks_mp4_index(stream):
            raise CorruptAudioError(
                f"{name}: an MP4 without its index (moov): the recording or the copy was broken off"
            ) from error
        is_for_media = headers.is_for_media(stream)
        if not is_for_media and not headers.is_other(stream):
            decoder = open_behind_junk(stream, name)
            if decoder is not None:
                return decoder
    except OSError as exc:
        raise InputError(f"{name}: cannot be read: {exc}") from exc
    try:
        from dymn_cli.audio import media  # an extra, and slow to load
    except ImportError:
        if is_for_media:
            error.hint = MEDIA_HINT
        raise error from error.__cause__
    try:
        return media.MediaDecoder(stream, name)
    except media.NotRecognisedError:
        error.hint = None
        raise error from error.__cause__


class ArrayDecoder:
    """Samples that are in memory already; converted block by block, so that nothing is copied as a whole."""

    slack_s = 0.0

    def __init__(self, samples: NDArray[Any], rate_hz: int) -> None:
        self._samples = samples
        self._position = 0
        self.damage = Damage()
        n_frames, channels = samples.shape
        self.info = AudioInfo(rate_hz, channels, n_frames, "array", str(samples.dtype))

    def read(self, n_frames: int) -> NDArray[np.float32]:
        """The next samples; a view where the array is float32."""
        block = to_float32(self._samples[self._position : self._position + n_frames])
        self._position += len(block)
        return block

    def close(self) -> None:
        """Nothing to close."""


def _open_array(source: tuple[ArrayLike, SupportsIndex], name: str, *, strict: bool) -> AudioReader:
    if len(source) != 2:
        raise UsageError(f"{name}: an array source is a pair: (array, rate_hz)")
    rate: Any  # types are hints, and callers may have none
    given, rate = source
    try:
        rate_hz = -1 if np.ndim(rate) else int(rate)
    except (TypeError, ValueError, OverflowError):
        rate_hz = -1
    if rate_hz < 0 or rate_hz != rate:
        said = f"{rate!r:.60}" if np.isscalar(rate) else type(rate).__name__
        raise UsageError(
            f"{name}: the sample rate is a whole number of hertz, not {said}", hint="(array, rate_hz)"
        )
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise UsageError(_wrong_rate(rate_hz, name), hint="(array, rate_hz)")
    try:
        samples = np.asarray(given)
    except (RuntimeError, TypeError, ValueError) as exc:
        if hasattr(given, "detach"):  # a tensor of PyTorch; NumPy has no bfloat16
            to_float = ".float()" if "bfloat16" in str(getattr(given, "dtype", "")) else ""
            hint = f"give tensor.detach(){to_float}.cpu().numpy()"
        else:
            hint = "(n,) or (n, channels): rows of a list must have one length"
        raise UsageError(f"{name}: NumPy makes no array of this {type(given).__name__}", hint=hint) from exc
    if samples.dtype.kind not in "fiu" or samples.dtype.str[1:] not in ARRAY_TYPES:
        raise UsageError(
            f"{name}: samples of type {samples.dtype}",
            hint="floats in [-1, 1], or int8, uint8, int16, int32 over their full range",
        )
    if samples.ndim == 1:
        samples = samples[:, np.newaxis]
    if samples.ndim != 2 or samples.shape[1] > MAX_CHANNELS:
        raise UsageError(
            f"{name}: an array of shape {tuple(np.shape(given))}",
            hint="(n,) or (n, channels): time runs along the first axis; transpose where it is the last",
        )
    if not samples.size:
        raise EmptyAudioError(f"{name}: no samples")
    return AudioReader(ArrayDecoder(samples, rate_hz), name, contextlib.ExitStack(), strict=strict)
