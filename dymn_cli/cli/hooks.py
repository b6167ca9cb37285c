"""Runs the command of `--exec` for each result, one at a time, beside what makes the results.

The result is JSON on the command's standard input. Its arguments are those that the user gave; nothing of a
result becomes part of a command line. What the command says goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from dymn_cli.errors import UsageError, first_line
from dymn_cli.values import counted

__all__ = ["Hooks"]

MAX_WAITING = 10_000
MAX_WAITING_LIVE = 100


class Hooks:
    """A command that results are handed to.

    Args:
        command: as in a shell, of which only the quotes count.
        timeout_s: a run that takes longer is ended.
        tell: takes what went wrong, a line each, also from another thread.
        is_live: drop results where too many wait, rather than hold up who makes them.

    Raises:
        UsageError: it is empty, its quotes do not close, or there is no such program.
    """

    def __init__(
        self, command: str, timeout_s: float, tell: Callable[[str], None], *, is_live: bool = False
    ) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as exc:
            raise UsageError(f"--exec {command!r}: {exc}") from exc
        if not self._arguments:
            raise UsageError("--exec names no command", hint="--exec 'notify-me --now'")
        if shutil.which(self._arguments[0]) is None:
            raise UsageError(
                f"--exec: no program {self._arguments[0]!r}",
                hint="a pipeline needs a shell: sh -c '... | ...'",
            )
        self._timeout_s, self._tell, self._is_live = timeout_s, tell, is_live
        self._output = _stderr()
        self._waiting: queue.Queue[tuple[bytes, str] | None] = queue.Queue(
            MAX_WAITING_LIVE if is_live else MAX_WAITING
        )
        self._is_closed = False
        self.n_done = self.n_failed = self.n_dropped = 0
        self._thread = threading.Thread(target=self._work, name="dymn-exec", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Results that no run has begun for."""
        return self._waiting.qsize()

    def submit(self, result: bytes, source: str = "") -> None:
        """Hand a result over; where too many wait, wait as well, or drop it and count that.

        Args:
            result: JSON.
            source: what to name where the command fails.
        """
        try:
            self._waiting.put((result, source), block=not self._is_live)
        except queue.Full:
            self.n_dropped += 1
            if self.n_dropped in (1, 10, 100) or self.n_dropped % 1000 == 0:
                self._tell(f"--exec is slower than the events: {self.n_dropped} of them not handed over")

    def close(self, timeout_s: float | None = None) -> None:
        """Let what waits be done, for so long, or as long as it takes; then end what runs."""
        n_marks = 0
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=timeout_s)
            n_marks = 1
        self._thread.join(timeout_s)
        self._is_closed = True
        if self._thread.is_alive():
            n_left = self.n_waiting - n_marks
            self._thread.join(2.0)
            left = f", {counted(n_left, 'event')} not handed over" if n_left else ""
            self._tell(f"--exec was still running{left}")

    def _work(self) -> None:
        while not self._is_closed and (task := self._waiting.get()) is not None:
            result, source = task
            try:
                reason = self._run(result)
            except (OSError, ValueError, subprocess.SubprocessError) as exc:
                reason = first_line(exc)
            self.n_done += not reason
            if reason:
                self.n_failed += 1
                self._tell(f"{source and f'{source}: '}--exec {self._arguments[0]}: {reason}")

    def _run(self, result: bytes) -> str:
        """Run it once; returns what went wrong, or ""."""
        with subprocess.Popen(
            self._arguments,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,  # Ctrl-C ends the program, not what it has begun
        ) as process:
            try:
                left_s = self._timeout_s
                data: bytes | None = result
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


def _stderr() -> int:
    """Where the output of a command goes: standard output is for results."""
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return subprocess.DEVNULL


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and what it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
