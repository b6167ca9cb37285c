"""The real program in a process of its own, in an empty folder, away from the user's settings."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

DYMN = (sys.executable, "-W", "error", "-c", "from dymn_cli.cli.app import main; main()")
SETTINGS = ("DYMN_", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "PYTHON", "LC_", "LANG")
TIMEOUT_S = 60.0

Argument = str | bytes | os.PathLike[str]


@dataclass(frozen=True)
class Ran:
    """What a run left: its exit code and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def err(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", "surrogateescape")

    @property
    def rows(self) -> list[list[str]]:
        """Standard output as tab-separated cells."""
        return [line.split("\t") for line in self.out.splitlines()]


class Dymn:
    """Runs `dymn` with some arguments.

        ran = dymn("tag", clip, "-k", 1)
        ran.returncode, ran.stdout, ran.stderr

    `cwd` is where it runs; it starts empty.
    """

    def __init__(self, cwd: Path, root: Path) -> None:
        self.cwd = cwd
        kept = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        self.env = kept | {
            "PYTHONPATH": str(root),
            "DYMN_HOME": str(cwd.parent / f"{cwd.name}-home"),
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
        }

    def _env(self, changes: Mapping[str, str | None] | None) -> dict[str, str]:
        """The environment of a run: None takes a variable away."""
        merged = {**self.env, **(changes or {})}
        return {key: value for key, value in merged.items() if value is not None}

    def __call__(
        self,
        *arguments: Argument | int | float,
        input: bytes | None = None,  # noqa: A002 -- as in subprocess.run
        env: Mapping[str, str | None] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Ran:
        """Run it to its end, with pipes for streams; without `input`, stdin is empty."""
        ran = subprocess.run(
            command(arguments),
            input=input or b"",
            capture_output=True,
            cwd=self.cwd,
            env=self._env(env),
            timeout=timeout,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def start(
        self, *arguments: Argument | int | float, env: Mapping[str, str | None] | None = None, **streams: Any
    ) -> subprocess.Popen[bytes]:
        """Start it and come back at once; `streams` and the rest go to `subprocess.Popen`."""
        pipes: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return subprocess.Popen(command(arguments), cwd=self.cwd, env=self._env(env), **(pipes | streams))

    def shell(
        self, line: str, *, env: Mapping[str, str | None] | None = None, timeout: float = TIMEOUT_S
    ) -> Ran:
        """Run a line of bash, with pipefail, in which `dymn` is the program."""
        words = " ".join(f"'{word}'" for word in DYMN)
        script = f'set -o pipefail\ndymn() {{ {words} "$@"; }}\n{line}'
        ran = subprocess.run(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.cwd,
            env=self._env(env),
            timeout=timeout,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def terminal(
        self,
        *arguments: Argument | int | float,
        streams: str = "out err",
        columns: int = 100,
        env: Mapping[str, str | None] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Ran:
        """Run it with some of its streams ("in", "out", "err") on a terminal each, the others on pipes.

        What came to the terminal has `\\n` for the terminal's `\\r\\n`.
        """
        with contextlib.ExitStack() as stack:
            ends = {name: _terminal(columns, stack) for name in streams.split()}
            given = {name: ends[name][1] for name in ends}
            process = self.start(
                *arguments,
                env=env,
                stdin=given.get("in", subprocess.DEVNULL),
                stdout=given.get("out", subprocess.PIPE),
                stderr=given.get("err", subprocess.PIPE),
            )
            for _, end in ends.values():
                os.close(end)
            sources: dict[str, int] = {}
            for name, pipe in (("out", process.stdout), ("err", process.stderr)):
                sources[name] = _number(pipe) if pipe is not None else ends[name][0]
            taken = _drain(sources, process, time.monotonic() + timeout)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return Ran(process.wait(), *(taken[name].replace(b"\r\n", b"\n") for name in ("out", "err")))


def command(arguments: tuple[Argument | int | float, ...]) -> list[str | bytes]:
    return [*DYMN, *(os.fspath(a) if isinstance(a, (str, bytes, os.PathLike)) else str(a) for a in arguments)]


def _number(pipe: IO[bytes]) -> int:
    return pipe.fileno()


def _terminal(columns: int, stack: contextlib.ExitStack) -> tuple[int, int]:
    """Both ends of a new terminal; ours is closed with the stack."""
    ours, theirs = pty.openpty()
    stack.callback(os.close, ours)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    return ours, theirs


def _drain(sources: dict[str, int], process: subprocess.Popen[bytes], deadline: float) -> dict[str, bytes]:
    """All that comes until each source is at its end."""
    taken = dict.fromkeys(sources, b"")
    names = {number: name for name, number in sources.items()}
    while names:
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError(f"still running: {taken}")
        for number in select.select(list(names), [], [], 0.2)[0]:
            try:
                data = os.read(number, 65536)
            except OSError:  # the other end of a terminal is gone
                data = b""
            if data:
                taken[names[number]] += data
            else:
                del names[number]
    return taken


@pytest.fixture
def dymn(tmp_path: Path, repository: Path) -> Dymn:
    """The program, run in an empty folder: `dymn("tag", clip)`."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return Dymn(folder, repository)
