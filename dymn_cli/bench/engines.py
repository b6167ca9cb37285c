"""The batch engine as users run it, kept warm between rounds.

A round is a whole run: journal, workers or threads, results in order, a csv file. It leaves out only what
happens once in a program: starting the workers and loading the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.audio.discover import Found
from dymn_cli.batch.job import Reader
from dymn_cli.batch.journal import Journal
from dymn_cli.batch.run import run
from dymn_cli.errors import InputError
from dymn_cli.writers import Provenance, WriterOptions, open_tags

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from dymn_cli.batch.job import Job, Summary
    from dymn_cli.batch.run import Engine
    from dymn_cli.results import Failure

__all__ = ["WarmEngine"]


class WarmEngine:
    """An engine for many runs; use it in a `with` statement.

    Args:
        engine: who works.
        job: what the engine was made for.
        folder: for journals and results.
    """

    def __init__(self, engine: Engine, job: Job, folder: Path) -> None:
        self._engine = engine
        self._job = job
        self._folder = folder

    def __call__(self, paths: Sequence[Path]) -> float:
        """Tag files into a csv file, and return the seconds of audio in them.

        Raises:
            InputError: one of them cannot be used.
        """
        description, totals = self._engine.description, _Totals()
        writing = WriterOptions(provenance=Provenance("", description.model))
        out = self._folder / "tags.csv"
        with (
            Journal.open(self._folder / "tags.csv.journal", {}, start_over=True) as journal,
            open_tags(str(out), "csv", writing, force=True) as writer,
        ):
            reader = Reader(journal, self._job, description)

            def write(name: str) -> None:
                for clip in reader.clips(name):
                    writer.write(clip)

            found = (Found(str(path)) for path in paths)
            run(found, self._engine, journal, write=write, fail=_fail, watcher=totals, close=False)
            journal.close(discard=True)
        return totals.seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.close()


class _Totals:
    """Counts audio, and nothing else."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def kept(self, name: str) -> None:
        """There is no earlier run."""

    def done(self, name: str, summary: Summary) -> None:
        self.seconds += summary.seconds

    def failed(self, failure: Failure) -> None:
        """`_fail` is told as well."""

    def within(self, name: str, seconds: float, of_s: float | None) -> None:
        """The end is enough."""


def _fail(failure: Failure) -> None:
    raise InputError(failure.message, hint=failure.hint)
