"""The data set: what is in it, each source once, whatever was lost or done twice."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.errors import OutputError
from dymn_cli.results import AudioInfo, ClipResult, Failure, ModelInfo, Tag
from dymn_cli.scale.output import N_SHARDS, ResultSet, note_bytes, part_name, shard_of
from dymn_cli.writers import WriterOptions, tag_writer

pq = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet`")
ds = pytest.importorskip("pyarrow.dataset", reason="the extra `parquet`")

OPTIONS = {"--hop": "5 s"}
MODEL = ModelInfo("none", "0" * 64, "none", "none")


def clip(name: str) -> ClipResult:
    tag = Tag(1, 0, "Speech", "/m/09x0r", 0.5)
    audio = AudioInfo(32_000, 1, None, "WAV", "PCM_16")
    nothing: Any = []
    return ClipResult(name, "mix", audio, 1.0, (tag,), nothing, nothing, 1, (), (), MODEL)


def put(
    results: ResultSet, *names: str, quiet: tuple[str, ...] = (), damage: Any = None, file: str = ""
) -> str:
    """Write a part as an actor does."""
    part = file or part_name([*names, *quiet])
    with results.file(part) as stream:
        writer: Any = tag_writer("parquet", stream, WriterOptions(provenance=None))
        writer.begin()
        for name in names:
            writer.write(clip(name))
        writer.note("dymn.part", note_bytes(quiet, damage or {}))
        writer.end()
    return part


def sources_of(root: Path) -> list[str]:
    table = ds.dataset(root, partitioning="hive").to_table()
    return sorted(table.column("source").to_pylist())


@pytest.fixture
def results(tmp_path: Path) -> ResultSet:
    made = ResultSet(str(tmp_path / "out"))
    made.begin(OPTIONS, resume=True, force=False)
    return made


def test_a_part_bears_the_names_of_its_sources_in_any_order_and_lies_in_their_shard() -> None:
    names = [name for name in map(str, range(200)) if shard_of(name) == 3]
    assert part_name(names) == part_name(reversed(names))
    assert part_name(names) != part_name(names[1:])
    assert part_name(names).startswith("shard=03/part-")
    assert {shard_of(str(n)) for n in range(1000)} == set(range(N_SHARDS))


def test_what_a_part_has_is_done_with_rows_or_without(results: ResultSet) -> None:
    odd = "caf\udce9.wav"
    put(results, "a.wav", odd, quiet=("still.wav", "\udcff.wav"))
    done = results.contents().done
    assert len(done) == 4
    assert all(name in done for name in ("a.wav", odd, "still.wav", "\udcff.wav"))
    assert "caf\ufffd.wav" not in done
    assert "b.wav" not in done


def test_a_part_that_is_written_again_replaces_itself(results: ResultSet) -> None:
    assert put(results, "a.wav", "b.wav") == put(results, "b.wav", "a.wav")
    assert sources_of(Path(results.root)) == ["a.wav", "b.wav"]


def test_what_two_parts_have_stays_in_one(results: ResultSet) -> None:
    # A node that was cut off wrote its part when others had done the sources again, in parts of their own.
    put(results, "a.wav", "b.wav", "c.wav", quiet=("q.wav",), damage={"b.wav": ["cut short"]})
    put(results, "a.wav", "b.wav", damage={"b.wav": ["cut short"]})
    put(results, "c.wav", "d.wav", quiet=("q.wav", "r.wav"))
    found = results.contents()
    assert sources_of(Path(results.root)) == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert len(found.done) == 6
    assert sum(n for *_, n in found.files) == 6
    assert found.damage == {"b.wav": ["cut short"]}
    assert results.contents().files == found.files


def test_a_part_that_others_have_altogether_goes(results: ResultSet) -> None:
    put(results, "a.wav", "b.wav", file="shard=00/part-a.parquet")
    put(results, "a.wav", file="shard=00/part-b.parquet")
    assert [name for name, *_ in results.contents().files] == ["shard=00/part-a.parquet"]
    assert not Path(results.root, "shard=00/part-b.parquet").exists()


def test_failures_are_a_table_that_knows_only_what_is_not_done(results: ResultSet) -> None:
    put(results, "a.wav")
    bad = [Failure(name, "CorruptAudioError", f"{name}: damaged", None, 3) for name in ("x.wav", "y.wav")]
    results.finish(bad, is_complete=True)
    put(results, "x.wav")
    results.finish([], is_complete=True)  # of other inputs: y.wav is still to be done
    table = pq.read_table(Path(results.root, "_failures.parquet"))
    assert table.to_pylist() == [
        {
            "source": "y.wav",
            "source_b64": None,
            "error": "CorruptAudioError",
            "message": "y.wav: damaged",
            "hint": None,
            "exit_code": 3,
        }
    ]
    assert sources_of(Path(results.root)) == ["a.wav", "x.wav"]  # readers see the rows alone


def test_the_manifest_counts_and_success_comes_last(results: ResultSet) -> None:
    part = put(results, "a.wav", quiet=("b.wav",), damage={"a.wav": ["gap", "cut"]})
    results.finish([], is_complete=False)
    root = Path(results.root)
    assert not (root / "_SUCCESS").exists()
    results.finish([], is_complete=True)
    assert (root / "_SUCCESS").read_bytes() == b""
    manifest = json.loads((root / "_manifest.json").read_text())
    assert manifest["files"] == [{"path": part, "rows": 1, "sources": 2}]
    assert (manifest["sources"], manifest["failures"]) == (2, 0)
    warnings = pq.read_table(root / "_warnings.parquet").to_pylist()
    assert [(row["source"], row["warning"]) for row in warnings] == [("a.wav", "gap"), ("a.wav", "cut")]
    results.begin(OPTIONS, resume=True, force=False)  # a run that goes on is not done yet
    assert not (root / "_SUCCESS").exists()


def test_other_options_are_refused_and_nothing_is_lost(results: ResultSet) -> None:
    put(results, "a.wav")
    with pytest.raises(OutputError, match="--hop was 5 s, is 2 s"):
        results.begin({"--hop": "2 s"}, resume=True, force=False)
    with pytest.raises(OutputError, match="it exists"):
        results.begin(OPTIONS, resume=False, force=False)
    assert "a.wav" in results.contents().done
    results.begin({"--hop": "2 s"}, resume=True, force=True)
    assert len(results.contents().done) == 0
    results.begin({"--hop": "2 s"}, resume=True, force=False)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("done")
    with pytest.raises(OutputError, match="other files"):
        ResultSet(str(tmp_path / "mine")).begin(OPTIONS, resume=True, force=True)
    with pytest.raises(OutputError, match="not a folder"):
        ResultSet(str(tmp_path / "mine" / "thesis.txt")).begin(OPTIONS, resume=True, force=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "_dataset.json").write_text('{"schema": "dymn.dataset/9"}')
    with pytest.raises(OutputError, match="not of this version"):
        ResultSet(str(tmp_path / "other")).begin(OPTIONS, resume=True, force=False)


@pytest.mark.parametrize("data", [b"", b"PAR1 and then nothing", b"PAR1" * 100])
def test_a_damaged_part_is_one_line_that_names_it(results: ResultSet, data: bytes) -> None:
    put(results, "a.wav")
    with results.file("shard=01/part-0.parquet") as stream:
        stream.write(data)
    with pytest.raises(OutputError, match=r"part-0\.parquet: not a part .* damaged"):
        results.contents()


def test_a_part_of_somebody_else_is_refused(results: ResultSet) -> None:
    arrow = pytest.importorskip("pyarrow")
    sink = io.BytesIO()
    pq.write_table(arrow.table({"source": ["a.wav"]}), sink)
    with results.file("shard=01/part-0.parquet") as stream:
        stream.write(sink.getvalue())
    with pytest.raises(OutputError, match=r"part-0\.parquet"):
        results.contents()


def test_what_killed_workers_left_is_swept_away(results: ResultSet) -> None:
    put(results, "a.wav", file="shard=02/part-0.parquet")
    left = Path(results.root, "shard=02", ".dymn-00000000-0123456789abcdef.part")
    left.write_bytes(b"half")
    results.finish([], is_complete=True)
    assert not left.exists()


def test_a_store_holds_a_data_set_as_a_folder_does() -> None:
    pytest.importorskip("fsspec", reason="the extra `remote`")
    results = ResultSet("memory://bucket/out/")
    results.begin(OPTIONS, resume=True, force=False)
    put(results, "a.wav", "b.wav")
    put(results, "a.wav", quiet=("q.wav",))
    found = results.finish([], is_complete=True)
    assert sum(n for *_, n in found.files) == len(found.done) == 3
    with pytest.raises(OutputError, match="other options"):
        results.begin({"--hop": "2 s"}, resume=True, force=False)
    results.begin({"--hop": "2 s"}, resume=True, force=True)
    assert len(results.contents().done) == 0
