"""`--engine ray` on real clusters of this machine: the rows of one machine, whatever is killed on the way."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from stores import Bucket

from dymn_cli.cli.app import run

pa_ds = pytest.importorskip("pyarrow.dataset", reason="the extra `parquet`")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet`")

on_a_cluster = [
    pytest.mark.process,
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray`"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found by /proc"),
]
LIMIT_S = 300.0
QUICK = ("--window", 0.5, "-k", 2)
RAY = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}

NODES = """
import sys
from ray.cluster_utils import Cluster
node = dict(num_cpus=1, object_store_memory=80 << 20)
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
other = cluster.add_node(**node)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(other, allow_graceful=False)
    print("gone", flush=True)
cluster.shutdown()
"""


def rows_of(out: Path | str, table: Any = None) -> list[dict[str, Any]]:
    """Rows in an order that does not depend on files."""
    if table is None:
        table = pa_ds.dataset(out, partitioning="hive").to_table().drop_columns(["shard"])
    return sorted(table.to_pylist(), key=lambda row: [repr(cell) for cell in row.values()])


def rows_here(file: Path) -> list[dict[str, Any]]:
    return rows_of(file, pq.read_table(file))


def children(pid: int) -> list[int]:
    """The processes that descend from one."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                cells = (folder / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(cells[1]), []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        inner = parents.get(waiting.pop(), [])
        found += inner
        waiting += inner
    return found


def named(name: bytes, pid: int) -> list[int]:
    """Those that have a name among the processes that descend from one."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            if name in Path("/proc", str(child), "cmdline").read_bytes().partition(b"\0")[0]:
                found.append(child)
    return found


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "out", "--engine", "spark"], "--engine must be local or ray, not 'spark'"),
        (["-o", "out", "--ray-address", "auto"], "--ray-address needs --engine ray"),
        (["--engine", "ray"], "--engine ray writes a folder of Parquet files; -o FOLDER"),
        (["--engine", "ray", "--out-dir", "out"], "--engine ray writes a folder"),
        (["--engine", "ray", "-o", "out", "-f", "csv"], "--engine ray writes parquet, not csv"),
        (["--engine", "ray", "-o", "out", "--update"], "--update and --engine ray exclude each other"),
        (["--engine", "ray", "-o", "out", "--embed", "e.npy"], "--embed and --engine ray exclude each other"),
        (["--engine", "ray", "-o", "out", "-"], "standard input is on this machine only"),
    ],
)
def test_what_a_cluster_cannot_do_is_said_before_it_is_sought(
    options: list[str], said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dymn_cli.scale.cluster.import_ray", lambda: pytest.fail("Ray was loaded"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    inputs = [] if "-" in options else ["a.wav"]
    assert run(["tag", *inputs, *options]) == 2
    assert said in capfd.readouterr().err


def test_without_the_extra_one_line_names_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["tag", "a.wav", "--engine", "ray", "-o", str(tmp_path / "out")]) == 4
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert "pip install 'dymn[ray]'" in err
    assert not (tmp_path / "out").exists()


def test_offline_means_no_cluster_either(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dymn_cli.scale.cluster.import_ray", lambda: None)
    monkeypatch.setenv("DYMN_OFFLINE", "1")
    out = str(tmp_path / "out")
    assert run(["tag", "a.wav", "--engine", "ray", "--ray-address", "198.51.100.1:6379", "-o", out]) == 4
    assert "DYMN_OFFLINE forbids going to a cluster" in capfd.readouterr().err


@pytest.mark.usefixtures("on_this_machine")
class TestHere:
    """Ray as `dymn` starts it."""

    pytestmark = on_a_cluster

    def test_rows_are_those_of_the_local_engine(self, dymn: Any, record: Callable[..., str]) -> None:
        for n in range(7):
            record(f"library/inner {n}/take{n}.wav", (9 * n, 0.5 + n))
        record("library/night.wav", (3, 0.5), (60, 7.0))
        Path(dymn.cwd, "library/broken.wav").write_bytes(b"RIFF\x24\0\0\0WAVE")
        Path(dymn.cwd, "library/night.wav").rename(Path(dymn.cwd, os.fsdecode(b"library/n\xe9.wav")))
        ran = dymn("tag", "library", *QUICK, "-o", "out", "--engine", "ray", env=RAY, timeout=LIMIT_S)
        assert ran.returncode == 6, ran.err
        assert [line for line in ran.err.splitlines() if not line.startswith("dymn: ")] == []
        assert dymn("tag", "library", *QUICK, "-o", "here.parquet").returncode == 6
        rows = rows_of(dymn.cwd / "out")
        assert rows == rows_here(dymn.cwd / "here.parquet")
        assert len(rows) == 2 * 8
        (failure,) = pq.read_table(dymn.cwd / "out" / "_failures.parquet").to_pylist()
        assert failure["source"] == "library/broken.wav"
        assert (dymn.cwd / "out" / "_SUCCESS").is_file()

    def test_ctrl_c_keeps_what_is_done(self, dymn: Any, record: Callable[..., str]) -> None:
        for n in range(24):
            record(f"library/take{n}.wav", (n, 4.0))
        words = ("events", "library", "-t", 0.02, "-o", "out", "--engine", "ray", "-j", 1)

        def interrupted(interrupt: Callable[[subprocess.Popen[bytes]], object]) -> tuple[int, bytes]:
            n_before = len(list(parts.glob("shard=*/part-*")))
            with dymn.start(*words, env=RAY) as process:
                until(lambda: len(list(parts.glob("shard=*/part-*"))) > n_before, "a part")
                interrupt(process)
                _, err = process.communicate(timeout=LIMIT_S)
            assert not (parts / "_SUCCESS").exists()
            return process.returncode, err

        parts = dymn.cwd / "out"
        code, err = interrupted(lambda process: process.send_signal(signal.SIGINT))
        assert code == 130, err
        assert b"run the same command to continue" in err
        # Ray ends the program that has lost its cluster, with no word.
        code, err = interrupted(lambda process: kill(named(b"ray::RuntimeEnvAgent", process.pid)))
        assert code == 4, err
        assert b"the same command goes on" in err.splitlines()[-1]
        ran = dymn(*words, env=RAY, timeout=LIMIT_S)
        assert ran.returncode == 0, ran.err
        assert "were there already" in ran.err or "was there already" in ran.err
        assert dymn("events", "library", "-t", 0.02, "-o", "here.parquet").returncode == 0
        assert rows_of(parts) == rows_here(dymn.cwd / "here.parquet")


@pytest.fixture
def on_this_machine() -> Iterator[None]:
    """See that a test leaves no process of Ray behind."""
    yield
    until(lambda: not named(b"raylet", os.getpid()), "Ray is gone")


class TestTwoNodes:
    """Two logical nodes, and a store."""

    pytestmark = on_a_cluster

    def test_each_source_comes_once_whatever_is_killed(
        self, s3: Bucket, dymn: Any, record: Callable[..., str], tmp_path: Path
    ) -> None:
        client, aws = s3
        n_takes = 40
        for n in range(n_takes):
            record(f"library/take{n}.wav", (n, 0.5 + n % 3 / 4))
        Path(dymn.cwd, "library/broken.wav").write_bytes(b"RIFF\x24\0\0\0WAVE")
        client(
            textwrap.dedent(f"""
                import pathlib
                for path in pathlib.Path({str(dymn.cwd / "library")!r}).iterdir():
                    c.put_object(Bucket='rec', Key=f'ray/{{path.name}}', Body=path.read_bytes())
            """)
        )

        def parts() -> list[str]:
            keys = "[o['Key'] for o in c.list_objects_v2(Bucket='out', Prefix='tags/').get('Contents', [])]"
            return [key for key in client(f"print(json.dumps({keys}))") if "/part-" in key]

        env = dymn._env({**RAY, **aws})
        command = [sys.executable, "-c", NODES]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=env, **pipes) as nodes:
            assert nodes.stdin is not None
            assert nodes.stdout is not None
            try:
                words = ("tag", "s3://rec/ray/", *QUICK, "-o", "s3://out/tags", "--engine", "ray")
                words += ("--ray-address", nodes.stdout.readline().strip())
                # The driver is lost.
                with dymn.start(*words, env={**RAY, **aws}) as first:
                    until(lambda: len(parts()) > 2, "parts")
                    first.kill()
                n_before = len(parts())
                # So are the actors of the next one, and then a node.
                with dymn.start(*words, env={**RAY, **aws}) as second:
                    until(lambda: len(parts()) > n_before, "more parts")
                    kill(named(b"ray::MapWorker", nodes.pid))
                    n_then = len(parts())
                    until(lambda: len(parts()) > n_then or second.poll() is not None, "parts of new actors")
                    nodes.stdin.write("remove\n")
                    nodes.stdin.flush()
                    assert nodes.stdout.readline() == "gone\n"
                    out, err = second.communicate(timeout=LIMIT_S)
                assert second.returncode == 6, err
                assert out == b""  # Ray says there which workers have died
            finally:
                nodes.stdin.close()
                nodes.wait(60)
        client(
            textwrap.dedent(f"""
                import pathlib
                for o in c.list_objects_v2(Bucket='out', Prefix='tags/')['Contents']:
                    path = pathlib.Path({str(tmp_path / "got")!r}, o['Key'])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(c.get_object(Bucket='out', Key=o['Key'])['Body'].read())
            """)
        )
        got = tmp_path / "got" / "tags"
        assert dymn("tag", "library", *QUICK, "-o", "here.parquet", timeout=LIMIT_S).returncode == 6
        here = rows_here(dymn.cwd / "here.parquet")
        there = rows_of(got)
        for row in there:
            row["source"] = row["source"].replace("s3://rec/ray/", "library/")
        there.sort(key=lambda row: [repr(cell) for cell in row.values()])
        assert there == here
        assert len({row["source"] for row in there}) == n_takes
        manifest = json.loads((got / "_manifest.json").read_text())
        assert (manifest["sources"], manifest["failures"]) == (n_takes, 1)
        assert (got / "_SUCCESS").is_file()
        assert b"dymn: error: 1 of 41 inputs failed" in err


class TestPython:
    """`tag_dataset` and the engine in a program of somebody else."""

    pytestmark = on_a_cluster

    @staticmethod
    def program(dymn: Any, code: str, *arguments: Any) -> Any:
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=dymn.cwd,
            env=dymn._env(RAY),
            timeout=LIMIT_S,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    @pytest.mark.parametrize("n_cpus", [1, 2])
    def test_rows_of_bytes_become_rows_of_tags_on_as_few_cpus(
        self, dymn: Any, record: Callable[..., str], n_cpus: int
    ) -> None:
        for n in range(6):
            record(f"library/take{n}.wav", (n, 0.5))
        Path(dymn.cwd, "library/broken.wav").write_bytes(b"RIFF\x24\0\0\0WAVE")
        answer = self.program(
            dymn,
            """
            import json, sys, ray
            from dymn_cli import Tagger, TagOptions
            from dymn_cli.scale import tag_dataset
            ray.init(num_cpus=int(sys.argv[1]), object_store_memory=80 << 20, include_dashboard=False)
            files = ray.data.read_binary_files("library", include_paths=True)
            options = TagOptions(window_s=0.5, top=3, channel="each")
            rows = tag_dataset(files, options=options).take_all()
            again = ray.data.from_items([{"path": row["path"], "place": 7} for row in rows] * 2)
            opened = tag_dataset(again, options=options, embeddings=False, workers=1, num_cpus=0.5).take_all()
            tagger = Tagger(options=options, threads=1)
            right = {}
            for row in rows:
                if row["error"] is None:
                    (clip,) = tagger.tag_channels(row["path"])
                    right[row["path"]] = (
                        [tag["score"] for tag in row["tags"]] == [tag.score for tag in clip.tags]
                        and [tag["label"] for tag in row["tags"]] == [tag.label for tag in clip.tags]
                        and (row["embedding"] == clip.embedding).all().item()
                        and (row["channel"], row["duration_s"]) == (clip.channel, clip.duration_s)
                    )
            print(json.dumps({
                "right": list(right.values()), "columns": sorted(rows[0]), "opened": sorted(opened[0]),
                "errors": [[row["error"], row["tags"], row["embedding"]] for row in rows if row["error"]],
                "again": sorted(row["path"].rpartition("/")[2] + str(row["place"]) for row in opened),
                "same": all(
                    row["tags"] == other["tags"]
                    for row in rows for other in opened if row["path"] == other["path"]
                ),
            }))
            """,
            n_cpus,
        )
        assert answer["right"] == [True] * 6
        assert answer["errors"] == [["CorruptAudioError", None, None]]
        assert "bytes" not in answer["columns"]
        assert {"path", "channel", "tags", "embedding", "warnings", "error"} <= set(answer["columns"])
        assert "embedding" not in answer["opened"]
        assert answer["again"] == sorted([f"take{n}.wav7" for n in range(6)] * 2 + ["broken.wav7"] * 2)
        assert answer["same"]

    def test_an_error_keeps_its_words_and_a_cluster_without_progress_is_given_up(
        self, dymn: Any, record: Callable[..., str]
    ) -> None:
        os.mkfifo(dymn.cwd / "hangs.wav")  # for ever, as nobody limits it
        answer = self.program(
            dymn,
            """
            import dataclasses, json, os, sys
            from dymn_cli.audio.discover import Found
            from dymn_cli.batch.job import Job
            from dymn_cli.errors import DymnError
            from dymn_cli.scale.cluster import connected
            from dymn_cli.scale.engine import Actors, ClusterRun, Stage, Table, describe
            from dymn_cli.scale.output import ResultSet
            from dymn_cli.tagging.options import TagOptions
            from dymn_cli.writers import WriterOptions

            class Silent:
                def kept(self, *given): ...
                done = failed = within = kept

            job = Job(("dymn04_kd",), "auto", "cpu", None, TagOptions())
            results = ResultSet(os.path.abspath("out"))
            results.begin({}, resume=True, force=False)
            with connected(None, cpus=1) as cluster:
                table, said = Table("tags", WriterOptions(provenance=None)), []
                try:
                    describe(dataclasses.replace(job, model=("dymn4",)), Actors())
                except DymnError as error:
                    said.append([error.message, error.exit_code, error.hint])
                model = describe(job, Actors())
                for settings, patience_s in (({"version": "0.0.0"}, None), ({}, 15.0)):
                    stage = Stage(job, table, results.root, model.model.sha256, **settings)
                    actors = Actors(patience_s=patience_s)
                    run = ClusterRun(stage, actors, cluster, results.contents(), Silent())
                    try:
                        run.go(iter([Found("hangs.wav")]))
                    except DymnError as error:
                        said.append([error.message, error.exit_code, error.hint])
            print(json.dumps(said))
            """,
        )
        unknown, other, silent = answer
        assert unknown[1] == 2
        assert "dymn4" in unknown[0]
        assert other[0].startswith("a worker has dymn ")
        assert other[1:] == [4, "install the same version on all nodes"]
        assert silent[:2] == ["the cluster has made no progress for 0.25 min", 4]
