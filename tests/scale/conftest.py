"""A run of the engine in this process: what actors do is done by one, without Ray."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from dymn_cli import __version__
from dymn_cli.audio.discover import find
from dymn_cli.batch.job import Job, ModelDescription, Summary
from dymn_cli.batch.run import Outcome
from dymn_cli.results import Failure
from dymn_cli.scale.cluster import Cluster
from dymn_cli.scale.engine import Actors, ClusterRun, PartActor, Stage, Table, _require_no_error
from dymn_cli.scale.output import Contents, ResultSet
from dymn_cli.scale.worker import Worker
from dymn_cli.writers import EmbeddingOptions, Provenance, WriterOptions

Run = Callable[..., Outcome]


class Silent:
    """Watches a run, and says nothing."""

    def kept(self, name: str) -> None: ...
    def done(self, name: str, summary: Summary) -> None: ...
    def failed(self, failure: Failure) -> None: ...
    def within(self, name: str, seconds: float, of_s: float | None) -> None: ...


class Here(ClusterRun):
    """A run whose tasks are done here, one after the other; `tasks` is what they were."""

    tasks: list[dict[str, Any]]
    actor: PartActor

    def _receipts(self, tasks: Sequence[dict[str, Any]], *, fail_fast: bool) -> Iterator[dict[str, Any]]:
        for task in tasks:
            self.tasks.append(task)
            (answer,) = self.actor({"task": [json.dumps(task)]})["receipt"]
            receipt = json.loads(answer)
            _require_no_error(receipt)
            yield receipt


@pytest.fixture(scope="module")
def description() -> ModelDescription:
    """Of the bundled model."""
    with Job(("dymn04_kd",), "auto", "cpu", None, _options()).open_tagger(1) as tagger:
        return ModelDescription.of(tagger)


def _options() -> Any:
    from dymn_cli.tagging.options import TagOptions

    return TagOptions()


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, Worker]]:
    """Workers by what they do: a model is loaded once for all tests that ask it the same."""
    opened: dict[str, Worker] = {}
    yield opened
    for worker in opened.values():
        worker.close()


@pytest.fixture
def engine(description: ModelDescription, workers: dict[str, Worker]) -> Run:
    """Runs a job over files, into a data set; `.last` is the run, with the tasks that it was cut into."""

    def run(
        job: Job,
        names: Iterable[str | Path],
        out: Path | str,
        *,
        kind: str = "tags",
        stretch_s: float = 6 * 3600.0,
        begin: bool = True,
        finish: bool = True,
        **changes: Any,
    ) -> Outcome:
        made = Provenance("0", description.model)
        clock = changes.pop("clock", None)
        options: Any = WriterOptions(provenance=made, windows=job.options.windows, clock=clock)
        if kind == "embeddings":
            options = EmbeddingOptions(provenance=made, size=description.embedding_size)
        stage = Stage(
            job,
            Table(kind, options),  # type: ignore[arg-type]
            str(out),
            changes.pop("sha256", description.model.sha256),
            stretch_s=stretch_s,
            **changes,
        )
        results = ResultSet(str(out))
        if begin:
            results.begin({"job": repr(job)}, resume=True, force=False)
        contents = results.contents() if begin else Contents()
        here = Here(stage, Actors(), Cluster(2, 0), contents, Silent())
        here.tasks, here.actor = [], PartActor(stage)
        run.last = here  # type: ignore[attr-defined]
        key = f"{job} {stage.limit_s}"
        if stage.version == __version__ and stage.model == description.model.sha256:
            if key not in workers:
                workers[key] = Worker(job, limit_s=stage.limit_s)
            here.actor._opened = workers[key]
        outcome = here.go(find([str(name) for name in names]))
        if finish:
            results.finish(outcome.failures, is_complete=True)
        return outcome

    return run


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recording of chirps and noise."""

    def write(
        name: str, seconds: float = 1.0, *, rate_hz: int = 16_000, channels: int = 1, seed: int = 0
    ) -> Path:
        rng = np.random.default_rng(seed)
        n = int(seconds * rate_hz)
        swell = np.sin(np.arange(n) / rate_hz * 1.3)[:, np.newaxis] ** 2
        sound = 0.2 * swell * rng.standard_normal((n, channels))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:  # soundfile takes no names that are not UTF-8
            soundfile.write(file, sound, rate_hz, format="WAV")
        return path

    return write
