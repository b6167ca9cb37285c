"""`--engine ray`: many sources on a cluster, as parts of a Parquet data set.

    sources ──▶ parts by shard ──▶ actors of Ray Data ──▶ files of the data set, and receipts to here

A part is some sources of one shard: an actor analyses them, in worker processes as on one machine, writes
their rows as one file, and answers with what it has done. Rows never come here, so this process is no
bottleneck. An actor or a node that is lost costs the parts that it had in hand: Ray gives them to another,
and a file that was written already is replaced by the same (see `dymn_cli.scale.output`). When this process
is lost, the next run looks at what is there and does the rest.

A source that is longer than some hours is cut into stretches for several actors, whose scores are joined by
one of them in the end (see `dymn_cli.scale.worker`). With a GPU it is not: there, decoding takes the time.

Sources are read from their listing in waves, so that an archive of any size has room.

Nothing but the actors needs a CPU of the cluster, so that all may be theirs: no reader waits for one in vain.
An actor that dies unseen could keep a run waiting for ever; one that makes no progress for an hour ends.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from dymn_cli import errors
from dymn_cli._version import __version__
from dymn_cli.audio.discover import Found
from dymn_cli.batch.job import Job, ModelDescription, Reader, Renamed, Summary
from dymn_cli.batch.run import Outcome, Watcher
from dymn_cli.errors import BackendUnavailableError, DymnError, ModelError, first_line
from dymn_cli.remote.uri import Uri, address_of, is_uri
from dymn_cli.results import Failure
from dymn_cli.scale.cluster import Cluster, import_ray, own_error
from dymn_cli.scale.output import STRETCHES, Contents, ResultSet, note_bytes, part_name, shard_of
from dymn_cli.scale.worker import Joined, Stretch, Worker, stretches_of
from dymn_cli.writers import EmbeddingOptions, WriterOptions, embedding_writer, event_writer, tag_writer

if TYPE_CHECKING:
    from typing import BinaryIO

    from dymn_cli.writers.base import Writer

__all__ = ["Actors", "ClusterRun", "Stage", "Table", "describe"]

WAVE = 200_000  # sources that are held at a time
MAX_SOURCES = 1000  # of a part
MAX_BYTES = 1 << 30
PARTS_PER_ACTOR = 4  # so that all are busy to the end
STRETCH_S = 6 * 3600.0
FEWEST_BYTES_PER_S = 2000  # of what may be long: speech in Opus
FIRST_ANSWER_S = 600.0
PATIENCE_S = 3600.0
FRAMES_PATIENCE = 8  # times as long

Receipt = dict[str, Any]
Task = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """What the rows of the data set are.

    Args:
        kind: "tags", "events" or "embeddings".
        options: how they are written.
    """

    kind: Literal["tags", "events", "embeddings"]
    options: WriterOptions | EmbeddingOptions

    def writer(self, stream: BinaryIO) -> Writer[Any]:
        """Writes a part.

        Raises:
            UsageError: Parquet has no such layout.
            OutputError: pyarrow is not installed.
        """
        options = self.options
        if isinstance(options, EmbeddingOptions):
            return embedding_writer("parquet", stream, options)
        if (clock := options.clock) is not None:  # the channels of a source come one after the other
            start_of = lru_cache(maxsize=1)(lambda source: clock(_path_of(source)))
            options = dataclasses.replace(options, clock=start_of)
        make = tag_writer if self.kind == "tags" else event_writer
        return make("parquet", stream, options)

    def results(self, reader: Reader, name: str) -> Iterator[Any]:
        """What the writer takes of a source."""
        if self.kind == "tags":
            return reader.clips(name)
        if self.kind == "events":
            return iter((reader.events(name),))
        return reader.embedding_rows(name)

    def check(self) -> None:
        """Say before any work is done that it cannot be written; as `writer`."""
        self.writer(io.BytesIO())


@dataclass(frozen=True, slots=True)
class Actors:
    """The actors of a cluster.

    Args:
        most: how many there are at once; None for as many as there are GPUs, or CPUs.
        cpus: of each: sources that it decodes at once.
        gpus: of each.
        limit_s: seconds that a source, or a stretch, may take.
        stretch_s: seconds of audio in a stretch; None to leave long sources whole.
        patience_s: a run without progress for so long ends; None for what suits the job.
    """

    most: int | None = None
    cpus: int = 1
    gpus: float = 0
    limit_s: float | None = None
    stretch_s: float | None = STRETCH_S
    patience_s: float | None = None

    @classmethod
    def for_device(cls, device: str, cluster: Cluster, **settings: Any) -> Actors:
        """Actors of a CPU each, or of a GPU and a fair share of the CPUs."""
        if device in ("auto", "cpu"):
            return cls(**settings)
        cpus = max(1, cluster.cpus // max(1, cluster.gpus))
        return cls(gpus=1, **{"stretch_s": None, "cpus": cpus, **settings})

    def n_now(self, cluster: Cluster) -> int:
        """So many have room in the cluster as it is."""
        by_cpu = cluster.cpus // self.cpus
        room = min(by_cpu, int(cluster.gpus / self.gpus)) if self.gpus else by_cpu
        return max(1, room)

    @property
    def resources(self) -> dict[str, float]:
        """What Ray reserves for each."""
        return {"num_cpus": self.cpus, **({"num_gpus": self.gpus} if self.gpus else {})}


@dataclass(frozen=True, slots=True)
class Stage:
    """What each actor does.

    Args:
        job: with each source.
        table: how rows are written.
        out: the data set.
        model: the SHA-256 of the model that all must have.
        jobs: sources at once.
        limit_s: see `Actors`.
        stretch_s: likewise.
        version: of dymn, which all must have.
    """

    job: Job
    table: Table
    out: str
    model: str
    jobs: int = 1
    limit_s: float | None = None
    stretch_s: float | None = STRETCH_S
    version: str = __version__


class PartActor:
    """An actor: does the tasks of a run, with the model loaded at the first one.

    Args:
        stage: what to do.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._results = ResultSet(stage.out)
        self._opened: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Do tasks, given as JSON; the answer to each is JSON as well."""
        return {"receipt": [json.dumps(self._receipt(json.loads(task))) for task in batch["task"]]}

    def _receipt(self, task: Task) -> Receipt:
        try:
            return self._do(task)
        except DymnError as error:  # as text: what Ray wraps around an exception hides its class
            return {"error": type(error).__name__, "message": error.message, "hint": error.hint}

    @property
    def _worker(self) -> Worker:
        if self._opened is None:  # not when the actor starts: what fails then cannot be answered
            stage = self._stage
            if __version__ != stage.version:
                raise ModelError(
                    f"a worker has dymn {__version__}, the run is of {stage.version}",
                    hint="install the same version on all nodes",
                )
            worker = Worker(stage.job, jobs=stage.jobs, limit_s=stage.limit_s)
            if worker.description.model.sha256 != stage.model:
                worker.close()
                raise ModelError(
                    "a worker has another model of that name", hint="install the same one on all nodes"
                )
            self._opened = worker
        return self._opened

    def _do(self, task: Task) -> Receipt:
        if task["kind"] == "stretch":
            return self._stretch(task)
        if task["kind"] == "join":
            paths = [self._results.path(file) for file in task["files"]]
            path = _path_of(_opened(task["name"], task["address"]))
            return self._write([Found(Joined.of(task["name"], path, paths))])
        sources, long = [], []
        for name, address, size in task["sources"]:
            stretches = self._stretches(name, address, size)
            if len(stretches) > 1:
                long.append([name, address, stretches])
            else:
                sources.append(Found(_opened(name, address)))
        return {**self._write(sources), "long": long}

    def _stretches(self, name: str, address: str, size: int | None) -> list[tuple[int, int | None]]:
        stretch_s = self._stage.stretch_s
        if stretch_s is None or size is None or size < FEWEST_BYTES_PER_S * stretch_s:
            return []
        seconds = self._worker.seconds_of(name, _path_of(_opened(name, address)))
        return [] if seconds is None else stretches_of(seconds, self._stage.job, stretch_s)

    def _stretch(self, task: Task) -> Receipt:
        name, first, stop = task["name"], task["first"], task["stop"]
        stretch = Stretch.of(name, _path_of(_opened(name, task["address"])), first, stop)

        def save(pieces: Iterator[bytes]) -> None:
            with self._results.file(task["file"]) as stream:
                for piece in pieces:
                    stream.write(piece)

        failure = self._worker.save_stretch(stretch, save)
        return {"name": name, "failed": None if failure is None else dataclasses.astuple(failure)}

    def _write(self, sources: Sequence[Found]) -> Receipt:
        """Analyse sources, and write their rows as a part."""
        if not sources:
            return {"done": [], "failed": []}
        table, quiet = self._stage.table, []
        try:
            with self._results.file(part_name([found.name for found in sources])) as stream:
                writer: Any = table.writer(stream)
                writer.begin()

                def write(name: str, reader: Reader) -> None:
                    n_before = writer.n_rows
                    for result in table.results(reader, name):
                        writer.write(result)
                    if writer.n_rows == n_before:
                        quiet.append(str(name))

                summaries, outcome = self._worker.analyse(sources, write)
                _require_any(summaries, outcome)
                damage = {str(name): of.damage for name, of in summaries.items() if of.damage}
                writer.note("dymn.part", note_bytes(quiet, damage))
                writer.end()
        except _NothingError as nothing:
            return {"done": [], "failed": [dataclasses.astuple(failure) for failure in nothing.failures]}
        return {
            "done": [[name, *dataclasses.astuple(summary)] for name, summary in summaries.items()],
            "failed": [dataclasses.astuple(failure) for failure in outcome.failures],
        }


class _NothingError(Exception):
    """All sources of a part have failed: there is no file."""

    def __init__(self, failures: list[Failure]) -> None:
        super().__init__()
        self.failures = failures


def _require_any(summaries: dict[str, Summary], outcome: Outcome) -> None:
    if not summaries:
        raise _NothingError(outcome.failures)


def _opened(name: str, address: str) -> str:
    """The name of a source, together with what opens it from any folder."""
    if not address:
        return name
    return Uri(name, address) if is_uri(name) else Renamed(name, address)


def _path_of(name: str) -> str:
    return name.path if isinstance(name, Renamed) else name


def _address_of(name: str) -> str:
    """What opens a source on other nodes, if its name does not."""
    address = address_of(name) if is_uri(name) else os.path.abspath(name)  # noqa: PTH100 - names may be bytes
    return "" if address == name else address


def describe(job: Job, actors: Actors) -> ModelDescription:
    """Load the model on a node of the cluster, as the actors will, and say what it is.

    Raises:
        UsageError, ModelError: it cannot be loaded, or no node has room.
    """
    ray = import_ray()
    try:
        task = ray.remote(max_retries=1, **actors.resources)(_description).remote(job)
        description: ModelDescription = ray.get(task, timeout=FIRST_ANSWER_S)
    except ray.exceptions.GetTimeoutError as exc:
        wanted = " and ".join(f"{n:g} {what[4:-1].upper()}" for what, n in actors.resources.items())
        raise BackendUnavailableError(
            f"no node of the cluster has started a worker with {wanted} for {FIRST_ANSWER_S / 60:.0f} min",
            hint="ray status says what there is",
        ) from exc
    except ray.exceptions.RayError as exc:
        raise own_error(exc) or BackendUnavailableError(f"a worker does not start: {exc}") from exc
    return description


def _description(job: Job) -> ModelDescription:
    with job.open_tagger(1) as tagger:
        return ModelDescription.of(tagger)


@dataclass(slots=True)
class _Long:
    """A source whose stretches are on their way."""

    address: str
    files: list[str] = field(default_factory=list)
    failure: Failure | None = None


class ClusterRun:
    """A run on a cluster that this process is connected to.

    Args:
        stage: what the actors do.
        actors: how many, and with what.
        cluster: where.
        contents: what the data set has already.
        watcher: follows the run.
    """

    def __init__(
        self, stage: Stage, actors: Actors, cluster: Cluster, contents: Contents, watcher: Watcher
    ) -> None:
        self._stage, self._actors, self._cluster = stage, actors, cluster
        self._done, self._watcher = contents.done, watcher
        self._results = ResultSet(stage.out)
        self.outcome = Outcome()

    def go(self, sources: Iterator[Found], *, fail_fast: bool = False) -> Outcome:
        """Work on all sources that are not done.

        Args:
            sources: read wave by wave.
            fail_fast: stop at the first that fails.

        Raises:
            ModelError: the model fails, or the cluster does.
            OutputError: a part cannot be written.
        """
        try:
            while wave := list(islice(sources, WAVE)):
                self._wave(wave, fail_fast=fail_fast)
                if fail_fast and self.outcome.failures:
                    self.outcome.stopped = True
                    break
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        return self.outcome

    def _wave(self, wave: Sequence[Found], *, fail_fast: bool) -> None:
        todo: list[Found] = []
        n_before = len(self.outcome.failures)
        for found in wave:
            if found.problem is not None:
                self._fail(Failure.of(found.name, found.problem))
            elif found.name in self._done:
                self.outcome.n_kept += 1
                self._watcher.kept(found.name)
            else:
                todo.append(found)
        long: dict[str, _Long] = {}
        stretches: list[Task] = []
        for receipt in self._receipts(self._parts(todo), fail_fast=fail_fast):
            self._take(receipt)
            for name, address, spans in receipt["long"]:
                long[name] = _Long(address)
                for n, (first, stop) in enumerate(spans):
                    file = f"{STRETCHES}/{part_name([name]).rpartition('-')[2].partition('.')[0]}-{n}.bin"
                    long[name].files.append(file)
                    span = {"first": first, "stop": stop, "file": file}
                    stretches.append({"kind": "stretch", "name": name, "address": address, **span})
        if long:
            self._join(long, stretches, fail_fast=fail_fast)
        order = {found.name: number for number, found in enumerate(wave)}
        self.outcome.failures[n_before:] = sorted(
            self.outcome.failures[n_before:], key=lambda failure: order[failure.source]
        )

    def _join(self, long: dict[str, _Long], stretches: list[Task], *, fail_fast: bool) -> None:
        try:
            for receipt in self._receipts(stretches, fail_fast=fail_fast):
                if receipt["failed"] is not None and long[receipt["name"]].failure is None:
                    long[receipt["name"]].failure = Failure(*receipt["failed"])
            whole = {name: one for name, one in long.items() if one.failure is None}
            for one in long.values():
                if one.failure is not None:
                    self._fail(one.failure)
            if fail_fast and self.outcome.failures:
                return
            joins: list[Task] = [
                {"kind": "join", "name": name, "address": one.address, "files": one.files}
                for name, one in whole.items()
            ]
            for receipt in self._receipts(joins, fail_fast=fail_fast):
                self._take(receipt)
        finally:
            self._results.remove(file for one in long.values() for file in one.files)

    def _take(self, receipt: Receipt) -> None:
        for name, seconds, warnings, damage in receipt["done"]:
            self.outcome.n_done += 1
            self._watcher.done(name, Summary(seconds, tuple(warnings), tuple(damage)))
        for cells in receipt["failed"]:
            self._fail(Failure(*cells))

    def _fail(self, failure: Failure) -> None:
        self.outcome.failures.append(failure)
        self._watcher.failed(failure)

    def _parts(self, todo: Sequence[Found]) -> list[Task]:
        """The sources as tasks: of one shard each, of a size that keeps all actors busy to the end."""
        n_parts = PARTS_PER_ACTOR * self._n_actors
        most = max(1, min(MAX_SOURCES, -(-len(todo) // n_parts)))
        tasks: list[Task] = []
        latest: dict[int, tuple[Task, int]] = {}  # of each shard, and its bytes
        for found in todo:
            size, shard = _size_of(found), shard_of(found.name)
            task, n_bytes = latest.get(shard, (None, 0))
            if task is None or n_bytes + (size or 0) > MAX_BYTES or len(task["sources"]) >= most:
                task, n_bytes = {"kind": "part", "sources": []}, 0
                tasks.append(task)
            task["sources"].append([str(found.name), _address_of(found.name), size])
            latest[shard] = (task, n_bytes + (size or 0))
        return tasks

    @property
    def _n_actors(self) -> int:
        return self._actors.most or self._actors.n_now(self._cluster)

    def _receipts(self, tasks: Sequence[Task], *, fail_fast: bool) -> Iterator[Receipt]:
        """Have tasks done, in any order."""
        if not tasks:
            return
        ray = import_ray()
        most = min(self._n_actors, len(tasks))
        now = min(most, self._actors.n_now(self._cluster))
        context = ray.data.DataContext.get_current()
        patience_s = self._actors.patience_s or PATIENCE_S * (
            1 if self._stage.job.options.frames is None else FRAMES_PATIENCE
        )
        context.execution_no_progress_timeout_s = patience_s
        rows = ray.data.from_items(
            [{"task": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks)
        ).map_batches(
            PartActor,
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(min_size=now, max_size=most, initial_size=now),
            fn_constructor_args=(self._stage,),
            **self._actors.resources,
        )
        try:
            for row in rows.iter_rows():
                receipt = json.loads(row["receipt"])
                _require_no_error(receipt)
                yield receipt
                if fail_fast and receipt["failed"]:
                    return
        except ray.data.exceptions.ExecutionTimeoutError as exc:
            raise BackendUnavailableError(
                f"the cluster has made no progress for {patience_s / 60:g} min",
                hint="ray status shows what is left of it; what is done is kept: the same command goes on",
            ) from exc
        except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as exc:
            raise BackendUnavailableError(
                f"the cluster has failed: {first_line(exc)}",
                hint="what is done is kept: the same command goes on",
            ) from exc


def _require_no_error(receipt: Receipt) -> None:
    if "error" in receipt:
        kind: type[DymnError] = getattr(errors, receipt["error"], DymnError)
        raise kind(receipt["message"], hint=receipt["hint"])


def _size_of(found: Found) -> int | None:
    """The size of a source as far as it is known without asking a store."""
    if found.stat is not None:
        return found.stat.size
    if is_uri(found.name):
        return None
    try:
        return os.stat(found.name).st_size  # noqa: PTH116 - names may be bytes that no Path holds
    except OSError:
        return None
