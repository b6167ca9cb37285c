"""Where the audio of a finished result lies, and how a page links to it."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from pathlib import Path

from dymn_cli.audio.discover import find
from dymn_cli.datasets.name_matching import NameIndex
from dymn_cli.errors import AudioNotFoundError, UsageError

__all__ = ["AudioPlaces", "link_to"]

PLAIN = frozenset(map(ord, string.ascii_letters + string.digits + "-._~/"))


class AudioPlaces:
    """Finds recordings by the names that a result has for them.

    A name is taken as it is, then beside the result, then under `root`: there by as much of its path as fits,
    with any suffix where the name has none.

    Args:
        root: the folder that recordings have moved to, or None.
        beside: folders of the results.

    Raises:
        UsageError: `root` is no folder.
    """

    def __init__(self, root: str | None = None, beside: Sequence[str] = ()) -> None:
        if root is not None and not os.path.isdir(root):  # noqa: PTH112 - names may be bytes that no Path holds
            raise UsageError(f"--audio {root}: no such folder")
        self._root = root
        self._beside = tuple(beside)
        self._found: list[str] = []
        self._index: NameIndex | None = None

    def path_of(self, name: str) -> str:
        """The file of a recording.

        Raises:
            AudioNotFoundError: there is none.
        """
        places = [name, *(os.path.join(folder, name) for folder in self._beside)]  # noqa: PTH118 - likewise
        if self._root is not None:
            places = [os.path.join(self._root, name.lstrip("/")), *places]  # noqa: PTH118 - likewise
        for place in places:
            if os.path.isfile(place):  # noqa: PTH113 - likewise
                return place
        found = self._of_folders(name)
        if found is not None:
            return found
        if self._root is not None:
            raise AudioNotFoundError(f"{name}: no such file, nor one of that name in {self._root}")
        raise AudioNotFoundError(f"{name}: no such file", hint="--audio DIR says where recordings are now")

    def _of_folders(self, name: str) -> str | None:
        """By the end of its path: anywhere under the root or, without one, right beside the results."""
        folders = self._beside if self._root is None else (self._root,)
        if self._index is None:
            recurse = self._root is not None
            found = [(one.name, folder) for folder in folders for one in find([folder], recurse=recurse)]
            self._found = [name for name, _ in found]
            # By what lies below the folder: the name of a recording that was elsewhere ends with all of it.
            self._index = NameIndex(os.path.relpath(name, folder) for name, folder in found)
        place = self._index.find(name)
        if place is None:  # it has moved: its own name decides, if only one file has it
            place = self._index.find(os.path.basename(name))  # noqa: PTH119 - likewise
        return None if place is None else self._found[place]


def link_to(path: str, page: Path | None) -> str:
    """A link from a page to a file: relative, so that both can move together; any byte may be in a name.

    Args:
        path: of the file.
        page: of the page; None where it goes to standard output: then from the working directory.
    """
    folder = os.fspath(page.resolve().parent) if page is not None else os.getcwd()  # noqa: PTH109 - likewise
    try:
        relative = os.path.relpath(os.path.abspath(path), folder)  # noqa: PTH100 - likewise
    except ValueError:  # on Windows, another drive
        return "file:///" + _quoted(os.path.abspath(path))  # noqa: PTH100 - likewise
    return _quoted(relative)


def _quoted(path: str) -> str:
    data = os.fsencode(path.replace(os.sep, "/"))
    return "".join(chr(byte) if byte in PLAIN else f"%{byte:02X}" for byte in data)
