from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import OutputError
from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, WriterOptions
from dymn_cli.writers.output import open_embeddings, open_events, open_tags

Options = Callable[..., WriterOptions]
EmbOptions = Callable[..., EmbeddingOptions]

META = """{
  "dymn": "0.1.0",
  "model": {
    "backend": "onnx",
    "name": "dymn04_kd",
    "provider": "CPUExecutionProvider",
    "sha256": "%s"
  },
  "options": {
    "hop_s": 10.0,
    "labels": [
      "Owl",
      "Train"
    ],
    "pad": "repeat",
    "window_s": 10.0
  },
  "schema": "dymn.meta/1"
}
""" % ("ab" * 32)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["csv", "tsv", "audacity", "raven", "srt", "vtt"])
def test_rows_have_their_provenance_beside_them(
    name: str, clip: ClipResult, options: Options, tmp_path: Path
) -> None:
    out = tmp_path / f"tags.{name}"
    with open_tags(str(out), name, options()) as writer:
        writer.write(clip)
    assert listing(tmp_path) == [f"tags.{name}", f"tags.{name}.meta.json"]
    assert (tmp_path / f"tags.{name}.meta.json").read_text(encoding="utf-8") == META


def test_events_have_theirs_too(found: SourceEvents, options: Options, tmp_path: Path) -> None:
    with open_events(str(tmp_path / "farm.srt"), "srt", options()) as writer:
        writer.write(found)
    assert listing(tmp_path) == ["farm.srt", "farm.srt.meta.json"]
    assert (tmp_path / "farm.srt.meta.json").read_text(encoding="utf-8") == META


@pytest.mark.parametrize("name", ["audacity", "raven", "vtt", "csv", "parquet"])
def test_a_broken_run_leaves_no_events(
    name: str, found: SourceEvents, options: Options, tmp_path: Path
) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(KeyboardInterrupt), open_events(str(tmp_path / "x"), name, options()) as writer:
        writer.write(found)
        raise KeyboardInterrupt
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["json", "jsonl", "table"])
def test_other_formats_are_one_file(name: str, clip: ClipResult, options: Options, tmp_path: Path) -> None:
    with open_tags(str(tmp_path / "tags.out"), name, options()) as writer:
        writer.write(clip)
    assert listing(tmp_path) == ["tags.out"]


def test_nothing_lies_beside_a_stream(
    clip: ClipResult,
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_tags("-", "csv", options()) as writer:
        writer.write(clip)
    assert listing(tmp_path) == []
    assert capsysbinary.readouterr().out.startswith(b"source,channel,")


def test_a_matrix_and_what_explains_it(
    rows: list[EmbeddingRow], embedding_options: EmbOptions, tmp_path: Path
) -> None:
    with open_embeddings(str(tmp_path / "emb.npy"), "npy", embedding_options()) as writer:
        writer.write(rows)
    assert listing(tmp_path) == ["emb.index.csv", "emb.meta.json", "emb.npy"]
    matrix = np.load(tmp_path / "emb.npy", mmap_mode="r", allow_pickle=False)
    with (tmp_path / "emb.index.csv").open(newline="", encoding="utf-8") as file:
        index = list(csv.DictReader(file))
    meta = json.loads((tmp_path / "emb.meta.json").read_bytes())
    assert [row["source"] for row in index] == ["metro.wav", "a,b.wav"]
    np.testing.assert_array_equal(matrix[int(index[1]["row"])], [1, 2, 3])
    assert (meta["dtype"], meta["shape"]) == ("float32", [2, 3])
    assert meta["model"]["sha256"] == "ab" * 32


def test_a_run_without_a_single_source_is_a_matrix_too(embedding_options: EmbOptions, tmp_path: Path) -> None:
    with open_embeddings(str(tmp_path / "emb.npy"), "npy", embedding_options(size=384)):
        pass
    assert np.load(tmp_path / "emb.npy", allow_pickle=False).shape == (0, 384)


@pytest.mark.parametrize("present", ["emb.npy", "emb.index.csv", "emb.meta.json"])
def test_force_is_needed_for_each_of_them(
    present: str, rows: list[EmbeddingRow], embedding_options: EmbOptions, tmp_path: Path
) -> None:
    (tmp_path / present).write_bytes(b"old")
    out = str(tmp_path / "emb.npy")
    with pytest.raises(OutputError, match=present), open_embeddings(out, "npy", embedding_options()):
        pytest.fail("found out too late")
    assert listing(tmp_path) == [present]
    with open_embeddings(out, "npy", embedding_options(), force=True) as writer:
        writer.write(rows)
    assert listing(tmp_path) == ["emb.index.csv", "emb.meta.json", "emb.npy"]
    assert np.load(out).shape == (2, 3)


@pytest.mark.parametrize("left", [["emb.index.csv"], ["emb.meta.json"], ["emb.index.csv", "emb.meta.json"]])
def test_what_is_left_of_a_result_that_is_gone_is_replaced(
    left: list[str], rows: list[EmbeddingRow], embedding_options: EmbOptions, tmp_path: Path
) -> None:
    out = str(tmp_path / "emb.npy")
    with open_embeddings(out, "npy", embedding_options()) as writer:
        writer.write(rows)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(OutputError, match=r"emb\.npy: the file exists"),
        open_embeddings(out, "npy", embedding_options()),
    ):
        pytest.fail("the result is there")
    for name in whole:
        if name not in left:
            (tmp_path / name).unlink()
    with pytest.raises(KeyboardInterrupt), open_embeddings(out, "npy", embedding_options()):
        raise KeyboardInterrupt
    assert listing(tmp_path) == left
    with open_embeddings(out, "npy", embedding_options()) as writer:
        writer.write(rows[:1])
    (tmp_path / "emb.npy").unlink()
    with open_embeddings(out, "npy", embedding_options()) as writer:
        writer.write(rows)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


@pytest.mark.parametrize("force", [False, True])
def test_a_result_that_nothing_is_known_of_takes_over_no_provenance(
    force: bool, clip: ClipResult, options: Options, tmp_path: Path
) -> None:
    out = tmp_path / "tags.csv"
    with open_tags(str(out), "csv", options()) as writer:
        writer.write(clip)
    if not force:
        out.unlink()
    with open_tags(str(out), "csv", options(provenance=None), force=force) as writer:
        writer.write(clip)
    assert listing(tmp_path) == ["tags.csv"]
    (tmp_path / "tags.csv.meta.json").write_text("mine")
    with open_tags(str(out), "csv", options(provenance=None), force=True) as writer:
        writer.write(clip)
    assert listing(tmp_path) == ["tags.csv", "tags.csv.meta.json"]


@pytest.mark.parametrize(("there", "new"), [("emb.npy", "emb"), ("emb", "emb.npy")])
def test_what_lies_beside_another_result_stays(
    there: str, new: str, rows: list[EmbeddingRow], embedding_options: EmbOptions, tmp_path: Path
) -> None:
    with open_embeddings(str(tmp_path / there), "npy", embedding_options()) as writer:
        writer.write(rows)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    exists = pytest.raises(OutputError, match=r"emb\.\w+\.\w+: the file exists")
    with exists, open_embeddings(str(tmp_path / new), "npy", embedding_options()):
        pytest.fail("opened")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_result_without_provenance_leaves_that_of_another_result(
    rows: list[EmbeddingRow],
    embedding_options: EmbOptions,
    clip: ClipResult,
    options: Options,
    tmp_path: Path,
) -> None:
    with open_embeddings(str(tmp_path / "emb.npy"), "npy", embedding_options()) as writer:
        writer.write(rows)
    with open_tags(str(tmp_path / "emb"), "json", options()) as writer:
        writer.write(clip)
    assert listing(tmp_path) == ["emb", "emb.index.csv", "emb.meta.json", "emb.npy"]


def test_what_made_the_results_of_a_folder_stays(clip: ClipResult, options: Options, tmp_path: Path) -> None:
    with open_tags(str(tmp_path / "dymn"), "csv", options()) as writer:
        writer.write(clip)
    (tmp_path / "dymn").rename(tmp_path / "a.wav.csv")
    exists = pytest.raises(OutputError, match=r"dymn\.meta\.json: the file exists")
    with exists, open_tags(str(tmp_path / "dymn"), "csv", options()):
        pytest.fail("opened")


def test_an_interruption_leaves_none_of_them(
    rows: list[EmbeddingRow], embedding_options: EmbOptions, tmp_path: Path
) -> None:
    out = str(tmp_path / "emb.npy")
    with pytest.raises(KeyboardInterrupt), open_embeddings(out, "npy", embedding_options()) as writer:
        writer.write(rows)
        raise KeyboardInterrupt
    assert listing(tmp_path) == []


def test_equal_runs_give_equal_bytes(
    rows: list[EmbeddingRow], embedding_options: EmbOptions, tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        with open_embeddings(str(tmp_path / folder / "emb.npy"), "npy", embedding_options()) as writer:
            writer.write(rows)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("one", "two"))
    assert one == two


SCRIPT = """
import numpy as np
from dymn_cli.results import ModelInfo
from dymn_cli.writers import EmbeddingOptions, EmbeddingRow, Provenance, open_embeddings
options = EmbeddingOptions(provenance=Provenance("0.1.0", ModelInfo("m", "", "onnx", "CPU")), size=2)
with open_embeddings({out!r}, "npy", options) as writer:
    for n in range(3):
        writer.write([EmbeddingRow("x", "mix", n, n + 1, np.full(2, n, np.float32))])
"""


@pytest.mark.parametrize("out", ["-", "/dev/fd/1"])
def test_a_matrix_through_a_pipe(out: str, tmp_path: Path) -> None:
    if out != "-" and os.name != "posix":
        pytest.skip("no such device")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(out=out)], capture_output=True, check=False, cwd=root, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, b"")
    received = tmp_path / "received.npy"
    received.write_bytes(done.stdout)
    np.testing.assert_array_equal(np.load(received, allow_pickle=False), [[0, 0], [1, 1], [2, 2]])


def test_objects_beside_one_that_is_gone_are_replaced_or_go(clip: ClipResult, options: Options) -> None:
    fsspec = pytest.importorskip("fsspec", reason="the extra `remote`")
    store = fsspec.filesystem("memory")
    out = "memory://beside/tags.csv"
    for made in (options(), options(), options(provenance=None)):
        with open_tags(out, "csv", made) as writer:
            writer.write(clip)
        left = [name.rpartition("/")[2] for name in sorted(store.ls("/beside", detail=False))]
        assert left == ["tags.csv", *(["tags.csv.meta.json"] if made.provenance else [])]
        store.rm_file("/beside/tags.csv")
