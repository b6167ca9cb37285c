"""The log of a run: JSON, a line each, that is what an uninterrupted run would have written.

    {"schema": "dymn.log/1", "stage", "step", "loss", ...}

Lines are flushed as they come. A resumed run drops the lines after its checkpoint and writes them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import OutputError

__all__ = ["RunLog"]

SCHEMA = "dymn.log/1"


class RunLog:
    """A file of lines; use it in a `with` statement.

    Args:
        path: of the file.
        stage: of the checkpoint that the run goes on from, from 0.
        step: likewise; lines from later steps are dropped, all of them with step 0 of stage 0.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, *, stage: int = 0, step: int = 0) -> None:
        self._path = path
        self._file: TextIO
        try:
            kept = _kept(path, (stage, step)) if path.exists() else []
            with atomic_write(path) as file:
                file.write("".join(kept).encode("utf-8"))
            self._file = path.open("a", encoding="utf-8")
        except OSError as exc:
            raise OutputError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc

    def write(self, fields: Mapping[str, Any]) -> None:
        """Add a line.

        Raises:
            OutputError: the disk is full, or gone.
        """
        try:
            self._file.write(json.dumps({"schema": SCHEMA, **fields}, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as exc:
            raise OutputError(f"{self._path}: {(exc.strerror or str(exc)).lower()}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _kept(path: Path, reached: tuple[int, int]) -> list[str]:
    """Lines of steps up to the one reached; what is no line of ours goes."""
    if reached == (0, 0):
        return []
    kept = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            fields = json.loads(line)
            if (int(fields["stage"]), int(fields["step"])) <= reached:
                kept.append(f"{line}\n")
        except (ValueError, KeyError, TypeError):
            continue
    return kept
