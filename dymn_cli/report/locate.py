"""Where the audio of a finished result lies, and how a page links to it."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Sequence
from pathlib import Path

from dymn_cli.audio.locate import Locator
from dymn_cli.errors import AudioNotFoundError
from dymn_cli.remote.uri import is_uri

__all__ = ["Recordings", "link_to", "web_origin"]

PLAIN = frozenset(map(ord, string.ascii_letters + string.digits + "-._~/"))
WEB = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?(?=[/?#]|\Z)")


class Recordings:
    """Finds recordings by the names that a result has for them.

    Args:
        root: where they are now; None where their names say so, from here or from beside a result.
        beside: folders of the results.
        results: their files. A label track is called as its recording, but is not it.

    Raises:
        AudioNotFoundError: there is no such root.
    """

    def __init__(
        self, root: str | None = None, beside: Sequence[str] = (), results: Sequence[str] = ()
    ) -> None:
        self._locator = Locator(root)
        self._results = results
        self._beside = () if root is not None else tuple(beside)

    def path_of(self, name: str) -> str:
        """The file of a recording.

        Raises:
            AudioNotFoundError: there is none, or several may be meant.
        """
        try:
            path = self._locator.find(name)
        except AudioNotFoundError:
            for folder in self._beside:
                try:
                    return self._locator.find(os.path.join(folder, name))  # noqa: PTH118 - names may be bytes
                except AudioNotFoundError:
                    continue
            raise
        if path in self._results:
            raise AudioNotFoundError(f"{path}: names no recording", hint="--audio FILE does")
        return path


def link_to(path: str, page: Path | None) -> str:
    """A link from a page to a file: relative, so that both can move together; any byte may be in a name.

    A file on the web is linked by its address without credentials, and one in a store not at all: "".

    Args:
        path: of the file, or its URI.
        page: of the page; None where it goes to standard output: then from the working directory.
    """
    if is_uri(path):
        return path if web_origin(path) or path.startswith("file:///") else ""
    folder = os.fspath(page.resolve().parent) if page is not None else os.getcwd()  # noqa: PTH109 - likewise
    try:
        relative = os.path.relpath(os.path.abspath(path), folder)  # noqa: PTH100 - likewise
    except ValueError:  # on Windows, another drive
        return "file:///" + _quoted(os.path.abspath(path))  # noqa: PTH100 - likewise
    return _quoted(relative)


def web_origin(link: str) -> str:
    """Scheme, host and port of a link to the web; "" for other links."""
    found = WEB.match(link)
    return found[0] if found else ""


def _quoted(path: str) -> str:
    data = os.fsencode(path.replace(os.sep, "/"))
    return "".join(chr(byte) if byte in PLAIN else f"%{byte:02X}" for byte in data)
