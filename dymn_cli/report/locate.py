"""Where the audio of a finished result lies, and how a page links to it."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from pathlib import Path

from dymn_cli.audio.locate import Locator
from dymn_cli.errors import AudioNotFoundError

__all__ = ["Recordings", "link_to"]

PLAIN = frozenset(map(ord, string.ascii_letters + string.digits + "-._~/"))


class Recordings:
    """Finds recordings by the names that a result has for them.

    Args:
        root: where they are now; None where their names say so, from here or from beside a result.
        beside: folders of the results.

    Raises:
        AudioNotFoundError: there is no such root.
    """

    def __init__(self, root: str | None = None, beside: Sequence[str] = ()) -> None:
        self._locator = Locator(root)
        self._beside = () if root is not None else tuple(beside)

    def path_of(self, name: str) -> str:
        """The file of a recording.

        Raises:
            AudioNotFoundError: there is none, or several may be meant.
        """
        try:
            return self._locator.find(name)
        except AudioNotFoundError:
            for folder in self._beside:
                try:
                    return self._locator.find(os.path.join(folder, name))  # noqa: PTH118 - names may be bytes
                except AudioNotFoundError:
                    continue
            raise


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
