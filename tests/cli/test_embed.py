"""`dymn embed`: recordings as vectors, in each form."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

CAT, HORSE, DUCK = 81, 87, 104  # as AudioSet numbers them

Record = Callable[..., str]
Fake = Callable[..., Any]


@pytest.fixture
def zoo(record: Record) -> str:
    """25 s: ten of a cat, eight of a horse, seven of a duck."""
    return record("zoo.wav", (CAT, 10), (HORSE, 8), (DUCK, 7))


def index_of(dymn: Any, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((dymn.cwd / name).read_text("utf-8", "surrogateescape"))))


def heard(matrix: np.ndarray) -> list[int]:
    """The fake's embedding of a window is 1 at the number of what it hears."""
    return list(matrix.argmax(axis=1))


def test_a_folder_becomes_a_matrix_with_its_index(fake: Fake, dymn: Any, folder: str, zoo: str) -> None:
    ran = fake("embed", folder, zoo, "--out", "emb.npy")
    assert (ran.returncode, ran.stdout) == (6, b"")
    matrix = np.load(dymn.cwd / "emb.npy", mmap_mode="r")
    assert (matrix.dtype, matrix.shape) == (np.float32, (4, 384))
    assert heard(matrix[:3]) == [72, 81, 87]
    assert matrix[3][[CAT, HORSE, DUCK]] == pytest.approx([1 / 3] * 3)
    rows = index_of(dymn, "emb.index.csv")
    assert [(row["row"], row["source"]) for row in rows] == [
        ("0", "takes/take1.wav"),
        ("1", "takes/take2.wav"),
        ("2", "takes/take10.wav"),
        ("3", "zoo.wav"),
    ]
    assert rows[3] == {"row": "3", "source": "zoo.wav", "channel": "mix", "start_s": "0.0", "end_s": "25.0"}
    meta = json.loads((dymn.cwd / "emb.meta.json").read_bytes())
    assert (meta["shape"], meta["dtype"], meta["options"]["per"]) == ([4, 384], "float32", "clip")
    failed = index_of(dymn, "emb.npy.failures.csv")
    assert [row["source"] for row in failed] == ["takes/broken.wav", "takes/empty.wav"]


def test_a_row_for_each_window_in_exact_places(fake: Fake, dymn: Any, zoo: str) -> None:
    assert fake("embed", zoo, "--per", "window", "-o", "emb.npy").returncode == 0
    assert heard(np.load(dymn.cwd / "emb.npy")) == [CAT, HORSE, DUCK]
    assert [(row["start_s"], row["end_s"]) for row in index_of(dymn, "emb.index.csv")] == [
        ("0.0", "10.0"),
        ("10.0", "20.0"),
        ("15.0", "25.0"),
    ]
    fake("embed", zoo, "--per", "window", "--hop", 2.5, "--window", 5, "-o", "more.npy")
    assert [float(row["start_s"]) for row in index_of(dymn, "more.index.csv")] == [2.5 * n for n in range(9)]


def test_a_row_for_each_channel(fake: Fake, dymn: Any, record: Record) -> None:
    record("stereo.wav", [(CAT, 10)], [(DUCK, 10)])
    fake("embed", "stereo.wav", "--channel", "each", "-o", "emb.npy")
    assert heard(np.load(dymn.cwd / "emb.npy")) == [CAT, DUCK]
    assert [row["channel"] for row in index_of(dymn, "emb.index.csv")] == ["0", "1"]


def test_without_an_output_it_is_a_line_of_json_a_row(fake: Fake, zoo: str) -> None:
    ran = fake("embed", zoo, "none.wav", "--per", "window")
    assert ran.returncode == 6
    documents = [json.loads(line) for line in ran.out.splitlines()]
    assert [document["schema"] for document in documents] == ["dymn.embedding/1"] * 3 + ["dymn.error/1"]
    first = documents[0]
    assert (first["source"], first["channel"], first["start_s"], first["end_s"]) == (zoo, "mix", 0.0, 10.0)
    assert (len(first["embedding"]), first["embedding"].index(1.0)) == (384, CAT)
    assert (first["model"]["name"], first["options"]["per"]) == ("fake", "window")


def test_rows_of_numbers_read_back_as_the_same_float32(fake: Fake, dymn: Any, zoo: str) -> None:
    fake("embed", zoo, "-o", "emb.npy")
    exact = np.load(dymn.cwd / "emb.npy")[0]
    rows = list(csv.DictReader(io.StringIO(fake("embed", zoo, "-f", "csv").out)))
    assert list(rows[0])[:6] == ["source", "channel", "start_s", "end_s", "e0", "e1"]
    assert np.array_equal(np.array([rows[0][f"e{n}"] for n in range(384)], np.float32), exact)
    cells = fake("embed", zoo, "-f", "tsv").rows[0]
    assert np.array_equal(np.array(cells[4:], np.float32), exact)


def test_equal_runs_give_equal_bytes(fake: Fake, dymn: Any, zoo: str) -> None:
    for stem in ("a", "b"):
        fake("embed", zoo, "-o", f"{stem}.npy")
    for suffix in ("npy", "index.csv", "meta.json"):
        assert (dymn.cwd / f"a.{suffix}").read_bytes() == (dymn.cwd / f"b.{suffix}").read_bytes()


def test_nothing_is_replaced_unless_forced_not_even_what_lies_beside(fake: Fake, dymn: Any, zoo: str) -> None:
    for taken in ("emb.npy", "emb.index.csv", "emb.meta.json"):
        (dymn.cwd / taken).write_text("precious", "utf-8")
        ran = fake("embed", zoo, "-o", "emb.npy")
        assert (ran.returncode, ran.err.count("\n")) == (5, 1)
        assert f"{taken}: the file exists" in ran.err
        assert (dymn.cwd / taken).read_text("utf-8") == "precious"
        (dymn.cwd / taken).unlink()
        assert sorted(os.listdir(dymn.cwd)) == ["zoo.wav"]  # noqa: PTH208
    (dymn.cwd / "emb.npy").write_text("precious", "utf-8")
    assert fake("embed", zoo, "-o", "emb.npy", "--force").returncode == 0
    assert np.load(dymn.cwd / "emb.npy").shape == (1, 384)


def test_if_nothing_can_be_read_there_is_no_matrix(fake: Fake, dymn: Any) -> None:
    ran = fake("embed", "none.wav", "-o", "emb.npy")
    assert (ran.returncode, ran.err) == (3, "dymn: error: none.wav: no such file\n")
    assert not (dymn.cwd / "emb.npy").exists()
    assert not (dymn.cwd / "emb.index.csv").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--per", "frame"], 2, "--per 'frame'; clip or window"),
        (["-f", "table"], 2, "unknown format 'table'; nearest: "),
        (["-o", "emb.txt"], 2, ".txt"),
        (["--hop", "11"], 2, "a hop of 11 s"),
        (["-o", "none/emb.npy"], 5, "there is no folder none"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    fake: Fake, zoo: str, words: list[str], code: int, said: str
) -> None:
    ran = fake("embed", zoo, *words)
    assert (ran.returncode, ran.stdout, ran.err.count("\n")) == (code, b"", 1)
    assert said in ran.err


def test_end_to_end_with_the_real_model(dymn: Any, zoo: str) -> None:
    ran = dymn("embed", zoo, "--per", "window", "-f", "npy")  # into a pipe, which cannot seek
    assert (ran.returncode, ran.stderr) == (0, b"")
    windows = np.load(io.BytesIO(ran.stdout))
    assert (windows.dtype, windows.shape) == (np.float32, (3, 384))
    assert dymn("embed", zoo, "--out", "emb.npy").returncode == 0
    clip = np.load(dymn.cwd / "emb.npy")
    assert clip[0] == pytest.approx(windows.mean(axis=0), abs=1e-6)


def test_a_matrix_is_no_text_for_a_terminal(dymn: Any, zoo: str) -> None:
    ran = dymn.terminal("embed", zoo, "-f", "npy", streams="out")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.err == "dymn: error: an .npy file is no text for a terminal; --out emb.npy\n"
