"""The figures of a benchmark, the same for a table, tab-separated rows and JSON.

    part     what                     format  workers   unit
    start    help, tag                                  s       a process, from start to end
    memory   clip, folder, long ...   *                 MB      peak of that process, or of all its processes
    stages   decode ... write, rest   *       1         ms      of one core, for a clip of 10 s
    speed    clips                    *       1, N      1/s     end to end, the workers running already
    speed    realtime                 *       1, N      x       seconds of audio a second
    speed    gain                     *       N         x       clips a second with N workers : with 1
    length   clips, 10 min ...        mp3     N         s/h     seconds for an hour of audio
    length   10 min ... : clips       mp3     N         x       cost of an hour in one file : in files of 10 s
    baseline clips, gain, ...         *       N         1/s, x  the reference way, and dymn : the reference

Each figure is the median of the rounds, with the lowest and the highest.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dymn_cli.bench.rounds import Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dymn_cli.bench.machine import Machine
    from dymn_cli.results import ModelInfo

__all__ = ["COLUMNS", "SCHEMA", "Figure", "Report", "Settings"]

SCHEMA = "dymn.bench/1"
COLUMNS = ("part", "what", "format", "workers", "value", "low", "high", "unit", "goal", "reached")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity.

    Args:
        part: of the benchmark.
        what: within that part.
        value: in that unit.
        unit: "s", "ms", "1/s", "x" (a ratio), "s/h", "MB", "".
        form: format of the files; "" where it does not matter.
        workers: processes or threads at work; None where it does not matter.
        at_least: goal for the median; None without one.
        at_most: likewise.
    """

    part: str
    what: str
    value: Spread
    unit: str
    form: str = ""
    workers: int | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> str:
        """The goal as text: ">= 4"."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        if self.at_least is not None:
            return self.value.median >= self.at_least
        return None if self.at_most is None else self.value.median <= self.at_most

    @property
    def cells(self) -> tuple[object, ...]:
        """The figure as a row of tsv, in the order of `COLUMNS`."""
        reached = {True: "yes", False: "no", None: None}[self.reached]
        spread = (_short(self.value.median), _short(self.value.low), _short(self.value.high))
        return (
            self.part,
            self.what,
            self.form or None,
            self.workers,
            *spread,
            self.unit,
            self.goal or None,
            reached,
        )

    def to_json(self) -> dict[str, Any]:
        """The figure as a JSON object; fields that do not apply are null."""
        return {
            "part": self.part,
            "what": self.what,
            "format": self.form or None,
            "workers": self.workers,
            **{name: _short(value) for name, value in dataclasses.asdict(self.value).items()},
            "unit": self.unit,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "reached": self.reached,
        }


def _short(value: float) -> float:
    """Four significant digits: no measurement here is better."""
    return float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a benchmark.

    Args:
        rounds: how often everything was measured.
        n_clips: files in an end-to-end run, for each format.
        clip_s: seconds of a clip.
        rate_hz: of a clip.
        channels: of a clip.
        jobs: workers, where there are several.
    """

    rounds: int
    n_clips: int
    clip_s: int
    rate_hz: int
    channels: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a benchmark.

    Args:
        version: of dymn.
        model: that was measured.
        machine: that it ran on.
        settings: of the benchmark.
        figures: in the order of the table above.
        other_cores: cores that other programs kept busy meanwhile; None if unknown.
    """

    version: str
    model: ModelInfo
    machine: Machine
    settings: Settings
    figures: tuple[Figure, ...]
    other_cores: float | None

    def of(self, part: str) -> Iterator[Figure]:
        """The figures of a part."""
        return (figure for figure in self.figures if figure.part == part)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, whose fields are a contract."""
        settings = dataclasses.asdict(self.settings)
        return {
            "schema": SCHEMA,
            "dymn": self.version,
            "model": {name: getattr(self.model, name) for name in ("name", "sha256", "backend", "provider")},
            "machine": dataclasses.asdict(self.machine) | {"libraries": dict(self.machine.libraries)},
            "settings": {name.removeprefix("n_"): value for name, value in settings.items()},
            "other_load_cores": None if self.other_cores is None else round(self.other_cores, 2),
            "figures": [figure.to_json() for figure in self.figures],
        }
