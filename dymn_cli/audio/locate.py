"""From the name of a recording in a result to its file, which may lie elsewhere by now."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from dymn_cli.audio.discover import AUDIO_SUFFIXES
from dymn_cli.errors import AudioNotFoundError
from dymn_cli.remote.uri import is_uri

__all__ = ["Locator"]

SEPARATORS = (r"[/\\]",) if os.sep == "\\" else ("/", r"[/\\]")
"""Of folders, in names that were written here, and then in those of another system."""


class Locator:
    """Finds recordings.

    A name may lack its suffix, as that of a label track does: `night` is `night.wav` where that is the only
    audio of that name.

    Args:
        root: where they lie: a folder, or the one recording of all results; None where their names say.
        track: a result whose format names no recording, so that its own name has to lead to it.

    Raises:
        AudioNotFoundError: there is no such folder or file.
    """

    def __init__(self, root: str | None = None, *, track: str | None = None) -> None:
        if root is not None and not os.path.exists(root):  # noqa: PTH110 - names may be bytes
            raise AudioNotFoundError(
                f"{root}: no such file or folder", hint="--audio names where recordings are"
            )
        self._root, self._track = root, track
        self._found: dict[str, str] = {}
        self._by_name: dict[str, list[str]] | None = None

    def find(self, source: str) -> str:
        """The file of a recording.

        With a folder, its path below that folder counts, or as much of its end as is there, or its name alone
        wherever in the folder it is.

        Raises:
            AudioNotFoundError: it is not there, or several files may be meant.
        """
        if source not in self._found:
            self._found[source] = self._find(source)
        return self._found[source]

    def _find(self, source: str) -> str:
        if source == "-" and (self._root is None or os.path.isdir(self._root)):  # noqa: PTH112
            raise AudioNotFoundError(
                "-: the recording came from standard input", hint="--audio FILE names it"
            )
        if self._root is None and is_uri(source):
            return source
        if self._root is None and self._track is not None:
            found = self._existing(source)
            if found is None or found == self._track:
                raise AudioNotFoundError(f"{self._track}: names no recording", hint="--audio FILE does")
            return found
        if self._root is None:
            return self._existing(source) or self._missing(source, "--audio ROOT says where recordings are")
        if not os.path.isdir(self._root):  # noqa: PTH112
            return self._root
        for place in self._places(source):
            if found := self._existing(place):
                return found
        return self._anywhere(source)

    def _places(self, source: str) -> Iterator[str]:
        """Where it may lie below the root: nothing in a name leads out of it."""
        for words in _splits(source):
            parts = [part for part in words if part not in ("", ".", "..")]
            for n in range(len(parts)):
                yield os.path.join(str(self._root), *parts[n:])  # noqa: PTH118

    def _existing(self, path: str) -> str | None:
        try:
            if os.path.exists(path):  # noqa: PTH110
                return path
            folder, name = os.path.split(path)
            near = [
                entry.path if folder else entry.name
                for entry in os.scandir(folder or ".")
                if _stem(entry.name) == name and _is_audio(entry.name)
            ]
        except (OSError, ValueError):
            return None
        return near[0] if len(near) == 1 else None

    def _anywhere(self, source: str) -> str:
        if self._by_name is None:
            self._by_name = {}
            for folder, _, names in os.walk(str(self._root)):
                for name in filter(_is_audio, names):
                    path = os.path.join(folder, name)  # noqa: PTH118
                    self._by_name.setdefault(name, []).append(path)
                    self._by_name.setdefault(_stem(name), []).append(path)
        names = [words[-1] for words in _splits(source)]
        name = next(filter(self._by_name.get, names), names[-1])
        found = self._by_name.get(name, [])
        if len(found) > 1:
            raise AudioNotFoundError(
                f"{source}: {found[0]} or {found[1]}?", hint="give a deeper folder with --audio"
            )
        return found[0] if found else self._missing(source, f"nothing in {self._root} is called {name}")

    @staticmethod
    def _missing(source: str, hint: str) -> str:
        raise AudioNotFoundError(f"{source}: no such recording", hint=hint)


def _splits(source: str) -> list[list[str]]:
    """Its folders and its name by each of `SEPARATORS`; once where these agree."""
    found = [re.split(separators, source) for separators in SEPARATORS]
    return found[:1] if found[0] == found[-1] else found


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122


def _is_audio(name: str) -> bool:
    return os.path.splitext(name)[1][1:].lower() in AUDIO_SUFFIXES  # noqa: PTH122
