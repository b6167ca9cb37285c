"""The real program in a process of its own, in an empty folder, away from the user's settings.

Also recordings to give it, and a model whose answers are known for command lines run in this process.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import opened_once
import pytest
import soundfile
import sounds
from fake_model import FakeBackend

from dymn_cli.cli.app import run
from dymn_cli.tagging import tagger as tagger_module

RATE_HZ = 32_000
PYTHON = (sys.executable, "-W", "error", "-c")
DYMN = (*PYTHON, "from dymn_cli.__main__ import main; main()")
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


class Started(subprocess.Popen[bytes]):
    """A process that does not outlive a test that has failed: a `with` block would wait for it."""

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, trace)


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
        return self._run(command(arguments), env, timeout, input=input or b"")

    def start(
        self, *arguments: Argument | int | float, env: Mapping[str, str | None] | None = None, **streams: Any
    ) -> Started:
        """Start it and come back at once; `streams` and the rest go to `subprocess.Popen`."""
        return self._start(command(arguments), env, **streams)

    def _start(
        self, words: Sequence[str | bytes], env: Mapping[str, str | None] | None = None, **streams: Any
    ) -> Started:
        pipes: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return Started(words, cwd=self.cwd, env=self._env(env), **(pipes | streams))

    def shell(
        self, line: str, *, env: Mapping[str, str | None] | None = None, timeout: float = TIMEOUT_S
    ) -> Ran:
        """Run a line of bash, with pipefail, in which `dymn` is the program."""
        if os.name == "nt":
            pytest.skip("the line is one of a POSIX shell")
        words = " ".join(f"'{word}'" for word in DYMN)
        script = f'set -o pipefail\ndymn() {{ {words} "$@"; }}\n{line}'
        return self._run(["bash", "-c", script], env, timeout, stdin=subprocess.DEVNULL)

    def python(
        self, code: str, *, env: Mapping[str, str | None] | None = None, timeout: float = TIMEOUT_S
    ) -> Ran:
        """Run a Python program where `dymn` runs."""
        return self._run([*PYTHON, code], env, timeout, stdin=subprocess.DEVNULL)

    def _run(
        self,
        words: Sequence[str | bytes],
        env: Mapping[str, str | None] | None,
        timeout: float,
        **stdin: Any,
    ) -> Ran:
        ran = subprocess.run(
            words,
            **stdin,
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
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))  # POSIX only
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


# ---------------------------------------------------------------------- recordings


def _tone(band: int, seconds: float, rate_hz: int) -> np.ndarray:
    """A sine in the middle of a mel band."""
    return sounds.sine(sounds.band_hz(band), seconds, rate_hz)


@pytest.fixture
def record(dymn: Dymn) -> Callable[..., str]:
    """`record("a.wav", (81, 10), (87, 5))`: a file where the program runs, of tones in mel bands.

    A channel each: `record("a.wav", [(81, 10)], [(104, 10)])`.
    """

    def write(name: str, *parts: tuple[int, float] | list[tuple[int, float]], rate_hz: int = RATE_HZ) -> str:
        channels = [part for part in parts if isinstance(part, list)] or [list(parts)]
        samples = [np.concatenate([_tone(*tone, rate_hz) for tone in channel]) for channel in channels]
        path = dymn.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:  # soundfile itself takes no name that is no text
            form = path.suffix[1:].upper() if path.suffix in (".flac", ".ogg", ".mp3") else "WAV"
            soundfile.write(file, np.stack(samples, axis=1), rate_hz, format=form)
        return name

    return write


@pytest.fixture
def folder(dymn: Dymn, record: Callable[..., str]) -> str:
    """A folder with three good recordings, one broken and one empty file, one that is hidden, and a text."""
    for name, band in (("take1.wav", 72), ("take2.wav", 81), ("take10.wav", 87), (".hidden.wav", 104)):
        record(f"takes/{name}", (band, 1))
    (dymn.cwd / "takes/broken.wav").write_bytes(b"RIFF\x24\0\0\0WAVE")
    (dymn.cwd / "takes/empty.wav").touch()
    (dymn.cwd / "takes/notes.txt").write_text("no audio", "utf-8")
    return "takes"


# ---------------------------------------------------------------------- in this process


class InProcess:
    """Runs command lines in this process, in the folder and the environment of a `Dymn`.

        ran = in_process("tag", clip, "-k", 1)

    Without the start of Python and its libraries, this takes a tenth of the time. What is about processes --
    signals, terminals, workers, streams that break, the encoding of names -- needs the program itself.
    """

    def __init__(
        self, dymn: Dymn, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]
    ) -> None:
        self.cwd = dymn.cwd
        self._capture = capture
        monkeypatch.chdir(dymn.cwd)
        for name in [name for name in os.environ if name.startswith(SETTINGS)]:
            monkeypatch.delenv(name)
        for name in ("DYMN_HOME", "TERM", "LC_ALL"):
            monkeypatch.setenv(name, dymn.env[name])

    def __call__(
        self,
        *arguments: Argument | int | float,
        input: bytes | IO[bytes] | None = None,  # noqa: A002 -- as in subprocess.run
        env: Mapping[str, str | None] | None = None,
    ) -> Ran:
        """Run one to its end; standard input is a file, or a pipe with these bytes."""
        self._capture.readouterr()
        with pytest.MonkeyPatch.context() as patch, _standard_input(input) as stdin:
            patch.setattr(sys, "stdin", stdin)
            for name, value in (env or {}).items():
                if value is None:
                    patch.delenv(name, raising=False)
                else:
                    patch.setenv(name, value)
            code = run([os.fsdecode(word) for word in command(arguments)[len(DYMN) :]])
        return Ran(code, *self._capture.readouterr())


@contextlib.contextmanager
def _standard_input(data: bytes | IO[bytes] | None) -> Iterator[IO[str]]:
    """Puts it in the place of this process's own, as a stream and as a file descriptor."""
    with contextlib.ExitStack() as stack:
        if isinstance(data, bytes | None):
            source, theirs = os.pipe()
            thread = threading.Thread(target=_feed, args=(theirs, data or b""))
            thread.start()
            stack.callback(thread.join)
            stack.callback(os.close, source)
        else:
            source = data.fileno()
        before = os.dup(0)
        stack.callback(os.close, before)
        stack.callback(os.dup2, before, 0)
        os.dup2(source, 0)
        yield stack.enter_context(os.fdopen(0, encoding="utf-8", closefd=False))


def _feed(pipe: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "wb") as stream:
        stream.write(data)


@pytest.fixture
def in_process(
    dymn: Dymn, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> InProcess:
    """`in_process("tag", "a.wav")`: with real models; the one that ships is opened once for all tests."""
    monkeypatch.setattr(tagger_module, "open_backend", opened_once.open_backend)
    return InProcess(dymn, monkeypatch, capfdbinary)


@pytest.fixture
def fake(dymn: Dymn, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> InProcess:
    """`fake("tag", "a.wav")`: with the fake in place of every model."""
    backend = FakeBackend()
    monkeypatch.setattr(tagger_module, "open_backend", lambda *args, **options: backend)
    return InProcess(dymn, monkeypatch, capfdbinary)
