"""`tag_dataset`: tags and embeddings as a stage of any pipeline of Ray Data.

import ray
from dymn_cli.scale import tag_dataset

clips = ray.data.read_binary_files("s3://archive/2024/", include_paths=True)
tag_dataset(clips).write_parquet("s3://results/")
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dymn_cli.audio.discover import Found
from dymn_cli.batch.job import Job, Reader, Renamed
from dymn_cli.errors import InputError, UsageError
from dymn_cli.remote.uri import is_uri, named
from dymn_cli.results import ClipResult, Failure, Tag
from dymn_cli.scale.cluster import import_ray
from dymn_cli.scale.worker import Worker
from dymn_cli.store.registry import DEFAULT_MODEL
from dymn_cli.tagging.options import TagOptions

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["tag_dataset"]

Columns = tuple[str, str]


def tag_dataset(
    rows: Dataset,
    model: str | Sequence[str] = DEFAULT_MODEL,
    *,
    options: TagOptions | None = None,
    embeddings: bool = True,
    path: str = "path",
    data: str = "bytes",
    workers: int | tuple[int, int] | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0,
    batch_size: int = 16,
    backend: str = "auto",
    device: str = "auto",
    limit_s: float | None = None,
) -> Dataset:
    """Tag a dataset of recordings: a row for each of them, or for each of their channels.

    An actor loads the model once and decodes in a process of its own: what crashes or hangs there costs its
    recording alone.

    Args:
        rows: have a column of paths or URIs, or one of the bytes of files, as `ray.data.read_binary_files`
            gives them. All columns but the bytes stay.
        model: as of `Tagger`.
        options: likewise.
        embeddings: also give embeddings.
        path: the column of paths or URIs; beside bytes, what errors call them.
        data: the column of bytes; where there is none, paths are opened.
        workers: actors at once, or (fewest, most) of them; by default as many as the cluster has room for,
            but for one CPU: whoever gives all CPUs to actors leaves none for reading, and waits for ever.
        num_cpus: that Ray reserves for an actor, each of which decodes a recording; 1 by default.
        num_gpus: likewise; a `device` goes with it.
        batch_size: rows that an actor takes at once.
        backend: as of `Tagger`.
        device: likewise.
        limit_s: seconds that a recording may take.

    Returns:
        The rows with these columns: `channel` (string), `duration_s` (double), `tags` (a list of structs
        rank, label, mid, index, score), `windows` (with `options.windows`: a list of structs start_s, end_s,
        tags), `embedding` (D float32), `warnings` (strings); `error` and `message` (strings), null for
        recordings that could be used, all others null.

    Raises:
        BackendUnavailableError: Ray is not installed.
        UsageError: a value out of range.
    """
    ray = import_ray()
    job = Job(
        (model,) if isinstance(model, str) else tuple(model),
        backend,
        device,
        None,
        options or TagOptions(),
        keep_embedding=embeddings,
    )
    cpus, compute = _compute(ray, workers, num_cpus, num_gpus)
    jobs = max(1, int(cpus))
    resources = {"num_cpus": cpus, **({"num_gpus": num_gpus} if num_gpus else {})}
    return rows.map_batches(
        TagActor,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=compute,
        fn_constructor_args=(job, (path, data), jobs, limit_s),
        **resources,
    )


def _compute(
    ray: Any, workers: int | tuple[int, int] | None, num_cpus: float | None, num_gpus: float
) -> tuple[float, Any]:
    """The CPUs of an actor, and how many actors there are."""
    cpus = 1.0 if num_cpus is None else num_cpus
    if isinstance(workers, int):
        if workers < 1:
            raise UsageError(f"{workers} workers")
        return cpus, ray.data.ActorPoolStrategy(size=workers)
    if workers is not None:
        fewest, most = workers
        if not 1 <= fewest <= most:
            raise UsageError(f"from {fewest} to {most} workers")
        return cpus, ray.data.ActorPoolStrategy(min_size=fewest, max_size=most)
    if not ray.is_initialized():
        ray.init()
    there = ray.cluster_resources()
    if num_cpus is None and not num_gpus and there.get("CPU", 0) < 2:
        cpus = 0.0  # or there would be none for reading
    most = int((there.get("CPU", 0) - 1) / cpus) if cpus else 1
    if num_gpus:
        most = min(most, int(there.get("GPU", 0) / num_gpus))
    return cpus, ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, most))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is known of one channel of a recording, or why nothing is."""

    clip: ClipResult | None = None
    windows: tuple[Any, ...] = ()
    failure: Failure | None = None


class TagActor:
    """An actor: batches of recordings in, batches of tags out; the model is loaded at the first one.

    Args:
        job: what to do with each recording.
        columns: of paths, and of bytes.
        jobs: recordings at once.
        limit_s: seconds that one may take.
    """

    def __init__(self, job: Job, columns: Columns, jobs: int, limit_s: float | None) -> None:
        self._job, self._columns, self._jobs, self._limit_s = job, columns, jobs, limit_s
        self._opened: Worker | None = None

    @property
    def _worker(self) -> Worker:
        if self._opened is None:  # not when the actor starts: what fails then loses its type on its way
            self._opened = Worker(self._job, jobs=self._jobs, limit_s=self._limit_s)
        return self._opened

    def __call__(self, batch: Any) -> Any:
        """Tag a table of recordings."""
        path, data = self._columns
        n_rows = batch.num_rows
        has_bytes = data in batch.column_names
        if not has_bytes and path not in batch.column_names:
            raise UsageError(f"neither a column {path!r} nor a column {data!r}, but {batch.column_names}")
        paths = batch.column(path).to_pylist() if path in batch.column_names else [None] * n_rows
        names = [f"row {n}" if name is None else str(name) for n, name in enumerate(paths)]
        with tempfile.TemporaryDirectory(prefix="dymn-") as folder:
            found = [
                self._found(name, paths[n], batch.column(data)[n].as_py() if has_bytes else None, n, folder)
                for n, name in enumerate(names)
            ]
            answers = self._answers(found)
        return self._table(batch.drop_columns([data]) if has_bytes else batch, answers)

    def _found(self, name: str, path: str | None, data: bytes | None, n: int, folder: str) -> Found:
        if data is not None:
            file = Path(folder, str(n))
            file.write_bytes(data)
            return Found(Renamed(name, str(file)))
        if path is None:
            return Found(name, InputError(f"{name}: neither a path nor bytes"))
        return Found(named(path) if is_uri(path) else path)

    def _answers(self, found: Sequence[Found]) -> list[list[_Answer]]:
        """For each row what is known of it; names that come twice are done one after the other."""
        answers: list[list[_Answer]] = [[] for _ in found]
        waiting = list(range(len(found)))
        while waiting:
            turn: dict[str, int] = {}
            for n in waiting:
                turn.setdefault(found[n].name, n)

            def write(name: str, reader: Reader, turn: dict[str, int] = turn) -> None:
                for clip in reader.clips(name):
                    windows = tuple(clip.windows) if self._job.options.windows else ()
                    answers[turn[name]].append(_Answer(clip, windows))

            _, outcome = self._worker.analyse([found[n] for n in turn.values()], write)
            for failure in outcome.failures:
                answers[turn[failure.source]].append(_Answer(failure=failure))
            done = set(turn.values())
            waiting = [n for n in waiting if n not in done]
        return answers

    def _table(self, batch: Any, answers: list[list[_Answer]]) -> Any:
        import pyarrow

        places = [n for n, of_row in enumerate(answers) for _ in of_row]
        every = [answer for of_row in answers for answer in of_row]
        table = batch.take(pyarrow.array(places, "int64"))
        for name, kind, values in self._columns_of(every, pyarrow):
            if name in table.column_names:
                raise UsageError(f"the dataset has a column {name!r}, which the tags would replace")
            table = table.append_column(name, pyarrow.array(values, kind))
        return table

    def _columns_of(self, answers: list[_Answer], arrow: Any) -> Iterator[tuple[str, Any, list[Any]]]:
        text = arrow.string()
        tag = arrow.struct(
            [
                ("rank", arrow.int32()),
                ("label", text),
                ("mid", text),
                ("index", arrow.int32()),
                ("score", arrow.float32()),
            ]
        )
        window = arrow.struct(
            [("start_s", arrow.float64()), ("end_s", arrow.float64()), ("tags", arrow.list_(tag))]
        )
        clips = [answer.clip for answer in answers]
        yield "channel", text, [clip and clip.channel for clip in clips]
        yield "duration_s", arrow.float64(), [clip and clip.duration_s for clip in clips]
        yield "tags", arrow.list_(tag), [clip and _structs(clip.tags) for clip in clips]
        if self._job.options.windows:
            windows = [
                [
                    {"start_s": one.start_s, "end_s": one.end_s, "tags": _structs(one.tags)}
                    for one in answer.windows
                ]
                for answer in answers
            ]
            yield (
                "windows",
                arrow.list_(window),
                [of if answer.clip else None for of, answer in zip(windows, answers, strict=True)],
            )
        if self._job.keep_embedding:
            size = self._worker.description.embedding_size
            yield "embedding", arrow.list_(arrow.float32(), size), [clip and clip.embedding for clip in clips]
        yield "warnings", arrow.list_(text), [clip and list(clip.warnings) for clip in clips]
        yield "error", text, [answer.failure and answer.failure.error for answer in answers]
        yield "message", text, [answer.failure and answer.failure.message for answer in answers]


def _structs(tags: Sequence[Tag]) -> list[dict[str, Any]]:
    return [
        {"rank": tag.rank, "label": tag.label, "mid": tag.mid, "index": tag.index, "score": tag.score}
        for tag in tags
    ]
