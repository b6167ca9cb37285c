"""Run the program `dymn` in a process of its own, and measure its time and memory.

Time is from the start of the process to its end. Memory is what the operating system reports after the end
(`ru_maxrss` of getrusage): the peak of the process or of its largest worker. On Linux the sum over all of
them is watched as well, with shared pages counted once (PSS).

A process begins as a copy of the one that starts it, whose memory would count as its own. So `dymn` is
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

__all__ = ["PROGRAM", "Finished", "environment", "run_dymn"]

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
        largest_bytes: peak of the process or of its largest worker; None without getrusage.
        total_bytes: peak of the sum over it and its workers; None if not watched.
    """

    seconds: float
    largest_bytes: int | None
    total_bytes: int | None = None


def run_dymn(*arguments: str, watch: bool = False) -> Finished:
    """Run `dymn` with these arguments to its end.

    Args:
        *arguments: of the command line.
        watch: also watch the memory of all its processes, on Linux.

    Raises:
        DymnError: it fails.
    """
    # Isolated and without site packages, to keep the launcher as small as possible.
    launcher = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
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


def environment() -> dict[str, str]:
    """Our environment, with this package on the path wherever the process runs."""
    package = str(Path(__file__).resolve().parents[2])
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": package if not others else f"{package}{os.pathsep}{others}"}


class _MemoryWatcher:
    """Watches the memory of all that a process has started, many times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int | None:
        """The peak; None if the system does not tell."""
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
