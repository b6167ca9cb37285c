"""One result file for each source, in a folder that mirrors where the sources lie.

    recordings/a/b.wav   found in recordings/   →  DIR/a/b.wav.csv
    a/b.wav              named itself           →  DIR/a/b.wav.csv
    /data/b.wav, ../b.wav                       →  DIR/b.wav.csv

Names are kept whole, so that `a.wav` and `a.flac` do not meet. Each file appears when it is complete; what
made them all stands once, in `DIR/dymn.meta.json`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from dymn_cli.errors import OutputError, UsageError
from dymn_cli.writers.beside import index_of
from dymn_cli.writers.meta import meta_document
from dymn_cli.writers.target import check_target, open_target, remove_parts, together

if TYPE_CHECKING:
    from dymn_cli.batch.discover import Found
    from dymn_cli.writers.base import Provenance, Writer

__all__ = ["META_NAME", "ResultFolder"]

META_NAME = "dymn.meta.json"
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

    def check(self) -> None:
        """Find out, before any work, whether one of the files is there already.

        Raises:
            OutputError: it is.
        """
        if self._folder.is_dir():
            for path in (META_NAME, *map(self._place, self._of_name)):
                if (self._folder / path).exists():
                    check_target(str(self._folder / path))

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
        path = self._folder / self._place(name)
        self._make(path.parent)
        main = open_target(str(path), force=True, durable=False)
        index = [open_target(index_of(str(path)), force=True, durable=False)] if self._index else []
        with together(main, *index):
            writer = make(main.stream, index[0].stream if index else None)
            writer.begin()
            yield writer
            writer.end()

    def forget(self, name: str) -> None:
        """A source gave nothing: what an earlier run made of it is out of date."""
        if name in self._of_name:
            path = self._folder / self._place(name)
            for old in (path, Path(index_of(str(path)))) if self._index else (path,):
                with contextlib.suppress(OSError):
                    old.unlink()

    def complete(self, provenance: Provenance) -> None:
        """Say what made the files, and see to it that all of them outlive a power cut.

        Raises:
            OutputError: that cannot be written.
        """
        with open_target(str(self._folder / META_NAME), force=True) as target:
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

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(f"{folder}: {(exc.strerror or str(exc)).lower()}") from exc


def _inner_name(found: Found) -> str:
    if found.name == "-":
        return "stdin"
    if found.n_folder:
        return found.name[found.n_folder :].lstrip(os.sep)
    plain = os.path.normpath(found.name)
    if os.path.isabs(plain) or plain.split(os.sep, 1)[0] == os.pardir:  # noqa: PTH117
        return os.path.basename(plain)  # noqa: PTH119
    return plain
