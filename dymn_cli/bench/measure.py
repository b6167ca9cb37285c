"""Run the whole benchmark; see `dymn_cli.bench.report` for what each part measures."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dymn_cli.audio.windows import WindowPlan
from dymn_cli.batch.job import Job
from dymn_cli.batch.pool import Pool
from dymn_cli.batch.run import InProcess
from dymn_cli.bench.clips import CLIP_S, FORMATS, RATE_HZ, copies, write_long, write_originals
from dymn_cli.bench.engines import WarmEngine
from dymn_cli.bench.load import OtherLoad
from dymn_cli.bench.machine import this_machine
from dymn_cli.bench.processes import Finished, run_dymn
from dymn_cli.bench.report import Figure, Report, Settings
from dymn_cli.bench.rounds import QUIET_CORES, Lap, Spread, interleaved, ratio
from dymn_cli.bench.stages import COMMON_STAGES, open_stages
from dymn_cli.cores import usable_cores
from dymn_cli.errors import UsageError
from dymn_cli.runtime.select import open_backend
from dymn_cli.store.registry import DEFAULT_MODEL
from dymn_cli.tagging.options import TagOptions

if TYPE_CHECKING:
    from dymn_cli.bench.baseline import Baseline

__all__ = ["BenchOptions", "run_bench"]

K = TypeVar("K")
T = TypeVar("T")

MB = 1e6
LONG_MINUTES = 10  # of the long recording, unless there is less time
BASELINE_FORMATS = ("wav", "mp3")
STAGES_SHARE, SPEED_SHARE, LENGTH_SHARE = 0.15, 0.6, 0.25  # of the seconds; --baseline adds its own
BASELINE_SHARE = 0.5
BASELINE_SLOWER = 6.0  # about how much slower the reference is: it gets fewer clips a round
LARGEST_BATCH = 512
LONGEST_H = 48  # 3 GB; MP3 counts its bytes in 32 bits
FOLDER_CLIPS = 24  # at least, as fewer files are done without workers

GAIN_OF_TWO = 1.8
GAIN_ON_BASELINE = 4.0
FLAT = 1.15
MEMORY_MB = 400.0


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure, and for how long.

    Args:
        model: name, or path of a .safetensors or .onnx file.
        jobs: workers to compare with a single one; None for one a core.
        rounds: how often everything is measured.
        seconds: about how long all rounds take, without start-up, baseline and long files.
        baseline: also measure the reference way to run the model.
        long_h: also measure a recording of this many hours; 0 for none.

    Raises:
        UsageError: a value out of range.
    """

    model: str = DEFAULT_MODEL
    jobs: int | None = None
    rounds: int = 4
    seconds: float = 40.0
    baseline: bool = False
    long_h: float = 0.0

    def __post_init__(self) -> None:
        for name, count in (("--jobs", self.jobs), ("--rounds", self.rounds)):
            if count is not None and count < 1:
                raise UsageError(f"{name} must be at least 1, not {count}")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UsageError(f"--seconds must be more than 0, not {self.seconds:g}")
        if not 0 <= self.long_h <= LONGEST_H:  # written so that NaN fails
            raise UsageError(f"--long must be between 0 and {LONGEST_H} hours, not {self.long_h:g}")


def run_bench(options: BenchOptions, tell: Callable[[str], None]) -> Report:
    """Measure this machine.

    Args:
        options: what to measure, and for how long.
        tell: called with a line on what is measured now.

    Raises:
        UsageError: no such model, or one that cannot be measured like this.
        ModelError: it cannot be loaded.
        OutputError: the clips cannot be written to the temporary folder.
    """
    with ExitStack() as stack:
        load = OtherLoad()
        bench = _Bench(options, stack, tell)
        other_cores = load.cores() or 0.0
        if other_cores > QUIET_CORES:
            busy = f"other programs keep {other_cores:.1f} of {usable_cores()} cores busy"
            tell(f"{busy}: runs that they disturb are repeated")
        figures = tuple(bench.figures())
        return Report(
            version=_version(),
            model=bench.tagger.model,
            machine=this_machine(("torch",) if options.baseline else ()),
            settings=Settings(
                rounds=options.rounds,
                n_clips=bench.n_clips,
                clip_s=CLIP_S,
                rate_hz=RATE_HZ,
                channels=2,
                jobs=bench.jobs,
            ),
            figures=figures,
            other_cores=bench.other_cores,
        )


def _version() -> str:
    from dymn_cli import __version__

    return __version__


class _Bench:
    """One benchmark: its clips, its engines, and its parts in order."""

    def __init__(self, options: BenchOptions, stack: ExitStack, tell: Callable[[str], None]) -> None:
        self.options = options
        self.jobs = options.jobs or usable_cores()
        self._stack = stack
        self._tell = tell
        self._disturbed: list[tuple[float, float]] = []  # seconds, cores that others kept busy
        self._job = Job(options.model, "auto", "cpu", None, TagOptions())
        self.tagger = stack.enter_context(self._job.open_tagger(threads=1))
        self._baseline = self._open_baseline()
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dymn-bench-")))
        tell("writing clips")
        self._originals = write_originals(self._folder)
        self._clip_s_taken = self._time_a_clip()
        self.n_clips = self._clips_for(SPEED_SHARE, len(FORMATS) * (1 + 1 / self.jobs))
        self._clips = {
            form: copies(paths, self._folder / form, self.n_clips) for form, paths in self._originals.items()
        }

    def _open_baseline(self) -> Baseline | None:
        if not self.options.baseline:
            return None
        from dymn_cli.bench.baseline import Baseline

        return Baseline(self.options.model, threads=usable_cores())

    def _time_a_clip(self) -> float:
        """Rough seconds of one core for a clip, from which the size of the rounds follows."""
        paths = [paths[0] for paths in self._originals.values()]
        for path in paths:
            self.tagger.tag(path)
        start = time.perf_counter()
        for path in paths:
            self.tagger.tag(path)
        return (time.perf_counter() - start) / len(paths)

    def _clips_for(self, share: float, runs_of_one_core: float) -> int:
        """The number of clips that fill a share of the seconds, as a multiple of the workers."""
        each_s = self.options.seconds * share / self.options.rounds / runs_of_one_core
        n_clips = round(each_s / self._clip_s_taken / self.jobs) * self.jobs
        return min(max(n_clips, self.jobs), LARGEST_BATCH)

    def _pool(self, n_workers: int) -> WarmEngine:
        engine = WarmEngine(Pool(self._job, n_workers), self._job, self._folder)
        warm = self._stack.enter_context(engine)
        paths = self._clips["wav"]
        paths = [*paths, *self._clips["flac"], *self._clips["mp3"]][: max(len(paths), 4 * n_workers)]
        warm(paths)
        return warm

    @property
    def other_cores(self) -> float | None:
        """Cores that other programs kept busy during the laps that count; None if unknown."""
        total_s = sum(seconds for seconds, _ in self._disturbed)
        return sum(seconds * cores for seconds, cores in self._disturbed) / total_s if total_s else None

    def _laps(self, contenders: Mapping[K, Callable[[], T]]) -> dict[K, list[Lap[T]]]:
        laps = interleaved(contenders, self.options.rounds)
        self._disturbed += [
            (lap.seconds, lap.other_cores)
            for rounds in laps.values()
            for lap in rounds
            if lap.other_cores is not None
        ]
        return laps

    def _seconds(self, contenders: Mapping[K, Callable[[], object]]) -> dict[K, list[float]]:
        return {key: [lap.seconds for lap in rounds] for key, rounds in self._laps(contenders).items()}

    # ------------------------------------------------------------------ the parts

    def figures(self) -> Iterator[Figure]:
        """Measure part by part."""
        self._tell("measuring start-up")
        yield from self._start()
        self._tell("measuring the stages")
        stages = self._stages()
        self._tell("measuring end to end")
        counts = (1,) if self.jobs == 1 else (1, self.jobs)
        pools = {n: self._pool(n) for n in counts}
        speed = self._speed(pools)
        yield from self._stage_figures(stages, speed)
        yield from self._speed_figures(speed)
        self._tell("measuring a long recording")
        yield from self._length(pools[self.jobs])
        if self._baseline is not None:
            self._tell(f"measuring the baseline, {self._baseline.note}")
            yield from self._against_baseline(self._baseline, pools[self.jobs])

    def _start(self) -> Iterator[Figure]:
        clip = str(self._clips["wav"][0])
        commands = {"help": ("--help",), "tag": ("tag", "-q", "-m", self.options.model, clip)}
        laps = self._laps({what: partial(run_dymn, *arguments) for what, arguments in commands.items()})
        for what in commands:
            yield Figure("start", what, Spread.of([lap.value.seconds for lap in laps[what]]), "s")
        yield from _memory("clip", [lap.value for lap in laps["tag"]], "wav")

    def _stages(self) -> dict[tuple[str, str], list[float]]:
        backend = open_backend(self.options.model, device="cpu", n_samples=WindowPlan().n_window)
        n_clips = self._clips_for(STAGES_SHARE, 2.0)
        with open_stages(self.tagger, backend, self._originals, self._folder, n_clips) as stages:
            taken = self._seconds(stages)
        return {key: [seconds / n_clips for seconds in times] for key, times in taken.items()}

    def _speed(self, pools: Mapping[int, WarmEngine]) -> dict[tuple[str, int], list[float]]:
        """Seconds a clip: (format, workers) → rounds."""
        contenders = {
            (form, n_workers): partial(pools[n_workers], self._clips[form])
            for form in FORMATS
            for n_workers in pools
        }
        taken = self._seconds(contenders)
        return {key: [seconds / self.n_clips for seconds in times] for key, times in taken.items()}

    def _stage_figures(
        self,
        stages: Mapping[tuple[str, str], Sequence[float]],
        speed: Mapping[tuple[str, int], Sequence[float]],
    ) -> Iterator[Figure]:
        def figure(what: str, form: str, seconds: Spread) -> Figure:
            return Figure("stages", what, seconds.scaled(1e3), "ms", form, 1)

        for form in FORMATS:
            yield figure("decode", form, Spread.of(stages["decode", form]))
        for what in COMMON_STAGES:
            yield figure(what, "", Spread.of(stages[what, ""]))
        common_s = sum(statistics.median(stages[what, ""]) for what in COMMON_STAGES)
        for form in FORMATS:
            known_s = common_s + statistics.median(stages["decode", form])
            rest = [seconds - known_s for seconds in speed[form, 1]]
            yield figure("rest", form, Spread.of(rest))

    def _speed_figures(self, speed: Mapping[tuple[str, int], Sequence[float]]) -> Iterator[Figure]:
        for (form, n_workers), seconds in speed.items():
            yield Figure("speed", "clips", Spread.of(seconds).inverse(), "1/s", form, n_workers)
        for (form, n_workers), seconds in speed.items():
            yield Figure("speed", "realtime", Spread.of(seconds).inverse(CLIP_S), "x", form, n_workers)
        goal = GAIN_OF_TWO if self.jobs == 2 <= usable_cores() else None
        for form in FORMATS if self.jobs > 1 else ():
            gain = ratio(speed[form, 1], speed[form, self.jobs])
            yield Figure("speed", "gain", gain, "x", form, self.jobs, at_least=goal)

    # ------------------------------------------------------------------ long recordings

    def _length(self, pool: WarmEngine) -> Iterator[Figure]:
        n_clips = self._clips_for(LENGTH_SHARE, 2 / self.jobs)
        minutes = min(max(1, round(n_clips * CLIP_S / 60)), LONG_MINUTES)
        path = self._folder / "long.mp3"
        write_long(path, minutes)
        clips = copies(self._originals["mp3"], self._folder / "mp3", minutes * 60 // CLIP_S)
        engine = InProcess(self._job, self._job.open_tagger(threads=self.jobs))
        name = f"{minutes} min"
        with WarmEngine(engine, self._job, self._folder) as threads:
            hours = {"clips": pool(clips) / 3600, name: threads([path]) / 3600}
            taken = self._seconds({"clips": partial(pool, clips), name: partial(threads, [path])})
        for what, times in taken.items():
            cost = Spread.of(times).scaled(1 / hours[what])
            yield Figure("length", what, cost, "s/h", "mp3", self.jobs)
        flat = ratio(taken[name], taken["clips"], hours["clips"] / hours[name])
        yield Figure("length", f"{name} : clips", flat, "x", "mp3", self.jobs, at_most=FLAT)
        tag = ("tag", "-q", "-m", self.options.model)
        copies(self._originals["mp3"], self._folder / "mp3", FOLDER_CLIPS)
        folder = run_dymn(*tag, "-j", str(self.jobs), str(clips[0].parent), watch=True)
        yield from _memory("folder", [folder], "mp3")
        yield from _memory(name, [run_dymn(*tag, str(path), watch=True)], "mp3")
        if self.options.long_h:
            yield from self._very_long(pool, clips, hours["clips"], path)

    def _very_long(
        self, pool: WarmEngine, clips: Sequence[Path], hours_of_clips: float, path: Path
    ) -> Iterator[Figure]:
        """One run of the program, between equal numbers of runs over short clips."""
        hours = self.options.long_h
        name = f"{hours:g} h"
        self._tell(f"measuring {name} in one file")
        write_long(path, max(1, round(hours * 60)))
        around = self._seconds({"before": partial(pool, clips)})["before"]
        threads = ("--threads", str(self.jobs))
        run = run_dymn("tag", "-q", "-m", self.options.model, *threads, str(path), watch=True)
        around += self._seconds({"after": partial(pool, clips)})["after"]
        cost = run.seconds / hours
        yield Figure("length", name, Spread.of([cost]), "s/h", "mp3", self.jobs)
        flat = ratio([cost] * len(around), around, hours_of_clips)
        yield Figure("length", f"{name} : clips", flat, "x", "mp3", self.jobs, at_most=FLAT)
        yield from _memory(name, [run], "mp3")

    # ------------------------------------------------------------------ the reference way

    def _against_baseline(self, baseline: Baseline, pool: WarmEngine) -> Iterator[Figure]:
        runs = len(BASELINE_FORMATS) * (1 + 1 / self.jobs)
        n_ours = self._clips_for(BASELINE_SHARE, runs)
        n_theirs = max(2, round(n_ours / BASELINE_SLOWER))
        clips = {
            form: copies(self._originals[form], self._folder / form, max(n_ours, n_theirs))
            for form in BASELINE_FORMATS
        }

        def theirs(paths: Sequence[Path]) -> None:
            for path in paths:
                baseline(path)

        contenders: dict[tuple[str, str], Callable[[], object]] = {}
        for form, paths in clips.items():
            theirs(paths[:1])
            contenders["dymn", form] = partial(pool, paths[:n_ours])
            contenders["reference", form] = partial(theirs, paths[:n_theirs])
        taken = self._seconds(contenders)
        n_clips = {"dymn": n_ours, "reference": n_theirs}
        for (who, form), times in taken.items():
            rate = Spread.of(times).inverse(n_clips[who])
            yield Figure("baseline", who, rate, "1/s", form, self.jobs)
        goal = GAIN_ON_BASELINE if self.options.model == DEFAULT_MODEL else None
        for form in BASELINE_FORMATS:
            gain = ratio(taken["reference", form], taken["dymn", form], n_ours / n_theirs)
            yield Figure("baseline", "dymn : reference", gain, "x", form, self.jobs, at_least=goal)


def _memory(what: str, runs: Sequence[Finished], form: str) -> Iterator[Figure]:
    largest = [run.largest_bytes / MB for run in runs if run.largest_bytes is not None]
    total = [run.total_bytes / MB for run in runs if run.total_bytes is not None]
    if largest:
        yield Figure("memory", what, Spread.of(largest), "MB", form, at_most=MEMORY_MB)
    if total:
        yield Figure("memory", f"{what}, all processes", Spread.of(total), "MB", form, at_most=MEMORY_MB)
