"""A source as the segments of it that decode, one after the other.

    FLAC    ███ frame frame ✗ frame frame ███       goes on at the next frame whose header is sound
    MP3     ███ frame frame ✗ frame ██ junk ██      shown without what is no frame
    Ogg     ██ link ██│██ link ██                   link by link, Opus with time stamps counted anew
    WAV ... head│██ samples ██│head│██ samples ██   file by file, behind headers that are right

Undamaged files are read by libsndfile alone, in one pass; of MP3, the headers of all frames are looked at
before. Only where it stops, or a cheap look at both ends of the file says that there is more, is the file
searched. Each segment has a decoder of its own; all come out at the rate and with the channels of the first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from dymn_cli.audio import chunks, flac, headers, mpeg, ogg
from dymn_cli.audio.damage import Adapter, Damage
from dymn_cli.audio.sndfile import MEDIA_HINT, SoundfileDecoder
from dymn_cli.audio.virtual_files import ByteWindow, SplicedFile, size_of
from dymn_cli.errors import CorruptAudioError, InputError, UnsupportedAudioError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from dymn_cli.audio.virtual_files import Part
    from dymn_cli.results import AudioInfo

__all__ = ["SegmentDecoder", "open_behind_junk"]

MAX_FAILURES = 200  # places in a row from which nothing decodes: then the rest is given up
JUNK_SEARCH = 1 << 20
TAIL = 1 << 16
SLACK_S = 0.05
MIN_FRAMES = 1 << 14  # a call: what libFLAC says of a damaged spot comes a few of its frames late
MARKS = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS\0\2", b"FORM", b"caff\0\1\0\0", b".snd\0\0\0")


@dataclass(slots=True)
class Segment:
    """A part of a source that one decoder reads.

    Args:
        decoder: reads it.
        skip: samples at its start to drop: read already, or the encoder's delay.
        lost_s: seconds that are missing before it.
        n_given: samples that it gave.
    """

    decoder: SoundfileDecoder
    skip: int = 0
    lost_s: float = 0.0
    n_given: int = 0


class _File:
    """A file that is being read, whatever its format."""

    def __init__(self, stream: BinaryIO, name: str, damage: Damage, *, by_descriptor: bool) -> None:
        self.stream = stream
        self.name = name
        self.damage = damage
        self.by_descriptor = by_descriptor
        self.end = size_of(stream)

    def whole(self) -> SoundfileDecoder:
        """The file as libsndfile reads it by itself."""
        return SoundfileDecoder(self.stream, self.name, by_descriptor=self.by_descriptor)

    def spliced(
        self, parts: Iterator[Part] | tuple[Part, ...], container: str, *, is_endless: bool = False
    ) -> SoundfileDecoder:
        """A decoder of parts of it."""
        view = SplicedFile(self.stream, iter(parts), is_endless=is_endless)
        return SoundfileDecoder(view.as_file(), self.name, container=container, length_known=not is_endless)

    def unread(self, decoder: SoundfileDecoder) -> int:
        """Bytes that a decoder of the whole file has left."""
        return self.end - decoder.position


class SegmentDecoder:
    """Forward reading of a file that libsndfile knows, over damaged spots.

    Args:
        stream: a seekable binary file; the caller closes it.
        name: what errors call the source.
        by_descriptor: let libsndfile read from the stream's file descriptor.
        damage: collects what is wrong; a new one by default.

    Raises:
        UnsupportedAudioError: libsndfile does not know the format.
        CorruptAudioError: it does, but nothing of the file decodes.
        InputError: the file object fails to read.
    """

    slack_s = SLACK_S

    def __init__(
        self, stream: BinaryIO, name: str, *, by_descriptor: bool, damage: Damage | None = None
    ) -> None:
        self.damage = damage or Damage()
        try:
            view = headers.without_tags(stream)
            source = stream if view is None else view.as_file()
            headers.require_harmless(source, name)
            file = _File(source, name, self.damage, by_descriptor=by_descriptor and view is None)
            self._segments = _segments(file)
            self._current: Segment | None = next(self._segments)
        except OSError as exc:
            raise InputError(f"{name}: cannot be read: {exc}") from exc
        self._name = name
        self._ready: deque[NDArray[np.float32]] = deque()
        self._n_read = 0
        self.info: AudioInfo = self._current.decoder.info
        self._adapter = Adapter(self.info.rate_hz, self.info.channels, self.damage)

    def read(self, n_frames: int) -> NDArray[np.float32]:
        """Decode the next samples; none at the end.

        Raises:
            InputError: the file object fails to read.
        """
        while not self._ready:
            if self._current is None:
                return np.empty((0, self.info.channels), np.float32)
            self._decode(self._current, n_frames)
        block = self._ready.popleft()
        if len(block) > n_frames:
            self._ready.appendleft(block[n_frames:])
            block = block[:n_frames]
        self._n_read += len(block)
        return block

    def _decode(self, segment: Segment, n_frames: int) -> None:
        decoder = segment.decoder
        block = decoder.read(max(n_frames, MIN_FRAMES))
        if not len(block):
            self._ready.extend(self._adapter.flush())
            self._current = self._next()
            decoder.close()
            return
        if segment.skip:
            n_skipped = min(segment.skip, len(block))
            segment.skip -= n_skipped
            block = block[n_skipped:]
        if len(block):
            at_s = self._n_read / self.info.rate_hz + self.damage.lost_s
            if not segment.n_given and segment.lost_s:
                self.damage.gap(at_s, segment.lost_s)
            segment.n_given += len(block)
            self._ready.extend(self._adapter.put(block, decoder.info.rate_hz, at_s))

    def _next(self) -> Segment | None:
        try:
            return next(self._segments, None)
        except OSError as exc:
            raise InputError(f"{self._name}: cannot be read: {exc}") from exc

    def close(self) -> None:
        """Close libsndfile's handle, not the stream."""
        if self._current is not None:
            self._current.decoder.close()


def open_behind_junk(stream: BinaryIO, name: str) -> SegmentDecoder | None:
    """Open audio that does not start at the start of a file; None where none is found near it.

    Args:
        stream: the seekable file; its position is moved.
        name: what errors call the source.

    Raises:
        InputError: the file object fails to read.
    """
    window = ByteWindow(stream, min(size_of(stream), JUNK_SEARCH))
    starts = {at for mark in MARKS if (at := window.find(mark, 1)) > 0}
    run = mpeg.Walker(stream, 0, window.end).next_run()
    if run is not None:
        starts.add(run.start)
    end, frame = size_of(stream), flac.first_frame(stream, window.end)
    if frame is not None and not any(start <= frame.offset for start in starts):
        info = flac.guessed_info(frame)
        note = f"the front of the stream is missing: it starts with sample {frame.sample:,}"
        return None if info is None else _opened(stream, name, flac.parts_from(info, frame.offset, end), note)
    for start in sorted(starts):
        note = f"{start:,} bytes in front of the audio are left out" if start else ""
        decoder = _opened(stream, name, [range(start, end)], note)
        if decoder is not None:
            return decoder
    return None


def _opened(stream: BinaryIO, name: str, parts: Iterable[Part], note: str) -> SegmentDecoder | None:
    """Parts of a file as audio, with what is wrong with it; None where they are none."""
    damage = Damage()
    if note:
        damage.note(note)
    view = SplicedFile(stream, parts).as_file()
    try:
        return SegmentDecoder(view, name, by_descriptor=False, damage=damage)
    except (CorruptAudioError, UnsupportedAudioError):
        return None


def _segments(file: _File) -> Iterator[Segment]:
    mark = ByteWindow(file.stream).get(0, 4)
    if mark == b"OggS":
        return _of_ogg(file)
    if mark == b"fLaC":
        return _Flac(file).segments()
    pieces = chunks.pieces(file.stream)
    if pieces:
        return _of_pieces(file, pieces)
    return _of_other(file)


def _of_pieces(file: _File, pieces: list[chunks.Piece]) -> Iterator[Segment]:
    for number, piece in enumerate(pieces):
        for note in piece.notes:
            file.damage.note(note)
        if piece.coding in chunks.MPEG_CODINGS:
            yield from _of_runs(file, piece.samples.start, piece.samples.stop, container=piece.container)
            continue
        try:
            decoder = file.spliced(piece.parts, piece.container) if piece.header else file.whole()
        except (CorruptAudioError, UnsupportedAudioError) as exc:
            if number:
                file.damage.note("the rest of the file could not be decoded")
                return
            if piece.coding and piece.coding not in chunks.READ_CODINGS:
                raise UnsupportedAudioError(
                    f"{file.name}: WAV with the coding 0x{piece.coding:x}, which libsndfile does not read",
                    hint=MEDIA_HINT,
                ) from exc
            raise
        if len(pieces) > 1:
            decoder.forget_length()
        yield from _segment(file, decoder)


def _of_other(file: _File) -> Iterator[Segment]:
    decoder = file.whole()
    position = file.stream.tell()
    if decoder.info.container != "MP3":
        yield from _segment(file, decoder)
        return
    start, end = headers.after_tags(file.stream, with_footers=True), mpeg.end_of_audio(file.stream)
    # Looking at all headers takes a fiftieth of decoding, and mpg123 itself says nothing of small holes.
    run, is_intact = mpeg.survey(file.stream, start, end)
    if run is None or is_intact:
        file.stream.seek(position)
        yield from _segment(file, decoder)
        return
    decoder.close()
    is_counted = run.n_claimed and run.n_samples <= run.n_claimed + run.slack
    yield from _of_runs(file, start, end, n_claimed=decoder.info.n_frames if is_counted else None)


def _of_runs(
    file: _File, start: int, end: int, *, n_claimed: int | None = None, container: str = "MP3"
) -> Iterator[Segment]:
    """MPEG frames between two positions, of which a header claims so many samples."""
    walker = mpeg.Walker(file.stream, start, end)
    number = 0
    while (run := walker.next_run()) is not None:
        if run.before:
            where = "in front of the audio" if not number else "between its parts"
            file.damage.note(f"{run.before:,} bytes {where} are left out")
        places = walker.places(run)
        decoder = file.spliced(places, container, is_endless=True)
        if not number:
            decoder.info = replace(decoder.info, n_frames=n_claimed)
        yield from _segment(file, decoder, skip=run.skipped)
        for _ in places:
            pass
        for gap in run.gaps:
            file.damage.gap(*gap)
        if run.is_cut and n_claimed is None:
            file.damage.note("cut off: the last frame is not whole")
        number += 1
    if not number:
        raise CorruptAudioError(f"{file.name}: damaged: no MPEG frames that follow one another")
    if walker.behind:
        file.damage.note(f"{walker.behind:,} bytes behind the audio are left out")


def _segment(file: _File, decoder: SoundfileDecoder, skip: int = 0) -> Iterator[Segment]:
    """One segment, and a note of where it breaks off."""
    yield Segment(decoder, skip)
    if decoder.is_broken and decoder.position >= file.end:
        file.damage.note("cut off: the stream stops before its end mark")
    elif decoder.is_broken:
        at_s = decoder.n_read / decoder.info.rate_hz
        file.damage.note(f"damaged at {at_s:.2f} s: the rest could not be decoded")


class _Flac:
    """A FLAC stream with damaged spots, and the streams behind it."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self._info = flac.stream_info(file.stream, 0)
        self._place = 4 if self._info is None else self._info.start  # where to look from
        self._first = flac.frame_at(file.stream, self._place)
        self._stream_start = 0
        self._n_known = 0  # samples of the stream that are dealt with
        self._last: tuple[int, NDArray[np.generic]] = (0, np.empty((0, 0), np.float32))

    def segments(self) -> Iterator[Segment]:
        """All that decodes."""
        try:
            decoder = self._start()
        except (CorruptAudioError, UnsupportedAudioError):
            found = next(self._further(), None)
            if found is None:
                raise
            self._file.damage.note("its header is damaged")
            yield from self._through(*found)
        else:
            segment = Segment(decoder)
            yield segment
            self._dealt_with(segment, self._first.sample if self._first else 0)
            if not decoder.is_broken and not self._is_more(decoder):
                return
        n_failures = 0
        while n_failures < MAX_FAILURES:
            found = next(self._further(), None)
            if found is None:
                return
            yield from self._through(*found)
            n_failures = 0 if found[0].n_given else n_failures + 1
        self._file.damage.note("the rest of the file could not be decoded")

    def _start(self) -> SoundfileDecoder:
        """The file as it is, or with what its first frame says where its header says something else."""
        info, own = self._info, flac.guessed_info(self._first) if self._first else None
        if info is None or own is None or info[1:4] == own[1:4]:
            return self._file.whole()
        self._file.damage.note(
            "its header is damaged: the rate or the like that it claims is not that of its frames"
        )
        self._info = own._replace(block_size=info.block_size)
        return self._file.spliced(flac.parts_from(own, own.start, self._file.end), "FLAC")

    def _through(self, segment: Segment, frame: flac.Frame, info: flac.StreamInfo) -> Iterator[Segment]:
        yield segment
        self._info, self._place = info, frame.offset + 1
        if frame.is_stream:
            self._stream_start = frame.offset
            self._dealt_with(segment, 0)
        elif segment.n_given:
            self._dealt_with(segment, frame.sample)

    def _dealt_with(self, segment: Segment, first: int) -> None:
        self._n_known = first + segment.decoder.n_read
        last = segment.decoder.last
        self._last = (self._n_known - len(last), last)

    def _is_more(self, decoder: SoundfileDecoder) -> bool:
        """Whether frames or streams follow the end that a header claims."""
        file = self._file
        if file.unread(decoder) > 0:
            return True
        tail = max(self._place, file.end - TAIL)
        return any(
            frame.is_stream or frame.sample + frame.n_samples > self._n_known
            for frame in flac.frames(file.stream, tail, self._info)
        )

    def _further(self) -> Iterator[tuple[Segment, flac.Frame, flac.StreamInfo]]:
        """Where decoding can go on: a segment, its first frame and its stream."""
        file, silent, n_failures = self._file, None, 0
        for frame in flac.frames(file.stream, self._place, self._info):
            skip = lost = 0
            if frame.is_stream:
                if frame.offset <= self._stream_start:
                    continue
                info = flac.stream_info(file.stream, frame.offset)
                parts: tuple[Part, ...] = (range(frame.offset, file.end),)
            else:
                if self._is_silent(frame):
                    silent = frame
                if frame.sample + frame.n_samples <= self._n_known:
                    continue
                info = self._info or flac.guessed_info(frame)
                if info is None:
                    continue
                parts = flac.parts_from(info, frame.offset, file.end)
                skip, lost = max(0, self._n_known - frame.sample), max(0, frame.sample - self._n_known)
            if info is None or not info.rate_hz:
                continue
            try:
                decoder = file.spliced(parts, "FLAC")
            except (CorruptAudioError, UnsupportedAudioError):
                n_failures += 1
                if n_failures > MAX_FAILURES:
                    return
                continue
            if silent is not None and not lost:
                at_s = silent.sample / info.rate_hz
                file.damage.gap(at_s, silent.n_samples / info.rate_hz, is_silent=True)
            yield Segment(decoder, skip=skip, lost_s=lost / info.rate_hz), frame, info

    def _is_silent(self, frame: flac.Frame) -> bool:
        """Whether a frame came as zeros before its stream broke: libFLAC's answer to a wrong checksum."""
        start, block = self._last
        low, high = max(0, frame.sample - start), min(len(block), frame.sample + frame.n_samples - start)
        return low < high and not block[low:high].any()


def _of_ogg(file: _File) -> Iterator[Segment]:
    is_chained = ogg.is_chained(file.stream)
    n_given, is_broken = 0, True
    failure: InputError | None = None
    try:
        decoder = file.whole()
    except (CorruptAudioError, UnsupportedAudioError) as exc:
        failure = exc
    else:
        if is_chained:
            decoder.forget_length()
        claimed = decoder.info.n_frames
        yield Segment(decoder)
        n_given = decoder.n_read
        is_broken = decoder.is_broken or not n_given
        is_short = claimed is None or claimed - n_given > SLACK_S * decoder.info.rate_hz
        is_doubtful = is_short or decoder.lacks_end_mark or decoder.has_holes
        if not (is_broken or is_chained or is_doubtful or file.unread(decoder) > 0):
            return
    n_opened, last_end = int(n_given > 0), file.end
    for number, link in enumerate(ogg.links(file.stream)):
        if number or is_broken:
            try:
                decoder = _open_link(file, link)
            except (CorruptAudioError, UnsupportedAudioError) as exc:
                failure = exc
                if n_opened:
                    file.damage.note("the rest of the file could not be decoded")
                if number > MAX_FAILURES:
                    break
                continue
            yield from _segment(file, decoder, skip=0 if number else n_given)
            n_opened += 1
        if not link.has_ended:
            file.damage.note("cut off: the stream stops before its end mark")
        for gap in link.gaps:
            file.damage.gap(*gap)
        last_end = link.end if link.has_ended else file.end
    if not n_opened and failure is not None:
        raise failure
    if file.end > last_end:
        file.damage.note(f"{file.end - last_end:,} bytes behind the audio are left out")


def _open_link(file: _File, link: ogg.Link) -> SoundfileDecoder:
    if link.codec == "SPEEX":
        raise UnsupportedAudioError(
            f"{file.name}: Speex in Ogg, which libsndfile does not read", hint=MEDIA_HINT
        )
    return SoundfileDecoder(link.view(file.stream).as_file(), file.name, container="OGG")
