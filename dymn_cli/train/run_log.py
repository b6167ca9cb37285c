"""The log of a run, as JSON lines; that of a resumed run is that of an uninterrupted one.

    {"schema": "dymn.log/1", "stage", "step", "loss", ...}

Lines are flushed as they come. A resumed run drops the lines after its checkpoint and writes them again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import OutputError, os_errors_as

if TYPE_CHECKING:
    from dymn_cli.train.loop import LoopPlan, StepReport, Watch

__all__ = ["Observer", "RunLog"]

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
        with os_errors_as(OutputError, path):
            kept = _kept(path, (stage, step)) if path.exists() else []
            with atomic_write(path) as file:
                file.write("".join(kept).encode("utf-8"))
            self._file = path.open("a", encoding="utf-8")

    def write(self, fields: Mapping[str, Any]) -> None:
        """Add a line.

        Raises:
            OutputError: the disk is full, or gone.
        """
        with os_errors_as(OutputError, self._path):
            self._file.write(json.dumps({"schema": SCHEMA, **fields}, ensure_ascii=False) + "\n")
            self._file.flush()

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


LOGGED_STEPS = 400  # lines of losses in the log of a stage, however long it is


class Observer:
    """Passes reports of a stage on, and logs them.

    Args:
        watch: gets each report, with the time left for all stages.
        log: takes a line now and then, and one for each measurement.
        plans: of this stage and of those after it.
        measured: is called after each measurement.
    """

    def __init__(
        self,
        watch: Watch,
        log: RunLog,
        plans: Sequence[LoopPlan],
        *,
        measured: Callable[[], None] = lambda: None,
    ) -> None:
        self._watch, self._log, self._measured = watch, log, measured
        first, last = plans[0], plans[-1]
        self._every = max(first.n_steps // LOGGED_STEPS, 1)
        self._n_steps, self._later = first.n_steps, sum(plan.n_steps for plan in plans[1:])
        self._later_s = last.clock[1] - first.clock[1] if first.clock and last.clock else 0.0
        self._logged = -1

    def step(self, report: StepReport) -> None:
        """After each step."""
        part = int(report.done * LOGGED_STEPS)
        if part > self._logged if report.by_clock else report.step % self._every == 0:
            self._log.write(_fields(report))
            self._logged = part
        self._watch.step(self._whole(report))

    def evaluated(self, report: StepReport, measures: Mapping[str, float]) -> None:
        """After each measurement."""
        if measures:
            held_out = {key: round(value, 5) for key, value in measures.items()}
            self._log.write({**_fields(report), "held_out": held_out})
        self._measured()
        self._watch.evaluated(self._whole(report), measures)

    def _whole(self, report: StepReport) -> StepReport:
        """With the time that the later stages will take at this pace, or have been given."""
        if report.by_clock:
            return dataclasses.replace(report, left_s=report.left_s + self._later_s)
        left = self._n_steps - report.step
        per_step = report.left_s / left if left else report.elapsed_s / max(report.step, 1)
        return dataclasses.replace(report, left_s=report.left_s + self._later * per_step)


def _fields(report: StepReport) -> dict[str, Any]:
    return {
        "stage": report.stage,
        "step": report.step,
        "of": report.n_steps,
        **{name: round(value, 5) for name, value in report.losses.items()},
        "rate": float(f"{report.rate:.4g}"),
        "clips_per_s": round(report.clips_per_s, 2),
        "elapsed_s": round(report.elapsed_s, 1),
    }
