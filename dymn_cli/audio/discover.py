"""From names on the command line to the files to read: folders, lists of names, natural order.

Names are data: a name may hold spaces, brackets, line ends or bytes that are no UTF-8 (kept as
surrogate escapes, as `os.fsdecode` does). Names are held, a few hundred bytes each; audio never. What lies
below a URI passes through, however much it is.

In a folder, files count by their suffix: those of audio and video formats that this installation can read.
Hidden files and folders, pipes and devices are skipped. Each folder is entered once, so loops of symbolic
links end. Skipped files that look like audio are counted by suffix. With a suffix of audio, pipes and devices
are counted, and so are files that a link has by another name. A file that is named itself is read whatever
its suffix. A file that is reached twice (the same real path) is read once.
"""

from __future__ import annotations

import codecs
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import BinaryIO, overload

from dymn_cli.errors import AudioNotFoundError, InputError, UsageError, os_error_text
from dymn_cli.remote.store import Stat, listing, may_be_folder, stat
from dymn_cli.remote.uri import address_of, base_name, is_uri, named
from dymn_cli.values import counted

__all__ = [
    "AUDIO_SUFFIXES",
    "Found",
    "FoundList",
    "SkippedFiles",
    "find",
    "is_recording",
    "natural_key",
    "parse_extensions",
    "read_names",
    "share_of",
]

SUFFIXES = (
    "wav wave rf64 bwf w64 flac ogg oga opus spx mp3 mp2 mp1 mpa aif aiff aifc caf au snd voc sd2 sph nist "
    "m4a m4b aac mp4 m4v mov mkv mka webm weba wma wmv avi flv 3gp amr ac3 ts mts m2ts mpg mpeg"
)
AUDIO_SUFFIXES = frozenset(SUFFIXES.split())
MEDIA = "wv tta ape mpc tak shn dsf dff dts eac3 ec3 asf 3g2 f4a f4v ogv ra rm oma aa3 gsm dss"
MEDIA_SUFFIXES = frozenset(MEDIA.split())
"""Read where PyAV is installed; those of `SUFFIXES` that need it as well give an error that names it."""

OTHER = "wac zc ds2 m4p aax mqa vox 8svx ofr la"
OTHER_SUFFIXES = frozenset(OTHER.split())
"""Of audio that nothing here is known to read."""

MAX_OPENED = 8  # files of one suffix whose first bytes are looked at, unless one of them is audio
HEAD_BYTES = 16
HEADS = re.compile(
    rb"(RIFF|RF64|BW64)....WAVE|riff|FORM....(AIF|8SVX)|fLaC|OggS|ID3|caff|\.snd|wvpk|TTA[12]|MAC |MPCK|MP\+"
    rb"|NIST_1A|#!AMR|DSD |FRM8|Creative Voice|....ftyp(M4A|M4B|isom|mp4|qt)"
    rb"|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75\x8e\x66",
    re.DOTALL,
)
"""How files of audio begin; not the two bytes of a bare MP3 stream, which other files begin with as well."""

LONGEST_NAME = 1 << 16  # no file system has longer paths

DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Found:
    """A source to read, or the problem with a name that leads to none.

    Args:
        name: of the source.
        problem: why there is no source; None where there is one.
        n_folder: characters of the name that are the folder it was found in as given; 0 where it was named.
        stat: what a store has said of it, as long as it is a URI and was asked.
    """

    name: str
    problem: InputError | None = None
    n_folder: int = field(default=0, compare=False)
    stat: Stat | None = field(default=None, compare=False)


class FoundList(Sequence[Found]):
    """Sources that must be held, in half of the memory: a million keys of a store take some 150 MB."""

    def __init__(self, found: Iterable[Found] = ()) -> None:
        self._names: list[str] = []
        self._n_folder, self._sizes, self._versions = array("i"), array("q"), array("q")
        self._others: dict[
            int, Found
        ] = {}  # what numbers do not say: a problem, half of what a store could say
        for one in found:
            self.append(one)

    def append(self, found: Found) -> None:
        """Add one."""
        there = found.stat
        is_known = there is not None and there.size is not None and there.version is not None
        if found.problem is not None or (there is not None and not is_known):
            self._others[len(self._names)] = found
        self._names.append(found.name)
        self._n_folder.append(found.n_folder)
        self._sizes.append(-1 if there is None or there.size is None else there.size)
        self._versions.append(0 if there is None or there.version is None else there.version)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Found: ...
    @overload
    def __getitem__(self, index: slice) -> FoundList: ...
    def __getitem__(self, index: int | slice) -> Found | FoundList:
        if isinstance(index, slice):
            return FoundList(self[n] for n in range(*index.indices(len(self))))
        index = range(len(self))[index]
        if index in self._others:
            return self._others[index]
        size = self._sizes[index]
        there = None if size < 0 else Stat(size, self._versions[index])
        return Found(self._names[index], n_folder=self._n_folder[index], stat=there)


class SkippedFiles:
    """Counts the files in folders that look like audio but are skipped: by suffix, where that is the reason.

    For an unknown suffix, the first bytes of a few files decide.

    Attributes:
        n_special: pipes, sockets and devices.
        n_again: further names, by symbolic links, of files that are read.
    """

    def __init__(self) -> None:
        self._n_of: dict[str, int] = {}
        self._n_opened: dict[str, int] = {}
        self.n_special = self.n_again = 0
        self._audio = MEDIA_SUFFIXES | OTHER_SUFFIXES

    def add(self, entry: os.DirEntry[str]) -> None:
        """Count a file that is no source."""
        suffix = _suffix(entry.name)
        if suffix in self._audio or suffix in self._n_of or self._is_audio(entry, suffix):
            self._n_of[suffix] = self._n_of.get(suffix, 0) + 1

    def add_name(self, name: str) -> None:
        """Count an object of a store that is no source; none is opened."""
        suffix = _suffix(name)
        if suffix in self._audio:
            self._n_of[suffix] = self._n_of.get(suffix, 0) + 1

    def _is_audio(self, entry: os.DirEntry[str], suffix: str) -> bool:
        n_opened = self._n_opened.get(suffix, 0)
        if n_opened >= MAX_OPENED or _is_special(entry):
            return False
        self._n_opened[suffix] = n_opened + 1
        try:
            with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123 - names may be bytes
                return HEADS.match(file.read(HEAD_BYTES)) is not None
        except OSError:
            return False

    def sentences(self) -> Iterator[tuple[str, str]]:
        """What is skipped, and what to do about it, as (sentence, hint)."""
        media = [suffix for suffix in self._n_of if suffix in MEDIA_SUFFIXES]
        other = [suffix for suffix in self._n_of if suffix not in MEDIA_SUFFIXES]
        for suffixes, hint in (
            (media, "one more package reads them: pip install 'dymn[media]'"),
            (other, "name them with --ext, or by their own names" if "" in other else "name them with --ext"),
        ):
            if suffixes:
                n_files = sum(self._n_of[suffix] for suffix in suffixes)
                shown = ", ".join(f".{suffix}" if suffix else "no suffix" for suffix in sorted(suffixes))
                yield f"{shown}: {counted(n_files, 'file')} left out", hint
        if self.n_again:
            yield f"further names of files, by links: {self.n_again} left out", "each file is read once"
        if self.n_special:
            yield f"pipes, sockets, devices: {self.n_special} left out", "name them to read them"


def _readable_suffixes() -> frozenset[str]:
    """Suffixes of formats that this installation reads, or names the package for."""
    return AUDIO_SUFFIXES | MEDIA_SUFFIXES if find_spec("av") is not None else AUDIO_SUFFIXES


def find(
    names: Iterable[str],
    *,
    extensions: frozenset[str] | None = None,
    recurse: bool = True,
    skipped: SkippedFiles | None = None,
    without: str | None = None,
) -> Iterator[Found]:
    """The sources that names lead to, in the order of the names, folders in natural order.

    Args:
        names: files, folders, URIs of either, or "-" for standard input.
        extensions: in folders, only these suffixes (lower case, without the dot); None for all known.
        recurse: also look into folders within folders.
        skipped: counts what looks like audio and is no source; unused with `extensions`.
        without: a folder that is not entered from another one.
    """
    suffixes = extensions or _readable_suffixes()
    counting = skipped if extensions is None else None
    seen: set[str] = set()
    search = _Search(suffixes, recurse, counting, None if without is None else os.path.realpath(without))
    stores = _Stores(search, extensions)
    for name in names:
        if is_uri(name):
            yield from stores.find(named(name))
        elif name != "-" and os.path.isdir(name):  # noqa: PTH112 - names may be bytes that no Path holds
            yield from _in_folder(name, extensions, search, seen)
        elif _is_new(name, seen):
            yield Found(name)


@dataclass(frozen=True, slots=True)
class _Search:
    """How folders are searched."""

    suffixes: frozenset[str]
    recurse: bool
    skipped: SkippedFiles | None
    without: str | None  # the real path of a folder that is passed over


def _in_folder(
    folder: str, extensions: frozenset[str] | None, search: _Search, seen: set[str]
) -> Iterator[Found]:
    is_empty = True
    linked: set[str] = set()
    for found, real, is_link in _walk(folder, search):
        is_empty = False
        if real not in seen:
            seen.add(real)
            yield found
        elif search.skipped is not None:
            search.skipped.n_again += is_link or real in linked
        if is_link:
            linked.add(real)
    if is_empty and _is_new(folder, seen):
        yield _nothing_in(folder, extensions)


def _nothing_in(folder: str, extensions: frozenset[str] | None) -> Found:
    what = ", ".join(sorted(extensions)) if extensions else "audio"
    problem = InputError(f"{folder}: no {what} files in this folder", hint="other suffixes: --ext wav,flac")
    return Found(folder, problem)


class _Stores:
    """Finds sources in stores; of what is below a folder, no names are held.

    Args:
        search: how folders are searched.
        extensions: the suffixes that were asked for, or None.
    """

    def __init__(self, search: _Search, extensions: frozenset[str] | None) -> None:
        self._search = search
        self._extensions = extensions
        self._addresses: dict[str, str] = {}  # of what was named itself
        self._folders: list[tuple[str, str]] = []  # what names below them begin and end with

    def find(self, name: str) -> Iterator[Found]:
        """The source of that name, or those below it."""
        is_folder, there = name.partition("::")[0].endswith("/"), None
        if not is_folder and may_be_folder(name):
            try:
                there = stat(name)
            except InputError as error:
                if name not in self._addresses:
                    self._addresses[name] = address_of(name)
                    yield Found(name, error)
                return
        if is_folder or (there is not None and there.is_folder):
            yield from self._in_folder(name)
        elif self._is_in_folder(name):
            pass
        elif name not in self._addresses:
            self._addresses[name] = address_of(name)
            yield Found(name, stat=there)
        elif self._addresses[name] != address_of(name):
            yield Found(
                name, InputError(f"{name}: another input has this name without its credentials as well")
            )

    def _in_folder(self, folder: str) -> Iterator[Found]:
        start, archive, rest = folder.partition("::")
        start = start if start.endswith("/") else f"{start}/"
        n_found = 0
        try:
            for name, there in listing(folder, recurse=self._search.recurse):
                if _suffix(base_name(name)) in self._search.suffixes:
                    n_found += 1
                    if name not in self._addresses and not self._is_in_folder(name):
                        yield Found(name, n_folder=len(start), stat=there)
                elif self._search.skipped is not None:
                    self._search.skipped.add_name(base_name(name))
        except InputError as error:
            yield Found(folder, error)
            return
        if not n_found:
            yield _nothing_in(folder, self._extensions)
        self._folders.append((start, archive + rest))

    def _is_in_folder(self, name: str) -> bool:
        """Whether a folder that has been listed had it."""
        first, archive, rest = name.partition("::")
        for start, end in self._folders:
            if not first.startswith(start) or archive + rest != end:
                continue
            parts = first[len(start) :].split("/")
            is_hidden = any(part.startswith(".") for part in parts)
            if _suffix(parts[-1]) in self._search.suffixes and not is_hidden:
                return self._search.recurse or len(parts) == 1
        return False


def _walk(top: str, search: _Search) -> Iterator[tuple[Found, str, bool]]:
    """The files in a folder, then those in each folder within it; folders that cannot be listed, too.

    Yields:
        What was found, its real path, and whether it is a symbolic link.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [(top, os.path.realpath(top))]
    while waiting:
        folder, real = waiting.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as exc:
            problem = AudioNotFoundError(os_error_text(f"{folder}: this folder cannot be listed", exc))
            yield Found(folder, problem), real, False
            continue
        inner = []
        for entry in sorted(visible, key=lambda entry: natural_key(entry.name)):
            if _is_folder(entry):
                if (real_inner := _real_path(entry, real)) != search.without:
                    inner.append((entry.path, real_inner))
            elif _suffix(entry.name) not in search.suffixes:
                if search.skipped is not None:
                    search.skipped.add(entry)
            elif not _is_special(entry):
                yield Found(entry.path, n_folder=len(top)), _real_path(entry, real), entry.is_symlink()
            elif search.skipped is not None:
                search.skipped.n_special += 1
        if search.recurse:
            waiting.extend(reversed(inner))


def _real_path(entry: os.DirEntry[str], folder: str) -> str:
    """The real path; the file system is asked only for links, since that takes longer than all else here."""
    return os.path.realpath(entry.path) if entry.is_symlink() else f"{folder}{os.sep}{entry.name}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def is_recording(head: bytes, name: str) -> bool:
    """Whether a file that is no text is audio, by its first bytes or its suffix."""
    return b"\0" in head and (HEADS.match(head) is not None or _suffix(name) in AUDIO_SUFFIXES)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()  # noqa: PTH122


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether it is a pipe, a socket or a device, which might block; a dangling link is none of them."""
    try:
        return not entry.is_file() and os.path.exists(entry.path)  # noqa: PTH110
    except OSError:
        return False


def _is_new(name: str, seen: set[str]) -> bool:
    real = name if name == "-" else os.path.realpath(name)
    if real in seen:
        return False
    seen.add(real)
    return True


def share_of(found: Sequence[Found], index: int, count: int) -> Sequence[Found]:
    """The index-th of count contiguous shares, from 1; their sizes differ by one at most."""
    return found[(index - 1) * len(found) // count : index * len(found) // count]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `take2` before `take10`, and orders the rest by code point."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in DIGITS.split(name) if part]


def parse_extensions(text: str | None) -> frozenset[str] | None:
    """From "wav,.FLAC" to {"wav", "flac"}.

    Raises:
        UsageError: it names no suffix.
    """
    if text is None:
        return None
    suffixes = frozenset(part.strip().lstrip(".").lower() for part in text.split(",")) - {""}
    if not suffixes:
        raise UsageError(f"--ext {text!r} names no suffix", hint="for example --ext wav,flac")
    return suffixes


def read_names(stream: BinaryIO, *, null: bool) -> Iterator[str]:
    """Names from a list as it streams: a line each (LF or CRLF), or up to a NUL byte; empty ones skipped.

    A byte-order mark is skipped, too.

    Raises:
        UsageError: there are NUL bytes in lines, as `find -print0` writes them, a name without end, UTF-16.
    """
    end = b"\0" if null else b"\n"
    rest = b""
    read = getattr(stream, "read1", stream.read)
    for n, chunk in enumerate(iter(lambda: read(1 << 16), b"")):
        if n == 0 and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UsageError("the list of names is in UTF-16", hint="save it as UTF-8")
        if n == 0:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
        *names, rest = (rest + chunk).split(end)
        yield from _decoded(names, null)
        if len(rest) > LONGEST_NAME:
            raise UsageError("the list of names has a name that has no end", hint="is it a text file?")
    yield from _decoded([rest], null)


def _decoded(names: list[bytes], null: bool) -> Iterator[str]:
    for name in names:
        if not null and b"\0" in name:
            raise UsageError("the names in this list end with NUL bytes", hint="add -0")
        clean = name if null else name.removesuffix(b"\r")
        if clean:
            yield os.fsdecode(clean)
