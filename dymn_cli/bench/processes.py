"""The program `dymn` in a process of its own: how long it takes, and how much memory.

Time is from starting the process to its end. Memory is what the operating system says when the process has
ended (`ru_maxrss` of getrusage): the most that it, or the largest of its workers, held at any time. On Linux
the sum over the process and its workers is watched as well, shared pages counted once (PSS).

A process begins as a copy of the one that starts it, and that copy counts as its own memory. So `dymn` is
started by a small process that does nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from dymn_cli.bench.load import descendants
from dymn_cli.errors import DymnError

__all__ = ["Finished", "run_dymn"]

PROGRAM = "from dymn_cli.__main__ import main; main()"  # what the installed command does
LAUNCHER = """
import json, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - start
try:
    from resource import RUSAGE_CHILDREN, getrusage
    peak = getrusage(RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
except ImportError:
    peak = None
json.dump([code, seconds, peak], sys.stdout)
"""
KIB = 1024
WATCH_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that has ended.

    Args:
        seconds: from start to end.
        largest_bytes: peak of the process or of its largest worker, or None where there is no getrusage.
        total_bytes: peak of the sum over it and its workers, or None where it was not watched.
    """

    seconds: float
    largest_bytes: int | None
    total_bytes: int | None = None


def run_dymn(*arguments: str, watch: bool = False) -> Finished:
    """Run `dymn` with these arguments to its end.

    Args:
        *arguments: of the command line.
        watch: also watch the memory of all its processes, where the system tells it.

    Raises:
        DymnError: it fails.
    """
    # Isolated and without site packages: the launcher is the smallest process that can do it.
    launcher = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    )
    watcher = _MemoryWatcher(launcher.pid) if watch else None
    with launcher:
        try:
            answer, said = launcher.communicate()
        finally:
            total = watcher.stop() if watcher is not None else None
    code, seconds, largest = json.loads(answer) if answer else (launcher.returncode, 0.0, None)
    if code:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise DymnError(
            f"dymn {arguments[0]} ended with code {code}: {lines[-1] if lines else 'it said nothing'}"
        )
    return Finished(seconds, largest, total)


def _environment() -> dict[str, str]:
    """Ours, and the package is found wherever the process runs."""
    package = str(Path(__file__).resolve().parents[2])
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": package if not others else f"{package}{os.pathsep}{others}"}


class _MemoryWatcher:
    """Looks at what a process has started, many times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int | None:
        """The most that was seen, or None where the system tells nothing."""
        self._ended.set()
        self._thread.join()
        return self._most or None

    def _watch(self) -> None:
        while not self._ended.wait(WATCH_EVERY_S):
            self._most = max(self._most, sum(map(_proportional_bytes, descendants(self._pid))))


def _proportional_bytes(pid: int) -> int:
    """Memory of a process, each page divided by the number of processes that share it; 0 if it is gone."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * KIB
    return 0
