"""What is shown while a network is trained, and how Ctrl-C ends it: for every command that trains."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Self

from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.progress import FIRST_LINE_S, LINE_EVERY_S, LINES_THIN_OUT, span
from dymn_cli.cli.terminal.streams import is_terminal, wants_color
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    import torch
    from rich.progress import Progress, TaskID

    from dymn_cli.train.loop import StepReport

__all__ = ["Display", "StopRequest", "end_interrupted", "stop_on_signal", "training_device"]

TRAINS_ON = ("cpu", "cuda", "mps")
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def training_device(name: str, messages: Messages) -> torch.device:
    """Where a command that trains computes: what `--device` means, as far as PyTorch can train there.

    "auto" is the CPU, as everywhere. `DYMN_DEVICE` may name a device that only runs finished models: then the
    CPU is taken, and a note says so.

    Raises:
        UsageError: no such device, or `--device` names one that nothing can be trained on.
        BackendUnavailableError: it is not there, or PyTorch is not.
    """
    from dymn_cli.runtime.devices import parse_device
    from dymn_cli.train.device import choose_device

    place = parse_device(name)
    if place.kind in TRAINS_ON:
        return choose_device(str(place))
    if name != os.environ.get("DYMN_DEVICE"):
        raise UsageError(
            f"--device {name}: nothing can be trained there", hint=f"one of {', '.join(TRAINS_ON)}"
        )
    messages.note(
        f"DYMN_DEVICE={name} is no place to train; trained on the CPU (--device cuda or mps for a GPU)"
    )
    return choose_device("cpu")


class StopRequest:
    """Whether someone wants the run to end; asked between steps, so that a checkpoint is always whole."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None


@contextmanager
def stop_on_signal(messages: Messages) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second one ends the program at once."""
    request = StopRequest()
    before: dict[int, Any] = {}

    def ask(signum: int, frame: FrameType | None) -> None:
        if request.signal is not None:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        request.signal = signum
        messages.note("stopping after this step; once more to quit at once")

    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_interrupted(messages: Messages, request: StopRequest) -> NoReturn:
    """End a run that was asked to stop, with the exit code of what asked.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
        SystemExit: it was another signal.
    """
    messages.note("the checkpoint is written; the same command goes on from here")
    if request.signal not in (None, signal.SIGINT):
        raise SystemExit(128 + request.signal)
    raise KeyboardInterrupt


class Display:
    """Tells how training goes: a bar on a terminal, else a line now and then; measures on lines of their own.

    Use it in a `with` statement.

    Args:
        messages: what the run says.
        stages: their names.
        measured: formats what is measured, by name, in the order it is told; others are not told.
        measures_aloud: whether measures get lines of their own, not only a place beside the losses.
        beside_bar: the losses that a bar has room for; lines have them all.
        epochs: that each stage has, where people count in them; None to count steps.
    """

    def __init__(
        self,
        messages: Messages,
        stages: tuple[str, ...],
        measured: Mapping[str, str],
        *,
        measures_aloud: bool = True,
        beside_bar: tuple[str, ...] = ("loss",),
        epochs: int | None = None,
    ) -> None:
        self._messages, self._stages, self._measured = messages, stages, measured
        self._aloud, self._last_told = measures_aloud, ""
        self._beside_bar, self._epochs = beside_bar, epochs
        self._quiet = messages.quiet or messages.progress_choice == "never"
        self._bar: Progress | None = None
        self._row: TaskID | None = None
        self._begun = time.monotonic()
        self._next_s = FIRST_LINE_S
        self._stage = -1

    def step(self, report: StepReport) -> None:
        """After each step."""
        if report.step == 1:
            self._last_told = ""  # it was of the stage before
        if self._quiet:
            return
        if self._bar is not None:
            self._draw(report)
            return
        elapsed = time.monotonic() - self._begun
        if elapsed >= self._next_s:
            self._messages.note(f"{self._place(report)}: {self._state(report)}")
            self._next_s = elapsed + max(LINE_EVERY_S, elapsed * LINES_THIN_OUT)

    def evaluated(self, report: StepReport, measures: Mapping[str, float]) -> None:
        """After each measurement."""
        told = [
            text.format(measures[name])
            for name, text in self._measured.items()
            if measures.get(name) is not None
        ]
        self._last_told = f", held out: {', '.join(told)}" if told else ""
        if told and self._aloud:
            self._messages.note(f"{self._place(report)}: held out: {', '.join(told)}")

    def _place(self, report: StepReport) -> str:
        several = len(self._stages) > 1
        stage = f"{self._stages[report.stage]} " if several else ""
        return f"{stage}{self._count(report)}"

    def _count(self, report: StepReport) -> str:
        if self._epochs is None:
            of = "of about" if report.by_clock and report.done < 1 else "of"
            return f"{report.step:,} {of} {report.n_steps:,}"
        epoch = min((report.step - 1) * self._epochs // report.n_steps + 1, self._epochs)
        return f"epoch {epoch:,} of {self._epochs:,}"

    def _state(self, report: StepReport) -> str:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        left = f", about {span(report.left_s)} left" if report.step < report.n_steps else ""
        measures = "" if self._aloud else self._last_told
        return f"{losses}{measures}, {report.clips_per_s:.1f} clips/s{left}"

    def _short(self, report: StepReport) -> str:
        """How it stands, beside a bar and within 80 columns."""
        losses = [f"{name} {report.losses[name]:.2f}" for name in self._beside_bar if name in report.losses]
        measures = [] if self._aloud or not self._last_told else [self._last_told.removeprefix(", ")]
        left = [f"{span(report.left_s)} left"] if report.step < report.n_steps else []
        parts = [
            f"{report.step}/{report.n_steps}" if self._epochs is None else self._count(report),
            *losses,
            *measures,
            f"{report.clips_per_s:.1f} clips/s",
            *left,
        ]
        return ", ".join(parts)

    def _draw(self, report: StepReport) -> None:
        assert self._bar is not None
        if report.stage != self._stage:
            if self._row is not None:
                self._bar.remove_task(self._row)
            self._row = self._bar.add_task(self._stages[report.stage], total=report.n_steps, state="")
            self._stage = report.stage
        assert self._row is not None
        self._bar.update(self._row, completed=report.step, total=report.n_steps, state=self._short(report))

    def __enter__(self) -> Self:
        if not self._quiet and is_terminal(sys.stderr):
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            color = wants_color(sys.stderr, self._messages.color)
            console = Console(
                file=sys.stderr,
                force_terminal=True,
                no_color=not color,
                color_system="standard" if color else None,
                markup=False,
                highlight=False,
            )
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[state]}", markup=False),
                console=console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=True,  # lines that are written meanwhile would tear the bar
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
