"""What becomes of a file that changes while it is analysed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dymn_cli.batch.job import Summary
from dymn_cli.batch.journal import Journal
from dymn_cli.batch.pool import Done, Message
from dymn_cli.cli.batch_run.watch import _Watch
from dymn_cli.watching.settling import Settling


class Reading:
    """An engine that reads one file at a time; the first time, somebody writes to it meanwhile."""

    def __init__(self, stop: threading.Event) -> None:
        self.name, self.n_read, self._stop = "", 0, stop

    @property
    def has_room(self) -> bool:
        return not self.name

    @property
    def is_busy(self) -> bool:
        return bool(self.name)

    def give(self, name: str, n_bytes: int | None) -> None:
        self.name = name

    def step(self, handle: Callable[[Message], None]) -> None:
        name, self.name = self.name, ""
        body = Path(name).read_bytes()
        self.n_read += 1
        if self.n_read == 1:
            Path(name).write_text("whole and well")
        else:
            self._stop.set()
        handle(Done(name, body, Summary(1.0, ())))


def test_a_file_that_changes_while_it_is_read_is_read_again_and_written_once(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("half")
    stop = threading.Event()
    engine, written = Reading(stop), []
    folders: Any = SimpleNamespace(look=lambda: [str(path)], wait=lambda seconds: None)
    silent = SimpleNamespace(detail=lambda text: None)
    with contextlib.closing(Journal.temporary()) as journal:
        run: Any = SimpleNamespace(journal=journal, engine=engine, messages=silent)
        watch = _Watch(run, lambda name: written.append(journal.result(name)[0]), None)
        watch.go(folders, Settling(0.0), stop)
    assert (engine.n_read, written) == (2, [b"whole and well"])
