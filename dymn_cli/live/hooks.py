"""Runs a command for each event, beside the listening: it waits for none of them.

The event is JSON on the command's standard input. Its arguments are those that the user gave; nothing of an
event becomes part of a command line.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque

from dymn_cli.errors import UsageError, first_line

__all__ = ["Hooks"]

MAX_WAITING = 100
TIMEOUT_S = 30.0
MAX_TOLD = 100


class Hooks:
    """A command that events are handed to, one at a time.

    Args:
        command: as in a shell, of which only the quotes count.
        timeout_s: a run that takes longer is ended.
        output: descriptor for what the command says; None for nowhere.

    Raises:
        UsageError: it is empty, its quotes do not close, or there is no such program.
    """

    def __init__(self, command: str, timeout_s: float = TIMEOUT_S, output: int | None = None) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as exc:
            raise UsageError(f"--exec {command!r}: {exc}") from exc
        if not self._arguments:
            raise UsageError("--exec names no command")
        if shutil.which(self._arguments[0]) is None:
            raise UsageError(
                f"--exec: no program {self._arguments[0]!r}",
                hint="a pipeline needs a shell: sh -c '... | ...'",
            )
        self._timeout_s, self._output = timeout_s, output
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._problems: deque[str] = deque(maxlen=MAX_TOLD)
        self._is_closed = False
        self.n_done = self.n_failed = self.n_dropped = 0
        self._thread = threading.Thread(target=self._work, name="dymn-exec", daemon=True)
        self._thread.start()

    def submit(self, event: bytes) -> None:
        """Hand an event over; where a hundred are waiting it is dropped, and counted."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.n_dropped += 1
            if self.n_dropped in (1, 10, 100) or self.n_dropped % 1000 == 0:
                self._problems.append(
                    f"--exec is slower than the events: {self.n_dropped} of them not handed over"
                )

    def problems(self) -> list[str]:
        """What went wrong since this was asked, a line each."""
        found = []
        while self._problems:
            found.append(self._problems.popleft())
        return found

    def close(self, timeout_s: float = 10.0) -> None:
        """Let what waits be done, for so long; then end what runs."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)
        self._is_closed = True
        left = self._waiting.qsize()
        if self._thread.is_alive():
            self._thread.join(2.0)
            self._problems.append(f"--exec was still running, {left} events not handed over")

    def _work(self) -> None:
        while not self._is_closed and (event := self._waiting.get()) is not None:
            try:
                reason = self._run(event)
            except (OSError, ValueError, subprocess.SubprocessError) as exc:
                reason = first_line(exc)
            self.n_done += not reason
            if reason:
                self.n_failed += 1
                self._problems.append(f"--exec {self._arguments[0]}: {reason}")

    def _run(self, event: bytes) -> str:
        """Run it once; returns what went wrong, or ""."""
        output = subprocess.DEVNULL if self._output is None else self._output
        with subprocess.Popen(
            self._arguments, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        ) as process:
            try:
                left_s = self._timeout_s
                data: bytes | None = event
                while True:
                    try:
                        process.communicate(data, timeout=min(0.5, max(0.01, left_s)))
                        break
                    except subprocess.TimeoutExpired:
                        left_s -= 0.5
                        data = None  # it goes on with what it has
                        if left_s <= 0 or self._is_closed:
                            return f"ended after {self._timeout_s:g} s" if left_s <= 0 else "ended"
            finally:
                if process.poll() is None:
                    _end(process)
        return f"exit code {process.returncode}" if process.returncode else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and what it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
