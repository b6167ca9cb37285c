"""Takes results one by one: counts all of their events, and keeps as many as the page can hold.

Memory is bounded by what is kept and by the number of labels, not by the number of events: a million events
go through heaps of the `limit` best ones.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from dymn_cli.audio.clock import Clock
from dymn_cli.errors import UsageError
from dymn_cli.report.model import Decision, HeatMap, Key, LabelCount, Overview, Report, Source, Span
from dymn_cli.values import require_choice

if TYPE_CHECKING:
    from datetime import date, datetime

    from dymn_cli.results import Failure

__all__ = ["Gathering", "Sample", "Sampling"]

Sample = Literal["highest", "lowest", "threshold", "random", "balanced"]

TOP_LABELS = 12
MOST_COLUMNS = 24
MOST_DAYS = 31
MINUTE_S = 60.0
STEPS_MIN = (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1440)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which events the page holds where there are too many, and in which order they are reviewed.

    Args:
        limit: at most so many, or all that have a decision where these are more.
        order: "highest" or "lowest" scores, those nearest to the "threshold", "random" ones, or "balanced":
            random ones, as many of each label as there are.
        threshold: the score that "threshold" is about.
        seed: of "random" and "balanced".

    Raises:
        UsageError: a value out of range.
    """

    limit: int = 10_000
    order: Sample = "highest"
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("sample", self.order, Sample)
        if self.limit < 1:
            raise UsageError(f"a limit of {self.limit} events", hint="at least 1")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"a threshold of {self.threshold:g} is not a score between 0 and 1")

    def rank(self, key: Key, score: float | None) -> float:
        """What an event is sorted by: the lowest ranks come first."""
        if self.order in ("random", "balanced"):
            digest = hashlib.blake2b(repr((self.seed, key)).encode("utf-8", "surrogatepass"), digest_size=8)
            return float(int.from_bytes(digest.digest()))
        value = 0.0 if score is None else score
        if self.order == "threshold":
            return abs(value - self.threshold)
        return value if self.order == "lowest" else -value

    @property
    def words(self) -> str:
        """What is kept, in words."""
        return {
            "highest": "those with the highest scores",
            "lowest": "those with the lowest scores",
            "threshold": f"those with scores around {self.threshold:g}",
            "random": "a random sample",
            "balanced": "a random sample, balanced by label",
        }[self.order]


@dataclass(slots=True)
class _SourceFacts:
    """What is known of a recording, whatever of its events is kept."""

    duration_s: float | None
    rate_hz: int
    channels: int
    notes: dict[str, None]
    clock: datetime | None
    n_found: int = 0


@dataclass(slots=True)
class _Best:
    """The entries of lowest rank; ties go to the earlier one."""

    limit: int
    heap: list[tuple[float, int, int, Span]] = field(default_factory=list)

    def add(self, rank: float, number: int, source: int, span: Span) -> None:
        entry = (-rank, -number, source, span)
        if len(self.heap) < self.limit:
            heapq.heappush(self.heap, entry)
        elif entry[:2] > self.heap[0][:2]:
            heapq.heapreplace(self.heap, entry)

    def first(self) -> list[tuple[int, int, Span]]:
        """Number, source and span of each, by rank."""
        return [(-number, source, span) for _, number, source, span in sorted(self.heap, reverse=True)]


class Gathering:
    """Takes the results of recordings, in order.

    Args:
        sampling: which events are kept.
        decisions: of an earlier review; their events are all kept, before any other.
    """

    def __init__(self, sampling: Sampling, decisions: Sequence[Decision] = ()) -> None:
        self._sampling = sampling
        self._decisions: Mapping[Key, Decision] = {decision.key: decision for decision in decisions}
        self._sources: dict[str, _SourceFacts] = {}
        self._places: dict[str, int] = {}
        self._failures: dict[str, Failure] = {}
        self._best: dict[str, _Best] = {}
        self._decided: list[tuple[int, int, Span]] = []
        self._fitting: dict[Key, Decision] = {}
        self._n_spans = 0
        self._counts: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._minutes: Counter[tuple[str, int]] = Counter()
        self._hours: Counter[tuple[str, int]] = Counter()
        self._days: Counter[tuple[str, date]] = Counter()

    def fail(self, failure: Failure) -> None:
        """Take that an input gave nothing."""
        self._failures[failure.source] = failure

    def add(
        self,
        name: str,
        spans: Iterable[Span],
        *,
        duration_s: float | None = None,
        rate_hz: int = 0,
        channels: int = 0,
        notes: Iterable[str] = (),
    ) -> None:
        """Take a recording, or more events of one that is known."""
        facts = self._sources.get(name)
        if facts is None:
            self._places[name] = len(self._sources)
            facts = self._sources[name] = _SourceFacts(duration_s, rate_hz, channels, {}, _local_start(name))
        if duration_s is not None:
            facts.duration_s = max(duration_s, facts.duration_s or 0.0)
        facts.notes.update(dict.fromkeys(notes))
        place = self._places[name]
        for span in spans:
            self._count(facts, span)
            self._keep(name, place, span)
            facts.n_found += 1
            self._n_spans += 1

    def _count(self, facts: _SourceFacts, span: Span) -> None:
        label = span.label
        self._counts[label] += 1
        self._seconds[label] += span.end_s - span.start_s
        self._minutes[label, int(span.start_s // MINUTE_S)] += 1
        if facts.clock is not None:
            moment = facts.clock + timedelta(seconds=span.start_s)
            self._hours[label, moment.hour] += 1
            self._days[label, moment.date()] += 1

    def _keep(self, name: str, place: int, span: Span) -> None:
        key = span.key(name)
        if key in self._decisions:
            self._fitting[key] = self._decisions[key]
            self._decided.append((self._n_spans, place, span))
            return
        part = span.label if self._sampling.order == "balanced" else ""
        best = self._best.setdefault(part, _Best(self._sampling.limit))
        best.add(self._sampling.rank(key, span.score), self._n_spans, place, span)

    def finish(self) -> Report:
        """All that was gathered."""
        kept: dict[int, list[Span]] = {}
        chosen = self._chosen()
        for _, place, span in sorted(chosen, key=lambda entry: entry[0]):
            kept.setdefault(place, []).append(span)
        sources = tuple(
            Source(
                name,
                facts.duration_s,
                facts.rate_hz,
                facts.channels,
                tuple(facts.notes),
                facts.clock,
                tuple(sorted(kept.get(n, ()), key=lambda span: (span.start_s, span.end_s))),
                facts.n_found,
            )
            for n, (name, facts) in enumerate(self._sources.items())
        )
        carried = tuple(one for key, one in self._decisions.items() if key not in self._fitting)
        failures = tuple(self._failures.values())
        left_out = self._left_out(len(chosen))
        return Report(sources, failures, self._overview(), left_out, tuple(self._fitting.values()), carried)

    def _chosen(self) -> list[tuple[int, int, Span]]:
        chosen = list(self._decided)
        queues = [best.first() for _, best in sorted(self._best.items())]
        for turn in range(max(map(len, queues), default=0)):
            for queue in queues:
                if len(chosen) >= self._sampling.limit:
                    return chosen
                if turn < len(queue):
                    chosen.append(queue[turn])
        return chosen

    def _left_out(self, n_kept: int) -> str:
        n_gone = self._n_spans - n_kept
        if not n_gone:
            return ""
        decided = " and every event with a decision" if self._decided else ""
        return (
            f"The page holds {n_kept:,} of {self._n_spans:,} events: {self._sampling.words}{decided}."
            f" {n_gone:,} are left out; the overview counts all of them."
        )

    def _overview(self) -> Overview:
        by_count = sorted(self._counts, key=lambda label: (-self._counts[label], label))
        top = by_count[:TOP_LABELS]
        return Overview(
            n_sources=len(self._sources),
            seconds=sum(facts.duration_s or 0.0 for facts in self._sources.values()),
            n_spans=self._n_spans,
            n_labels=len(self._counts),
            labels=tuple(LabelCount(label, self._counts[label], self._seconds[label]) for label in top),
            heat_maps=tuple(self._heat_maps(top)) if self._n_spans else (),
        )

    def _heat_maps(self, top: Sequence[str]) -> Iterable[HeatMap]:
        n_clocks = sum(facts.clock is not None for facts in self._sources.values())
        if 2 * n_clocks >= len(self._sources):
            hours = tuple(f"{hour:02d}" for hour in range(24))
            rows = [(label, tuple(self._hours[label, hour] for hour in range(24))) for label in top]
            yield HeatMap("Hour of the day, from file names", hours, tuple(rows))
            days = sorted({day for _, day in self._days})
            if 1 < len(days) <= MOST_DAYS:
                names = tuple(f"{day:%m-%d}" for day in days)
                of_days = [(label, tuple(self._days[label, day] for day in days)) for label in top]
                yield HeatMap(f"Day, {days[0]} to {days[-1]}", names, tuple(of_days))
            return
        last = max(minute for _, minute in self._minutes)
        if last == 0:
            return  # short recordings: no time to speak of
        step = next((n for n in STEPS_MIN if n * MOST_COLUMNS > last), -(-(last + 1) // MOST_COLUMNS))
        starts = range(0, last + 1, step)
        columns = tuple(f"{start // 60}:{start % 60:02d}" for start in starts)
        binned = [
            (label, tuple(sum(self._minutes[label, start + n] for n in range(step)) for start in starts))
            for label in top
        ]
        yield HeatMap("Time from the start of a recording (h:mm)", columns, tuple(binned))


def _local_start(name: str) -> datetime | None:
    """When a recording began, on the clock of the place, as `dymn events --clock auto` finds it."""
    start = Clock("auto").start_of(name)
    return None if start is None else start.replace(tzinfo=None)
