"""Measure `dymn listen` on web radio: what it misses, how late it is, and whether its memory grows.

    python -m dymn_cli.bench.live [--minutes 60] [--seed 0] [-m MODEL]

A server on this machine plays a programme as MP3 at the speed of sound: faint noise, and every 20 to 30 s the
beginning of a demo clip, at levels that differ by up to 12 dB. On the way it breaks off in the middle of a
sound, falls silent for 7 s, and breaks off again and is out of order for 10 s. `dymn listen` runs in its own
process, keeps clips and runs a command for each event.

A sound counts if all of it was sent over one connection, two seconds after its beginning or later. It is
found by an event of its label that overlaps it, and found twice by two of them.

    begins      from the moment a sound begins until the line that says so was read, in seconds
    ends        likewise for its end; a sound without a clear end, such as an echo, ends late
    clock off   begin of the event by its `clock`, less the true one
    memory      resident memory of the process (Linux)
    CPU         processor time of the process, as a share of the time that passed; 1 is one core

Times are upper bounds where other programs keep the processors busy; the last line says how many they kept.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.bench.load import OtherLoad
from dymn_cli.bench.processes import PROGRAM, environment
from dymn_cli.demo import demo_clips
from dymn_cli.errors import DymnError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Break", "Found", "Line", "Placed", "Programme", "Sent", "judge", "main"]

LABELS = {"siren": "Siren", "birdsong": "Bird", "guitar": "Guitar"}
SOUND_S = 4.0
FADE_S = 0.02
GAP_S = (20.0, 30.0)  # from the end of a sound to the next
LEVEL_DB = (-6.0, 6.0)
BED_RMS = 1e-4
BED_S = 10.0
BLOCK_S = 0.05
STALL_S, DOWN_S = 7.0, 10.0
JOINED_S = 2.0  # of a connection, before sounds count
LATEST_S = 15.0  # after which a line is not of a sound any more
ENDS_WITHIN_S = 60.0
KIB_PER_MB = 1000 / 1.024


@dataclass(frozen=True, slots=True)
class Placed:
    """A sound of the programme; times are seconds since it began."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Break:
    """When the server sends nothing.

    Args:
        start_s: of the programme.
        end_s: likewise.
        hangs_up: whether the connection ends as well, and none is taken until the end.
    """

    start_s: float
    end_s: float
    hangs_up: bool


class Programme:
    """What is played: noise without an end, and sounds.

    Args:
        duration_s: until when sounds are placed.
        seed: of gaps, order, levels and noise.
    """

    def __init__(self, duration_s: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._bed = (BED_RMS * rng.standard_normal(round(BED_S * RATE_HZ))).astype(np.float32)
        clips = {clip.name: _beginning(clip.path) for clip in demo_clips()}
        names = sorted(clips)
        self._sounds: list[tuple[int, NDArray[np.float32]]] = []
        self.placed: list[Placed] = []
        start_s = BED_S
        while True:
            start_s += rng.uniform(*GAP_S) - GAP_S[0] if not self.placed else rng.uniform(*GAP_S)
            name = names[rng.integers(len(names))]
            gain = np.float32(10 ** (rng.uniform(*LEVEL_DB) / 20))
            start = round(start_s * RATE_HZ)
            end_s = (start + len(clips[name])) / RATE_HZ
            if end_s > duration_s - JOINED_S:
                break
            self._sounds.append((start, gain * clips[name]))
            self.placed.append(Placed(LABELS[name], start / RATE_HZ, end_s))
            start_s = end_s

    def samples(self, start: int, end: int) -> NDArray[np.float32]:
        """The samples of a span of it."""
        bed: NDArray[np.float32] = np.take(self._bed, range(start, end), mode="wrap")
        for at, sound in self._sounds:
            low, high = max(start, at), min(end, at + len(sound))
            if low < high:
                bed[low - start : high - start] += sound[low - at : high - at]
        return bed

    def breaks(self) -> tuple[Break, ...]:
        """One in the middle of a sound, a stall, and one after a sound: a quarter of the programme apart."""
        n = len(self.placed)
        if n < 4:
            return ()
        within, before, after = (self.placed[n * quarter // 4] for quarter in (1, 2, 3))
        middle_s = (within.start_s + within.end_s) / 2
        return (
            Break(middle_s, middle_s, hangs_up=True),
            Break(before.end_s + STALL_S, before.end_s + 2 * STALL_S, hangs_up=False),
            Break(after.end_s + STALL_S, after.end_s + STALL_S + DOWN_S, hangs_up=True),
        )


def _beginning(path: Path) -> NDArray[np.float32]:
    with open_audio(path) as reader:
        samples = np.concatenate(list(to_mono_32k(reader)))[: round(SOUND_S * RATE_HZ)]
    n_fade = round(FADE_S * RATE_HZ)
    samples[-n_fade:] *= np.linspace(1, 0, n_fade, dtype=np.float32)
    return samples


# ---------------------------------------------------------------------- the server


@dataclass(slots=True)
class Sent:
    """A span of the programme that was sent over one connection, without a break."""

    start_s: float
    end_s: float


class _Drain(io.RawIOBase):
    """Where an encoder writes: gives what is new, without the header that it completes in the end."""

    def __init__(self) -> None:
        self._new = bytearray()
        self._position = self._end = 0

    def take(self) -> bytes:
        data = bytes(self._new)
        self._new.clear()
        return data

    def write(self, data: Any) -> int:
        if 0 < self._position == self._end:
            self._new += data
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True


class _Radio(ThreadingHTTPServer):
    """Plays a programme to whoever connects, from where it is.

    Attributes:
        began: when the programme began, by `time.monotonic`; None before the first connection.
        sent: what was sent.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, programme: Programme, breaks: Sequence[Break]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.programme, self.breaks = programme, breaks
        self.began: float | None = None
        self.sent: list[Sent] = []
        self.n_connections = 0
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        """Of the stream."""
        return f"http://127.0.0.1:{self.server_port}/radio.mp3"

    def now_s(self) -> float:
        """Where the programme is."""
        return 0.0 if self.began is None else time.monotonic() - self.began

    def break_at(self, start_s: float, end_s: float) -> Break | None:
        """The break that begins in this span, or is under way at its beginning."""
        for one in self.breaks:
            if start_s <= one.start_s < end_s or one.start_s <= start_s < one.end_s:
                return one
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is none of our business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Radio

    def do_GET(self) -> None:
        radio = self.server
        if radio.began is None:
            radio.began = time.monotonic()
        now_s = radio.now_s()
        if radio.break_at(now_s, now_s) is not None:
            self.send_error(503)
            return
        radio.n_connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "audio/mpeg")
        self.end_headers()
        with contextlib.suppress(OSError):
            self._play(radio)
        self.close_connection = True

    def _play(self, radio: _Radio) -> None:
        drain, n_block = _Drain(), round(BLOCK_S * RATE_HZ)
        position = round(radio.now_s() * RATE_HZ)
        span: Sent | None = None
        with soundfile.SoundFile(drain, "w", RATE_HZ, 1, format="MP3") as encoder:
            while not radio.closing.is_set():
                start_s, end_s = position / RATE_HZ, (position + n_block) / RATE_HZ
                stop = radio.break_at(start_s, end_s)
                if stop is not None:
                    if stop.hangs_up:
                        return
                    position, span = round(stop.end_s * RATE_HZ), None
                    continue
                if radio.closing.wait(max(0.0, end_s - radio.now_s())):
                    return
                encoder.write(radio.programme.samples(position, position + n_block))
                self.wfile.write(drain.take())
                if span is None:
                    span = Sent(start_s, end_s)
                    radio.sent.append(span)
                span.end_s = end_s
                position += n_block

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name there
        pass


# ---------------------------------------------------------------------- what was heard


@dataclass(frozen=True, slots=True)
class Line:
    """An event that a line tells of; times are seconds since the programme began.

    Args:
        label: its label.
        start_s: by its clock.
        end_s: likewise.
        begin_read_s: when the line of its beginning was read.
        end_read_s: when that of its end was.
    """

    label: str
    start_s: float
    end_s: float
    begin_read_s: float
    end_read_s: float


@dataclass(slots=True)
class Found:
    """How the events fit the sounds.

    Args:
        n_heard: sounds that were sent as a whole.
        n_missed: of these, no event tells.
        n_twice: of these, two or more events tell.
        n_extra: events that overlap no sound of their label.
        begins_s: from the beginning of a sound to its line.
        ends_s: from its end to its line.
        clock_off_s: of the beginning of an event.
    """

    n_heard: int = 0
    n_missed: int = 0
    n_twice: int = 0
    n_extra: int = 0
    begins_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    clock_off_s: list[float] = field(default_factory=list)


def judge(placed: Sequence[Placed], sent: Sequence[Sent], lines: Sequence[Line]) -> Found:
    """Compare the events with what was sent."""
    found, left = Found(), set(range(len(lines)))
    for sound in placed:
        own = [n for n, line in enumerate(lines) if _is_of(line, sound)]
        left -= set(own)
        if not any(
            span.start_s + JOINED_S <= sound.start_s and sound.end_s <= span.end_s - BLOCK_S for span in sent
        ):
            continue
        found.n_heard += 1
        found.n_missed += not own
        found.n_twice += len(own) > 1
        for line in (lines[n] for n in own[:1]):
            found.begins_s.append(line.begin_read_s - sound.start_s)
            found.ends_s.append(line.end_read_s - sound.end_s)
            found.clock_off_s.append(line.start_s - sound.start_s)
    found.n_extra = len(left)
    return found


def _is_of(line: Line, sound: Placed) -> bool:
    return (
        line.label == sound.label
        and line.start_s < sound.end_s
        and sound.start_s < line.end_s
        and 0 <= line.begin_read_s - sound.start_s < LATEST_S
    )


class _Listening:
    """`dymn listen` in a process, and what it says."""

    def __init__(self, address: str, model: str, folder: Path) -> None:
        labels = itertools.chain.from_iterable(("-l", label) for label in LABELS.values())
        self._said = folder / "said.txt"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", PROGRAM, "listen", address, "-m", model, *labels),
                    *("-f", "jsonl", "--save", "clips", "--exec", "sh -c 'cat >> handed.jsonl'"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=folder,
                env={**environment(), "no_proxy": "127.0.0.1", "NO_COLOR": "1"},
            )
        self.read: list[tuple[float, dict[str, Any]]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.read.append((time.monotonic(), json.loads(line)))

    def stop(self) -> str:
        """End it in order, and give its last words; what it has said until then stays."""
        self.process.terminate()  # an interrupt is ignored where it was so for us, as in the background
        try:
            code = self.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._thread.join()
        if self.process.stdout is not None:
            self.process.stdout.close()
        said = self.last_words()
        return said if code == 128 + signal.SIGTERM else f"{said} (it ended with code {code})"

    def last_words(self) -> str:
        """The summary, or the error."""
        lines = self._said.read_text("utf-8", "replace").splitlines()
        told = [line for line in lines if line.startswith("dymn: ")]
        return told[-1].removeprefix("dymn: ") if told else "it said nothing"

    def lines(self, began: float) -> list[Line]:
        """The events that have ended."""
        since_1970 = time.time() - time.monotonic() + began
        begun = {one["number"]: at for at, one in self.read if one["type"] == "begin"}
        found = []
        for at, one in self.read:
            if one["type"] == "end":
                start_s = datetime.fromisoformat(one["clock"]).timestamp() - since_1970
                end_s = start_s + one["end_s"] - one["start_s"]
                found.append(Line(one["label"], start_s, end_s, begun[one["number"]] - began, at - began))
        return found

    def memory_mb(self) -> float | None:
        """Resident memory; None where the system does not tell."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text("ascii").splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / KIB_PER_MB
        return None

    def cpu_s(self) -> float | None:
        """Processor time; None where the system does not tell."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
            return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        return None


def main(minutes: float, *, seed: int = 0, model: str = "dymn04_kd") -> Iterator[str]:
    """Listen for so long, and give the lines of a table: what, value.

    Raises:
        UsageError: too short for a sound.
        DymnError: `dymn listen` ends by itself.
    """
    programme = Programme(60 * minutes, seed)
    if not programme.placed:
        raise UsageError(
            f"--minutes {minutes:g}: too short for a sound", hint="from 3 on, it also breaks off"
        )
    load = OtherLoad()
    with (
        tempfile.TemporaryDirectory(prefix="dymn-bench-") as name,
        _Radio(programme, programme.breaks()) as radio,
    ):
        folder = Path(name)
        threading.Thread(target=radio.serve_forever, daemon=True).start()
        listening = _Listening(radio.address, model, folder)
        try:
            for minute in itertools.count(1):
                wait_s = min(60 * minute, 60 * minutes) - radio.now_s()
                while wait_s > 0:
                    time.sleep(min(wait_s, 1.0))
                    if listening.process.poll() is not None:
                        raise DymnError(f"dymn listen ended: {listening.last_words()}")
                    wait_s = min(60 * minute, 60 * minutes) - radio.now_s()
                if (memory := listening.memory_mb()) is not None:
                    yield f"memory: minute {min(minute, minutes):g}\t{memory:.1f} MB"
                if minute >= minutes:
                    break
            cpu_s, passed_s = listening.cpu_s(), radio.now_s()
            said = listening.stop()
        finally:
            listening.process.kill()
            radio.closing.set()
            radio.shutdown()
        assert radio.began is not None
        lines = listening.lines(radio.began)
        found = judge(programme.placed, radio.sent, lines)
        yield f"sounds: played, heard as a whole\t{len(programme.placed)}, {found.n_heard}"
        yield f"sounds: missed, told twice\t{found.n_missed}, {found.n_twice}"
        yield f"events: all, of no sound\t{len(lines)}, {found.n_extra}"
        for what, values in (
            ("begins", found.begins_s),
            ("ends", found.ends_s),
            ("clock off", found.clock_off_s),
        ):
            yield f"{what}: median, 95 %, largest\t{_spread(values)} s"
        clips = len(list((folder / "clips").glob("*.wav")))
        handed = folder / "handed.jsonl"
        n_handed = len(handed.read_bytes().splitlines()) if handed.exists() else 0
        yield f"clips, handed over\t{clips}, {n_handed}"
        drop_outs = sum(one["type"] == "dropout" for _, one in listening.read)
        yield f"connections, drop-outs\t{radio.n_connections}, {drop_outs}"
        yield f"it said\t{said}"
        if cpu_s is not None:
            yield f"CPU\t{cpu_s / passed_s:.3f}"
        others = load.cores()
        yield f"other programs: cores busy\t{'unknown' if others is None else f'{others:.1f}'}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "nan"
    middle, late = np.quantile(values, (0.5, 0.95))
    return f"{middle:.2f}, {late:.2f}, {max(values, key=abs):.2f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dymn_cli.bench.live", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-m", "--model", default="dymn04_kd")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    try:
        for line in main(given.minutes, seed=given.seed, model=given.model):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except DymnError as error:
        sys.exit(f"{error.message} ({error.hint})" if error.hint else error.message)
