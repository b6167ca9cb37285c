"""Device, display and interruption of a training: for every command that trains."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dymn_cli.cli.signals import stop_on_signals
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.progress import Progress, span
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

    from dymn_cli.train.loop import StepReport
    from dymn_cli.train.run import TrainingRun

__all__ = ["TrainingProgress", "load_torch", "open_device", "train", "training_device"]

TRAINS_ON = ("cpu", "cuda", "mps")


def load_torch() -> None:
    """Import PyTorch for training.

    Raises:
        BackendUnavailableError: it is not installed, or cannot be loaded.
    """
    # Threads that wait for each other by spinning are in the way of whatever else runs here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from dymn_cli.train import device  # noqa: F401 - says so where PyTorch is missing


def open_device(name: str, threads: int | None, messages: Messages) -> tuple[torch.device, int]:
    """The device of `--device`, and the number of threads of `--threads`.

    Raises:
        UsageError: no such device.
        BackendUnavailableError: the device or PyTorch is not there.
    """
    load_torch()
    from dymn_cli.train.device import set_threads

    n_threads = set_threads(threads)
    return training_device(name, messages), n_threads


def train(run: TrainingRun, messages: Messages, measures: Mapping[str, str], **display: Any) -> None:
    """Do a run, and show how it goes.

    Args:
        run: the run.
        messages: writes messages.
        measures: formats of what is measured, by name; see `TrainingProgress`, which takes the rest, too.
        display: see `TrainingProgress`.

    Raises:
        ModelError: training diverged.
        OutputError: the working folder cannot be written.
        KeyboardInterrupt: Ctrl-C; the run can be continued.
        SystemExit: likewise by another signal.
    """
    with (
        stop_on_signals(lambda: messages.note("stopping after this step; once more to quit at once")) as came,
        TrainingProgress(messages, run.stages, measures, **display) as shown,
    ):
        ended = run.run(shown, lambda: bool(came))
    if ended == "interrupted":
        messages.note("the checkpoint is written; run the same command to continue")
        if came and came[0] != signal.SIGINT:
            raise SystemExit(128 + came[0])
        raise KeyboardInterrupt


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
    messages.note(f"DYMN_DEVICE={name} cannot train; training on the CPU (--device cuda or mps for a GPU)")
    return choose_device("cpu")


class TrainingProgress(Progress):
    """How far a training is; its measures are messages of their own, or stand beside the losses.

    Args:
        messages: writes messages.
        stages: their names.
        measures: formats of what is measured, by name, in the order of display; others are not shown.
        measures_aloud: whether measures get messages of their own.
        beside_bar: the losses that a bar has room for; lines have them all.
        epochs: of each stage, where people count in them; None to count steps.
    """

    def __init__(
        self,
        messages: Messages,
        stages: tuple[str, ...],
        measures: Mapping[str, str],
        *,
        measures_aloud: bool = True,
        beside_bar: tuple[str, ...] = ("loss",),
        epochs: int | None = None,
    ) -> None:
        super().__init__(messages.display(in_logs=True, bar_width=10))
        self._messages, self._stages, self._measures = messages, stages, measures
        self._aloud, self._beside_bar, self._epochs = measures_aloud, beside_bar, epochs
        self._measured = ""
        self._report: StepReport | None = None

    def step(self, report: StepReport) -> None:
        """After each step."""
        if report.step == 1:
            self._measured = ""  # it was of the stage before
        self._report = report
        self.label, self.total = self._stages[report.stage], report.n_steps
        self.show()

    def evaluated(self, report: StepReport, measures: Mapping[str, float]) -> None:
        """After each measurement."""
        figures = [
            text.format(measures[name])
            for name, text in self._measures.items()
            if measures.get(name) is not None
        ]
        self._measured = f"held out: {', '.join(figures)}" if figures else ""
        if figures and self._aloud:
            self._messages.note(f"{self._place(report)}: {self._measured}")

    @property
    def completed(self) -> float:
        """Steps of the stage."""
        return 0 if self._report is None else self._report.step

    def line(self) -> str:
        """How far it is: "end-to-end 3 of 30: loss 28.0, kl 2.27, 2.5 clips/s, about 43 s left"."""
        assert self._report is not None
        losses = [f"{name} {value:.3f}" for name, value in self._report.losses.items()]
        return f"{self._place(self._report)}: {', '.join([*losses, *self._state('about ')])}"

    def short(self) -> str:
        """The same beside a bar, within 80 columns."""
        assert self._report is not None
        losses = self._report.losses
        shown = [f"{name} {losses[name]:.2f}" for name in self._beside_bar if name in losses]
        by_step = f"{self._report.step}/{self._report.n_steps}"
        count = by_step if self._epochs is None else self._count(self._report)
        return ", ".join([count, *shown, *self._state("")])

    def _state(self, about: str) -> list[str]:
        assert self._report is not None
        is_over = self._report.step >= self._report.n_steps
        measured = [] if self._aloud or not self._measured else [self._measured]
        left = [] if is_over else [f"{about}{span(self._report.left_s)} left"]
        return [*measured, f"{self._report.clips_per_s:.1f} clips/s", *left]

    def _place(self, report: StepReport) -> str:
        stage = f"{self._stages[report.stage]} " if len(self._stages) > 1 else ""
        return f"{stage}{self._count(report)}"

    def _count(self, report: StepReport) -> str:
        if self._epochs is None:
            of = "of about" if report.by_clock and report.done < 1 else "of"
            return f"{report.step:,} {of} {report.n_steps:,}"
        epoch = min((report.step - 1) * self._epochs // report.n_steps + 1, self._epochs)
        return f"epoch {epoch:,} of {self._epochs:,}"
