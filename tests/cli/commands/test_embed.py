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

from dymn_cli.writers import EMBEDDING_FORMATS

CAT, HORSE, DUCK = 81, 87, 104  # as AudioSet numbers them

Record = Callable[..., str]
Fake = Callable[..., Any]


@pytest.fixture
def zoo(record: Record) -> str:
    """25 s: ten of a cat, eight of a horse, seven of a duck."""
    return record("zoo.wav", (CAT, 10), (HORSE, 8), (DUCK, 7))


def test_help_names_every_format(fake: Fake) -> None:
    described = " ".join(fake("embed", "--help").out.split())
    assert f"Formats: {', '.join(EMBEDDING_FORMATS)}." in described


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


def test_a_row_for_each_frame(fake: Fake, dymn: Any, record: Record) -> None:
    record("pair.wav", (CAT, 0.5), (DUCK, 0.52))
    assert fake("embed", "pair.wav", "--per", "frame", "-o", "emb.npy").returncode == 0
    numbers = heard(np.load(dymn.cwd / "emb.npy"))
    assert (numbers[:9], numbers[12:]) == ([CAT] * 9, [DUCK] * 9)
    rows = index_of(dymn, "emb.index.csv")
    assert [(row["start_s"], row["end_s"]) for row in (*rows[:2], rows[-1])] == [
        ("0.0", "0.025"),
        ("0.025", "0.075"),
        ("0.975", "1.02"),
    ]
    options = json.loads((dymn.cwd / "emb.meta.json").read_bytes())["options"]
    assert options == {"window_s": 0.16, "hop_s": 0.05, "pad": "mirror", "channel": "mix", "per": "frame"}


def test_frames_have_the_hop_and_the_window_that_they_are_given(fake: Fake, dymn: Any, zoo: str) -> None:
    ran = fake("embed", zoo, "--per", "frame", "--hop", 1, "-f", "csv", "--no-header")
    assert [float(row.split(",")[3]) for row in ran.out.splitlines()] == [*(n + 0.5 for n in range(25)), 25.0]
    assert fake("embed", zoo, "--per", "frame", "--hop", 1, "-o", "emb.npy").returncode == 0
    assert json.loads((dymn.cwd / "emb.meta.json").read_bytes())["options"]["window_s"] == 1.0
    ran = fake("embed", zoo, "--per", "frame", "--hop", 2.5, "--window", 5)
    documents = [json.loads(line) for line in ran.out.splitlines()]
    assert [document["embedding"].index(1.0) for document in documents[:4]] == [CAT] * 4
    assert documents[0]["options"]["window_s"] == 5.0


def test_frames_of_each_channel(fake: Fake, dymn: Any, record: Record) -> None:
    record("stereo.wav", [(CAT, 1)], [(DUCK, 1)])
    fake("embed", "stereo.wav", "--per", "frame", "--hop", 0.5, "--channel", "each", "-o", "emb.npy")
    assert heard(np.load(dymn.cwd / "emb.npy")) == [CAT, DUCK] * 3
    assert [row["channel"] for row in index_of(dymn, "emb.index.csv")] == ["0", "1"] * 3


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
        (["--per", "second"], 2, "--per must be clip, window or frame, not 'second'"),
        (["--per", "frame", "--pad", "zero"], 2, "--pad is for windows"),
        (["--per", "frame", "--hop", "0.001"], 2, "a hop of 0.001 s"),
        (["--per", "frame", "--window", "0.1", "--hop", "0.2"], 2, "a hop of 0.2 s"),
        (["--csv-safe"], 2, "--csv-safe is about csv; jsonl"),
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


def test_a_safe_csv_is_safe_in_the_index_and_the_list_of_failures(
    fake: Fake, dymn: Any, record: Record
) -> None:
    record("=1+2.wav", (CAT, 1))
    (dymn.cwd / "@broken.wav").write_bytes(b"RIFF")
    names = ("=1+2.wav", "@broken.wav")
    assert fake("embed", *names, "-o", "plain.npy").returncode == 6
    assert fake("embed", *names, "-o", "safe.npy", "--csv-safe").returncode == 6
    assert fake("embed", *names, "-o", "safe.csv", "--csv-safe").returncode == 6
    assert fake("tag", *names, "-o", "t.csv", "--embed", "too.npy", "--csv-safe").returncode == 6
    assert fake("events", *names, "-o", "e.csv", "--csv-safe").returncode == 6
    assert index_of(dymn, "plain.index.csv")[0]["source"] == "=1+2.wav"
    for index in ("safe.index.csv", "safe.csv", "too.index.csv"):
        assert index_of(dymn, index)[0]["source"] == "'=1+2.wav"
    assert index_of(dymn, "plain.npy.failures.csv")[0]["source"] == "@broken.wav"
    for out in ("safe.npy", "safe.csv", "t.csv", "e.csv"):
        failed = index_of(dymn, f"{out}.failures.csv")[0]
        assert failed["source"] == "'@broken.wav"
        assert failed["message"].startswith("'@broken.wav")


def test_embeddings_as_json_beside_a_safe_csv_are_as_they_are(fake: Fake, dymn: Any, record: Record) -> None:
    record("=1+2.wav", (CAT, 1))
    ran = fake("tag", "=1+2.wav", "-o", "t.csv", "--embed", "e.jsonl", "--csv-safe")
    assert ran.returncode == 0
    assert json.loads((dymn.cwd / "e.jsonl").read_bytes())["source"] == "=1+2.wav"


FRAMES = ("--per", "frame", "--hop", 0.5)


@pytest.mark.slow
def test_frames_are_the_same_bytes_from_workers_shares_and_a_second_try(
    dymn: Any, folder: str, record: Record
) -> None:
    (dymn.cwd / folder / "empty.wav").unlink()
    assert dymn("embed", folder, *FRAMES, "-o", "one.npy", "-j", 1, "--no-resume").returncode == 6
    workers = ("-j", 2, "--limit-per-file", 60)
    assert dymn("embed", folder, *FRAMES, "-o", "two.npy", *workers).returncode == 6
    for number in (1, 2):
        shard = ("--shard", f"{number}/2", "-o", f"s{number}.npy")
        assert dymn("embed", folder, *FRAMES, *shard).returncode in (0, 6)
    assert dymn("merge", "s1.npy", "s2.npy", "-o", "all.npy").returncode == 0
    for suffix in ("npy", "index.csv", "meta.json"):
        expected = (dymn.cwd / f"one.{suffix}").read_bytes()
        for stem in ("two", "all"):
            assert (dymn.cwd / f"{stem}.{suffix}").read_bytes() == expected
    # What failed is tried again; what was there is taken from the journal.
    (dymn.cwd / folder / "broken.wav").unlink()
    record(f"{folder}/broken.wav", (CAT, 0.6))
    ran = dymn("embed", folder, *FRAMES, "-o", "two.npy", *workers)
    assert ran.returncode == 0
    assert "3 results were there already, 1 is new" in ran.err
    assert dymn("embed", folder, *FRAMES, "-o", "new.npy").returncode == 0
    for suffix in ("npy", "index.csv", "meta.json"):
        assert (dymn.cwd / f"two.{suffix}").read_bytes() == (dymn.cwd / f"new.{suffix}").read_bytes()


def test_frames_of_what_comes_through_a_pipe(dymn: Any, record: Record) -> None:
    data = (dymn.cwd / record("a.wav", (CAT, 1.3))).read_bytes()
    piped = dymn("embed", "-", *FRAMES, "-f", "csv", input=data)
    assert (piped.returncode, piped.stderr) == (0, b"")
    lines = dymn("embed", "a.wav", *FRAMES, "-f", "csv").stdout.replace(b"a.wav", b"-")
    assert piped.stdout == lines
    assert len(piped.stdout.splitlines()) == 4


def test_end_to_end_with_the_real_model(dymn: Any, zoo: str) -> None:
    ran = dymn("embed", zoo, "--per", "window", "-f", "npy")  # into a pipe, which cannot seek
    assert (ran.returncode, ran.stderr) == (0, b"")
    windows = np.load(io.BytesIO(ran.stdout))
    assert (windows.dtype, windows.shape) == (np.float32, (3, 384))
    assert dymn("embed", zoo, "--out", "emb.npy").returncode == 0
    clip = np.load(dymn.cwd / "emb.npy")
    assert clip[0] == pytest.approx(windows.mean(axis=0), abs=1e-6)


def test_a_matrix_is_not_for_a_terminal(dymn: Any, zoo: str) -> None:
    ran = dymn.terminal("embed", zoo, "-f", "npy", streams="out")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.err == "dymn: error: npy is a binary format, not for a terminal; -o emb.npy\n"
