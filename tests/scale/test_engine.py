"""Parts, stretches and joins as actors do them, here without a cluster: the same rows as one machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.audio.clock import Clock
from dymn_cli.audio.discover import Found
from dymn_cli.audio.frames import FramePlan
from dymn_cli.batch.job import Job
from dymn_cli.batch.journal import Journal
from dymn_cli.batch.run import open_engine
from dymn_cli.batch.run import run as run_here
from dymn_cli.errors import InputError, ModelError
from dymn_cli.remote.store import Stat
from dymn_cli.scale.cluster import Cluster
from dymn_cli.scale.engine import Actors
from dymn_cli.scale.worker import stretches_of
from dymn_cli.tagging.events import EventOptions
from dymn_cli.tagging.options import TagOptions

pq = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet`")
ds = pytest.importorskip("pyarrow.dataset", reason="the extra `parquet`")

MODEL = ("dymn04_kd",)
SHORT = TagOptions(window_s=1.0, hop_s=0.5, top=3)
Take = Callable[..., Path]


def job(options: TagOptions = SHORT, **settings: Any) -> Job:
    return Job(MODEL, "auto", "cpu", None, options, **settings)


def rows_of(out: Path | str) -> list[dict[str, Any]]:
    """All rows of a data set, in an order that does not depend on its files."""
    table = ds.dataset(out, partitioning="hive").to_table().drop_columns(["shard"])
    return sorted(table.to_pylist(), key=lambda row: [repr(cell) for cell in row.values()])


CASES = {
    "tags": ("tags", job()),
    "tags of windows, each channel, mean": (
        "tags",
        job(TagOptions(window_s=1.0, hop_s=0.4, top=2, channel="each", aggregate="mean", windows=True)),
    ),
    "events by frames": (
        "events",
        job(
            TagOptions(window_s=2.0, hop_s=1.6, frame_scores=True),
            events=EventOptions(on=0.02, off=0.01, specific=True),
        ),
    ),
    "events by windows": (
        "events",
        job(TagOptions(window_s=1.0, hop_s=0.5), events=EventOptions(method="windows", on=0.02, off=0.01)),
    ),
    "embeddings of clips": ("embeddings", job(keep_embedding=True, tags=False)),
    "embeddings of windows": ("embeddings", job(keep_window_embeddings=True, tags=False)),
    "embeddings of frames": (
        "embeddings",
        job(TagOptions(frames=FramePlan(0.3, 0.3)), keep_window_embeddings=True, tags=False),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_stretches_give_the_rows_of_the_whole_to_the_last_bit(
    engine: Any, take: Take, tmp_path: Path, case: str
) -> None:
    kind, work = CASES[case]
    # 44.1 kHz: no resampler that began in the middle would give the same.
    names = [take("night.wav", 14.3, rate_hz=44_100, channels=2), take("short.wav", 0.4, seed=1)]
    whole = engine(work, names, tmp_path / "whole", kind=kind)
    assert engine.last.tasks[0]["kind"] == "part"
    cut = engine(work, names, tmp_path / "cut", kind=kind, stretch_s=4.0)
    kinds = [task["kind"] for task in engine.last.tasks]
    assert kinds.count("stretch") >= 3
    assert kinds.count("join") == 1
    assert whole.n_done == cut.n_done == 2
    rows = rows_of(tmp_path / "whole")
    assert len(rows) > 1
    assert rows_of(tmp_path / "cut") == rows
    assert not list((tmp_path / "cut").glob("_stretches/*"))


def test_a_stretch_hears_of_damage_what_the_whole_hears(engine: Any, take: Take, tmp_path: Path) -> None:
    night = take("night.wav", 9.0)
    os.truncate(night, 150_000)  # its header still claims 9 s
    for out, stretch_s in (("whole", 60.0), ("cut", 2.0)):
        outcome = engine(job(), [night], tmp_path / out, stretch_s=stretch_s)
        assert outcome.n_done == 1
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    tables = [pq.read_table(tmp_path / out / "_warnings.parquet").to_pylist() for out in ("whole", "cut")]
    assert tables[0] == tables[1]
    assert "header claims 9.00 s" in tables[0][0]["warning"]


def test_a_long_source_that_fails_leaves_no_rows_and_one_failure(
    engine: Any, take: Take, tmp_path: Path
) -> None:
    night = take("night.wav", 9.0)
    os.truncate(night, 150_000)
    strict = job(TagOptions(window_s=1.0, hop_s=0.5, strict=True))
    outcome = engine(strict, [night, take("a.wav")], tmp_path / "out", stretch_s=2.0)
    assert [(one.source, one.error) for one in outcome.failures] == [(str(night), "CorruptAudioError")]
    assert {row["source"] for row in rows_of(tmp_path / "out")} == {str(tmp_path / "a.wav")}
    assert len(pq.read_table(tmp_path / "out" / "_failures.parquet")) == 1


def test_the_rows_are_those_of_one_machine(engine: Any, take: Take, tmp_path: Path) -> None:
    from dymn_cli.batch.job import Reader
    from dymn_cli.scale.engine import Table
    from dymn_cli.writers import WriterOptions

    names = [str(take(f"take{n}.wav", 0.5 + n / 4, channels=1 + n % 2, seed=n)) for n in range(12)]
    engine(job(), names, tmp_path / "out")
    local = open_engine(job(), names, jobs=1, threads=2, limit_s=None)
    here: dict[str, list[tuple[Any, ...]]] = {}
    with Journal.temporary() as journal:
        reader = Reader(journal, job(), local.description)
        table = Table("tags", WriterOptions(provenance=None))

        def write(name: str) -> None:
            (clip,) = table.results(reader, name)
            here[name] = [(clip.duration_s, tag.rank, tag.label, tag.score) for tag in clip.tags]

        watcher = type(engine.last._watcher)()
        run_here(map(Found, names), local, journal, write=write, fail=lambda _: None, watcher=watcher)
    there: dict[str, list[tuple[Any, ...]]] = {}
    for row in sorted(rows_of(tmp_path / "out"), key=lambda row: (row["source"], row["rank"])):
        cells = (row["end_s"], row["rank"], row["label"], row["score"])
        there.setdefault(row["source"], []).append(cells)
    assert there == here


# ---------------------------------------------------------------------- each source once


def test_a_rerun_does_what_is_missing(engine: Any, take: Take, tmp_path: Path) -> None:
    names = [take(f"take{n}.wav", 0.3, seed=n) for n in range(6)]
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF\x24\0\0\0WAVE")
    first = engine(job(), [*names[:4], broken], tmp_path / "out")
    assert (first.n_done, len(first.failures)) == (4, 1)
    take("broken.wav", 0.3, seed=9)
    second = engine(job(), [*names, broken], tmp_path / "out")
    assert (second.n_kept, second.n_done, second.failures) == (4, 3, [])
    sources = [row["source"] for row in rows_of(tmp_path / "out") if row["rank"] == 1]
    assert sorted(sources) == sorted(map(str, [*names, broken]))
    assert len(pq.read_table(tmp_path / "out" / "_failures.parquet")) == 0
    third = engine(job(), [*names, broken], tmp_path / "out")
    assert (third.n_kept, third.n_done) == (7, 0)
    assert engine.last.tasks == []


def test_a_driver_that_was_lost_before_its_end_is_followed_by_one_that_finds_its_parts(
    engine: Any, take: Take, tmp_path: Path
) -> None:
    names = [take(f"take{n}.wav", 0.3, seed=n) for n in range(5)]
    engine(job(), names[:3], tmp_path / "out", finish=False)  # no manifest, no failures
    outcome = engine(job(), names, tmp_path / "out")
    assert (outcome.n_kept, outcome.n_done) == (3, 2)
    assert len(rows_of(tmp_path / "out")) == 5 * 3


def test_a_task_that_is_done_twice_gives_its_rows_once(engine: Any, take: Take, tmp_path: Path) -> None:
    names = [take(f"take{n}.wav", 0.3, seed=n) for n in range(3)]
    engine(job(), names, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    for task in tuple(engine.last.tasks):
        list(engine.last._receipts([task], fail_fast=False))
    assert rows_of(tmp_path / "out") == rows


def test_sources_without_rows_are_done(engine: Any, take: Take, tmp_path: Path) -> None:
    nothing = job(TagOptions(window_s=1.0, min_score=1.0))
    first = engine(nothing, [take("a.wav"), take("b.wav")], tmp_path / "out")
    assert first.n_done == 2
    assert rows_of(tmp_path / "out") == []
    assert engine(nothing, [take("a.wav"), take("b.wav")], tmp_path / "out").n_kept == 2


def test_a_part_whose_sources_all_fail_is_no_file(engine: Any, tmp_path: Path) -> None:
    outcome = engine(job(), [tmp_path / "none.wav"], tmp_path / "out")
    assert [one.error for one in outcome.failures] == ["AudioNotFoundError"]
    assert not list((tmp_path / "out").glob("shard=*/*"))
    assert len(pq.read_table(tmp_path / "out" / "_failures.parquet")) == 1


def test_a_decoder_that_crashes_costs_its_source(engine: Any, take: Take, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs.wav") if hasattr(os, "mkfifo") else pytest.skip("no pipes that could hang")
    names = [take("a.wav"), tmp_path / "hangs.wav", take("b.wav")]
    outcome = engine(job(), names, tmp_path / "out", limit_s=4.0)
    assert outcome.n_done == 2
    assert [one.message.rpartition(": ")[2] for one in outcome.failures] == ["not done after 4 s"]


@pytest.mark.skipif(os.name == "nt", reason="names on Windows hold no such characters")
def test_names_are_data(engine: Any, take: Take, tmp_path: Path) -> None:
    odd = [take("with\nline.wav"), take("shard=3/#%20?.wav"), take('quo"te.wav')]
    with contextlib.suppress(OSError):  # this file system may have UTF-8 only
        odd.append(take(os.fsdecode(b"caf\xe9.wav")))
    outcome = engine(job(), odd, tmp_path / "out")
    assert outcome.n_done == len(odd)
    assert engine(job(), odd, tmp_path / "out").n_kept == len(odd)


def test_relative_names_lead_to_their_files_from_any_folder(
    engine: Any, take: Take, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(job(), [take("first.wav")], tmp_path / "other")  # the worker is in the folder where it began
    monkeypatch.chdir(tmp_path)
    names = [take("a.wav"), take("20190522_020000.wav", 6.0, rate_hz=22_050)]
    clock = Clock("auto").start_of
    outcome = engine(job(), [path.name for path in names], tmp_path / "out", stretch_s=2.0, clock=clock)
    assert (outcome.n_done, outcome.failures) == (2, [])
    assert "join" in [task["kind"] for task in engine.last.tasks]
    began = {row["source"]: row["clock"] for row in rows_of(tmp_path / "out")}
    assert began == {"a.wav": None, "20190522_020000.wav": "2019-05-22T02:00:00.000"}


def test_a_worker_of_another_version_or_model_is_refused(engine: Any, take: Take, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a worker has dymn"):
        engine(job(), [take("a.wav")], tmp_path / "out", version="0.0.0")
    with pytest.raises(ModelError, match="another model"):
        engine(job(), [take("a.wav")], tmp_path / "out", sha256="0" * 64)


# ---------------------------------------------------------------------- how work is cut


def test_parts_are_of_one_shard_and_keep_all_actors_busy(engine: Any, tmp_path: Path) -> None:
    from dymn_cli.scale.output import shard_of

    engine(job(), [], tmp_path / "out")
    found = [Found(f"s3://bucket/{n}.wav", stat=Stat(1 << 20, n)) for n in range(5000)]
    tasks = engine.last._parts(found)
    assert sorted(name for task in tasks for name, *_ in task["sources"]) == sorted(one.name for one in found)
    assert all(len({shard_of(name) for name, *_ in task["sources"]}) == 1 for task in tasks)
    assert max(len(task["sources"]) for task in tasks) <= 1000
    assert 16 <= len(tasks) <= 32
    few = engine.last._parts(found[:20])
    assert len(few) >= 8  # two actors, four parts for each
    large = engine.last._parts([Found(one.name, stat=Stat(600 << 20, 0)) for one in found[:100]])
    assert all(len(task["sources"]) == 1 for task in large)


def test_a_failure_of_the_listing_is_one_of_its_source(engine: Any, tmp_path: Path) -> None:
    engine(job(), [], tmp_path / "out")
    outcome = engine.last.go(iter([Found("s3://bucket/", InputError("s3://bucket/: no permission"))]))
    assert [one.message for one in outcome.failures] == ["s3://bucket/: no permission"]


@pytest.mark.parametrize(
    ("seconds", "spans"),
    [
        (0.0, [(0, None)]),
        (10.0, [(0, None)]),
        (30.0, [(0, None)]),
        (100.0, [(0, 20), (20, 40), (40, 60), (60, None)]),
        (118.0, [(0, 20), (20, 40), (40, 60), (60, 80), (80, None)]),
    ],
)
def test_stretches_follow_each_other_and_the_last_takes_the_rest(
    seconds: float, spans: list[tuple[int, int | None]]
) -> None:
    assert stretches_of(seconds, job(TagOptions(window_s=2.0, hop_s=1.25)), 25.0) == spans


def test_actors_share_what_a_cluster_has() -> None:
    cluster = Cluster(cpus=18, gpus=4)
    plain = Actors.for_device("cpu", cluster, most=None, limit_s=None)
    assert (plain.n_now(cluster), plain.resources) == (18, {"num_cpus": 1})
    assert Actors.for_device("auto", cluster, cpus=4).n_now(cluster) == 4
    on_gpus = Actors.for_device("cuda", cluster, limit_s=5.0)
    assert (on_gpus.n_now(cluster), on_gpus.resources) == (4, {"num_cpus": 4, "num_gpus": 1})
    assert on_gpus.stretch_s is None  # decoding is what takes the time there
    assert Actors().n_now(Cluster(0, 0)) == 1  # a cluster that is still to grow
