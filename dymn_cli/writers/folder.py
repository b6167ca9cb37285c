"""One result file for each source, in a folder that mirrors where the sources lie.

    recordings/a/b.wav   found in recordings/   →  DIR/a/b.wav.csv
    a/b.wav              named itself           →  DIR/a/b.wav.csv
    /data/b.wav, ../b.wav                       →  DIR/b.wav.csv
    s3://bucket/a/b.wav found in s3://bucket/   →  DIR/a/b.wav.csv

Names are kept whole, so that `a.wav` and `a.flac` do not meet. Each file appears when it is complete; what
made them all stands once, in `DIR/dymn.meta.json`. Symbolic links within DIR are not written through: a file
of that name elsewhere is not what was asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from dymn_cli.atomic import remove_parts
from dymn_cli.errors import OutputError, UsageError, os_errors_as
from dymn_cli.remote.uri import base_name, is_uri
from dymn_cli.writers.beside import META_NAME, failures_of, index_of, is_beside, is_left_over, warnings_of
from dymn_cli.writers.meta import meta_document
from dymn_cli.writers.target import check_target, open_target, together

if TYPE_CHECKING:
    from dymn_cli.audio.discover import Found
    from dymn_cli.writers.base import Provenance, Writer

__all__ = ["META_NAME", "ResultFolder"]

LONGEST_NAME = 255  # bytes, on all usual file systems

_SUFFIXES = {
    "table": "txt",
    "audacity": "audacity.txt",
    "raven": "raven.txt",
    "kaleidoscope": "kaleidoscope.csv",
    "sed": "sed.tsv",
}

T_contra = TypeVar("T_contra", contravariant=True)
Make = Callable[[BinaryIO, "BinaryIO | None"], "Writer[T_contra]"]


class ResultFolder:
    """Where the result of each source goes.

    Args:
        folder: DIR; it is made when the first file is written.
        format_name: of the files; an npy file has an index beside it.
        sources: all of them.

    Raises:
        UsageError: two sources would share a file.
        OutputError: a name becomes too long, or DIR is no folder.
    """

    def __init__(self, folder: str, format_name: str, sources: Iterable[Found]) -> None:
        self._folder = Path(folder)
        if self._folder.exists() and not self._folder.is_dir():
            raise OutputError(f"{folder}: not a folder", hint="choose another --out-dir")
        self._suffix = _SUFFIXES.get(format_name, format_name)
        self._index = format_name == "npy"
        self._of_name = {found.name: found for found in sources if found.problem is None}
        self._check_names()

    def check(self, may_replace: Callable[[str, str], bool] = lambda name, path: False) -> None:
        """Find out, before any work, whether one of the files is there already.

        The file of provenance, where no result is left in DIR, and an index without its matrix are left over.

        Args:
            may_replace: from a source and a file of its result to whether that may go; "" is no source, its
                file is that of provenance.

        Raises:
            OutputError: one is there that may not be replaced, or a symbolic link is in the way.
        """
        if self._folder.is_dir():
            for name in ("", *self._of_name):
                for path in self._files_of(name) if name else (self.meta,):
                    self._require_no_link(path)
                    is_in_the_way = os.path.lexists(path) and not may_replace(name, path)
                    if is_in_the_way and not self._is_left_over(name, path):
                        check_target(path)

    @property
    def meta(self) -> str:
        """The file that says what made the others."""
        return str(self._folder / META_NAME)

    def path_of(self, name: str) -> str:
        """The file of a source's result."""
        return str(self._folder / self._place(name))

    def called(self, name: str) -> Iterator[str]:
        """Those files of this folder, and of those within it, that have some name."""
        files = chain([self.meta], *map(self._files_of, self._of_name))
        return (path for path in files if os.path.basename(path) == name)  # noqa: PTH119 - a million

    def leftovers(self, places: Iterable[str]) -> list[str]:
        """Those of some files, as they are called from DIR, that are there and belong to no source."""
        taken = {os.path.normpath(self._place(name)) for name in self._of_name}
        inside = (place for place in places if place not in taken and not _leads_out(place))
        return [str(self._folder / place) for place in inside if os.path.lexists(self._folder / place)]

    def remove(self, path: str) -> None:
        """Remove the result of a source that is not among these any more.

        Raises:
            OutputError: it cannot be removed, or a symbolic link is in the way.
        """
        for old in (path, index_of(path)) if self._index else (path,):
            self._require_no_link(old)
            with os_errors_as(OutputError, old):
                Path(old).unlink(missing_ok=True)

    def _files_of(self, name: str) -> tuple[str, ...]:
        path = self.path_of(name)
        return (path, index_of(path)) if self._index else (path,)

    def _is_left_over(self, name: str, path: str) -> bool:
        if name:
            result = self.path_of(name)
            return path != result and not os.path.lexists(result) and is_left_over(path, result)
        names = (inner for _, _, inside in os.walk(self._folder) for inner in inside)
        no_results = (META_NAME, failures_of("dymn"), warnings_of("dymn"))
        is_alone = all(inner in no_results or inner.startswith(".dymn") for inner in names)
        return is_alone and is_beside(path)

    def prepare(self) -> None:
        """Make the folder, and remove what a killed run left unfinished in it.

        Raises:
            OutputError: it cannot be made.
        """
        self._make(self._folder)
        for folder, _, _ in os.walk(self._folder):
            remove_parts(Path(folder))

    @contextlib.contextmanager
    def writer(self, name: str, make: Make[T_contra]) -> Iterator[Writer[T_contra]]:
        """The writer of the result of one source; the file appears when the block ends.

        Args:
            name: of the source.
            make: from the stream of the file, and that of its index if it has one.

        Raises:
            OutputError: the file cannot be written.
        """
        paths = self._files_of(name)
        for path in paths:
            self._require_no_link(path)
        self._make(Path(paths[0]).parent)
        targets = [open_target(path, force=True, durable=False, follow=False) for path in paths]
        with together(*targets):
            writer = make(targets[0].stream, targets[1].stream if self._index else None)
            writer.begin()
            yield writer
            writer.end()

    def forget(self, name: str) -> None:
        """A source gave nothing: what an earlier run made of it is out of date."""
        if name in self._of_name:
            for old in self._files_of(name):
                with contextlib.suppress(OSError, OutputError):
                    self._require_no_link(old)
                    Path(old).unlink()

    def complete(self, provenance: Provenance | None) -> None:
        """Say what made the files, where that is known, and see to it that all of them outlive a power cut.

        Raises:
            OutputError: that cannot be written.
        """
        if provenance is not None:
            with open_target(self.meta, force=True, follow=False) as target:
                target.stream.write(meta_document(provenance))
        if hasattr(os, "sync"):  # once for all of them: file by file it would take longer than the rest
            os.sync()

    def _place(self, name: str) -> str:
        return f"{_inner_name(self._of_name[name])}.{self._suffix}"

    def _check_names(self) -> None:
        longest = LONGEST_NAME - (len("index.csv") - len("npy") if self._index else 0)
        taken: dict[str, str] = {}
        for name in self._of_name:
            place = self._place(name)
            if place in taken:
                raise UsageError(
                    f"{taken[place]} and {name} would both become {self._folder / place}",
                    hint="give them an --out-dir each, or name the folder that holds both",
                )
            if len(os.fsencode(os.path.basename(place))) > longest:  # noqa: PTH119
                raise OutputError(f"{name}: with .{self._suffix} behind it, the name is too long for a file")
            taken[place] = name

    def _require_no_link(self, path: str) -> None:
        """See that neither the file nor a folder below DIR leads elsewhere; DIR itself may be a link.

        Raises:
            OutputError: a symbolic link is in the way.
        """
        inner = Path(path).relative_to(self._folder)
        for part in (inner, *inner.parents[:-1]):
            if (self._folder / part).is_symlink():
                raise OutputError(
                    f"{self._folder / part}: a symbolic link; --out-dir writes through none",
                    hint="remove it, or choose another --out-dir",
                )

    def _make(self, folder: Path) -> None:
        with os_errors_as(OutputError, folder):
            folder.mkdir(parents=True, exist_ok=True)


def _leads_out(place: str) -> bool:
    return os.path.isabs(place) or os.pardir in Path(place).parts  # noqa: PTH117


def _inner_name(found: Found) -> str:
    if found.name == "-":
        return "stdin"
    if is_uri(found.name):
        inner = found.name.partition("::")[0][found.n_folder :] if found.n_folder else base_name(found.name)
        return os.path.join(*[part for part in inner.split("/") if part not in ("", ".", "..")] or ["object"])  # noqa: PTH118
    if found.n_folder:
        return found.name[found.n_folder :].lstrip(os.sep)
    plain = os.path.normpath(found.name)
    if os.path.isabs(plain) or plain.split(os.sep, 1)[0] == os.pardir:  # noqa: PTH117
        return os.path.basename(plain)  # noqa: PTH119
    return plain
