"""Sends jobs to a worker process and watches it: crashes, hangs, growth, and who is to blame.

A worker takes one job at a time, so the job in hand is the suspect when it dies or stays silent. Where
that job alone is harmless, the ones before it have left damage behind: then the shortest run of jobs that
ends in the crash is looked for, twice as long each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fuzzing import worker

Job = dict[str, Any]
HERE = Path(__file__).resolve().parents[1]
MPG123 = re.compile(r"libmpg123|^Note: |^Warning: |^Truncating stereo")
TAIL = 3_000
START_LIMIT_S = 60.0
NEGLIGIBLE_GROWTH_MIB = 160.0  # ten seconds of 64 channels at 32 kHz are 78 MiB, and they are joined once


@dataclass(frozen=True)
class Verdict:
    """What came of a job."""

    job: Job
    outcome: str
    problem: str | None
    seconds: float = 0.0
    grown_mib: float = 0.0
    resident_mib: float = 0.0


@dataclass
class Tally:
    """What came of many."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Verdict] = field(default_factory=list)
    slowest: Verdict | None = None
    largest: Verdict | None = None
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        """Count one."""
        self.outcomes[verdict.outcome] += 1
        if verdict.problem:
            self.findings.append(verdict)
        if self.slowest is None or verdict.seconds > self.slowest.seconds:
            self.slowest = verdict
        if self.largest is None or verdict.grown_mib > self.largest.grown_mib:
            self.largest = verdict

    def join(self, other: Tally) -> None:
        """Take another one's counts in."""
        self.outcomes += other.outcomes
        self.findings += other.findings
        self.seconds += other.seconds
        self.slowest = max(filter(None, (self.slowest, other.slowest)), key=lambda v: v.seconds, default=None)
        self.largest = max(
            filter(None, (self.largest, other.largest)), key=lambda v: v.grown_mib, default=None
        )

    def __str__(self) -> str:
        parts = [
            f"{self.outcomes.total()} cases in {self.seconds:.1f} s: {dict(self.outcomes.most_common())}"
        ]
        if self.slowest and self.largest:
            parts.append(f"slowest {self.slowest.seconds:.2f} s {self.slowest.job}")
            parts.append(f"largest +{self.largest.grown_mib:.0f} MiB {self.largest.job}")
        return "; ".join(parts)


class Hunter:
    """A worker process and the eye on it; use it in a `with` statement.

    Args:
        seeds: the folder that `seeds.write_seeds` filled.
        limit_s: a job that takes longer hangs.
        limit_mib: a job that needs more on top of what the process has is out of bounds.
    """

    def __init__(
        self, seeds: Path, *, limit_s: float = 15.0, limit_mib: float = NEGLIGIBLE_GROWTH_MIB
    ) -> None:
        self._seeds = seeds
        self._limit_s = limit_s
        self._limit_mib = limit_mib
        self._process: subprocess.Popen[bytes] | None = None
        self._history: list[Job] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def examine(self, jobs: Iterable[Job], *, seconds: float | None = None) -> Tally:
        """Try jobs, as many as there are or as the time allows; at least one."""
        tally = Tally()
        started = time.monotonic()
        for job in jobs:
            tally.add(self.try_one(job))
            tally.seconds = time.monotonic() - started
            if seconds is not None and tally.seconds > seconds:
                break
        return tally

    def try_one(self, job: Job) -> Verdict:
        """Try one job; where the worker dies of it, find out whether it did so alone."""
        verdict = self._ask(job)
        if verdict.outcome != "crash":
            return verdict
        history = [*self._history]
        for length in self._lengths(len(history)):
            again = self._replay(history[-length:])
            if again.outcome == "crash":
                blame = "alone" if length == 1 else f"after {json.dumps(history[-length:-1])}"
                return Verdict(job, "crash", f"{again.problem}\nit crashes {blame}")
        return Verdict(job, "crash", f"{verdict.problem}\nit does not crash again")

    @staticmethod
    def _lengths(n: int) -> Iterator[int]:
        length = 1
        while length < n:
            yield length
            length *= 2
        yield n

    def _replay(self, jobs: list[Job]) -> Verdict:
        self._stop()
        verdict = Verdict({}, "none", None)
        for job in jobs:
            verdict = self._ask(job)
            if verdict.outcome == "crash":
                break
        return verdict

    def _ask(self, job: Job) -> Verdict:
        process = self._process or self._start()
        self._history.append(job)
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._crashed(job)
        limit = self._limit_s + (START_LIMIT_S if len(self._history) == 1 else 0)
        line = b""
        deadline = time.monotonic() + limit
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._reports], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._stop()
                return Verdict(job, "hang", f"no answer within {limit:g} s", seconds=limit)
            part = os.read(self._reports, 1 << 16)
            if not part:
                return self._crashed(job)
            line += part
        return self._judge(job, json.loads(line))

    def _judge(self, job: Job, report: dict[str, Any]) -> Verdict:
        problem = report["problem"]
        if not problem and report["stdout"]:
            problem = f"{report['stdout']} bytes on stdout: {self._tail(self._out, report['stdout'])}"
        elif not problem and (noise := self._noise(report["stderr"])):
            problem = f"on stderr: {noise}"
        elif not problem and report["grown_mib"] > self._limit_mib:
            problem = f"needs {report['grown_mib']:.0f} MiB more"
        outcome = "finding" if problem else report["outcome"]
        return Verdict(job, outcome, problem, report["seconds"], report["grown_mib"], report["resident_mib"])

    def _crashed(self, job: Job) -> Verdict:
        assert self._process is not None
        self._process.wait()
        problem = f"the process died with {self._process.returncode}: {self._tail(self._err)}"
        self._stop()
        return Verdict(job, "crash", problem)

    def _noise(self, n_bytes: int) -> str:
        """What stands on stderr, apart from libmpg123's remarks, which nothing outside it can silence."""
        lines = self._tail(self._err, n_bytes).splitlines() if n_bytes else []
        lines = lines[1:] if n_bytes > TAIL else lines
        return "\n".join(line for line in lines if line and not MPG123.search(line))

    @staticmethod
    def _tail(file: Any, n_bytes: int = TAIL) -> str:
        file.seek(0)
        return str(file.read()[-min(n_bytes, TAIL) :].decode("utf-8", "replace"))

    def _start(self) -> subprocess.Popen[bytes]:
        self._history = []
        self._open = contextlib.ExitStack()
        self._out, self._err = (
            self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed with the process
            for _ in range(2)
        )
        self._reports, theirs = os.pipe()
        paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzzing.worker", str(self._seeds), "--serve", str(theirs)],
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=self._err,
            pass_fds=[theirs],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        )
        os.close(theirs)
        return self._process

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        os.close(self._reports)
        self._open.close()
        self._process = None


def reproducer(verdict: Verdict, seeds: Path, folder: Path) -> str:
    """Write the input of a finding to a file, and say how to try it again."""
    job = verdict.job
    data = worker.bytes_of(job, worker.load_seeds(seeds))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("-".join(str(job[key]) for key in sorted(job) if key != "path") + ".bin")
    path.write_bytes(data)
    is_mutant = job.keys() <= {"target", "run", "number", "backend"}
    arguments = f"{job['run']} {job['number']}" if is_mutant and "run" in job else str(path)
    return (
        f"{verdict.outcome}: {job}\n{verdict.problem}\nthe input: {path}\n"
        f"again: PYTHONPATH=.:tests/fuzz python -m fuzzing.worker {seeds} {job['target']} {arguments}"
    )
