"""`dymn search` and `dymn duplicates` on recordings of which the fake model hears the band."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from filelock import FileLock

from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.errors import AudioNotFoundError, UsageError
from dymn_cli.search import Index

Fake = Callable[..., Any]


@pytest.fixture
def sounds(dymn: Any, record: Callable[..., str]) -> str:
    for name, band in (("low1", 72), ("low2", 72), ("mid", 81), ("high", 104)):
        record(f"lib/{name}.wav", (band, 1))
    return "lib"


@pytest.fixture
def library(fake: Fake, sounds: str) -> str:
    assert fake("embed", sounds, "-o", "lib.npy").returncode == 0
    return "lib.npy"


def test_a_recording_finds_what_sounds_like_it(fake: Fake, library: str) -> None:
    ran = fake("search", library, "lib/low1.wav", "-k", 3)
    assert [row[3] for row in ran.rows][:2] == ["lib/low1.wav", "lib/low2.wav"]
    assert float(ran.rows[1][2]) == 1 > float(ran.rows[2][2])


def test_a_program_searches_with_all_that_a_tagger_takes(fake: Fake, library: str) -> None:
    index = Index.open(library)
    path = fake.cwd / "lib/low1.wav"  # type: ignore[attr-defined]
    for example in (str(path), path, io.BytesIO(path.read_bytes()), sf.read(path)):
        assert [match.place.source for match in index.search(example, top=2)] == [
            "lib/low1.wav",
            "lib/low2.wav",
        ]
    assert index.search(np.int64(3), top=1)[0].row == 3
    with pytest.raises(UsageError, match="not an audio source: NoneType"):
        index.search(None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="row 4 of a library of 4"):
        index.search(4)
    with pytest.raises(AudioNotFoundError, match=r"^none\.wav: no such file"):
        index.search(Path("none.wav"))


def test_names_of_the_library_are_examples(fake: Fake, library: str) -> None:
    ran = fake("search", library, "--like", "low1.wav", "--not", "mid.wav", "-k", 1, "-f", "json")
    (answer,) = json.loads(ran.out)
    assert answer["query"] == "low1.wav - mid.wav"
    assert [match["source"] for match in answer["matches"]] == ["lib/low2.wav"]
    assert fake("search", library, "--like", "low1", "-k", 1).rows[0][3] == "lib/low2.wav"
    none = fake("search", library, "--like", "hihg")
    assert none.returncode == 2
    assert none.err.startswith("dymn: error: hihg: neither in lib.npy nor a file; nearest: high.wav, ")


def test_a_folder_keeps_an_index_and_embeds_only_what_is_new(fake: Fake, sounds: str, dymn: Any) -> None:
    first = fake("search", sounds, "lib/mid.wav", "-k", 1)
    assert "4 of 4 files" in first.err
    assert [row[3] for row in first.rows] == ["lib/mid.wav"]
    again = fake("search", sounds, "lib/mid.wav", "-k", 1)
    assert again.out == first.out
    assert "to embed" not in again.err
    shutil.copy(dymn.cwd / "lib/mid.wav", dymn.cwd / "lib/new.wav")
    (dymn.cwd / "lib/high.wav").unlink()
    ran = fake("search", sounds, "lib/mid.wav")
    assert "1 of 4 files" in ran.err
    assert "./lib/low1.wav" in {row[2] for row in fake("duplicates", "./lib/").rows}
    assert {row[3].rpartition("/")[2] for row in ran.rows} == {"low1.wav", "low2.wav", "mid.wav", "new.wav"}


def kept(dymn: Any) -> Path:
    (found,) = Path(dymn.env["DYMN_HOME"]).glob("search/*[!w].npy")
    return found


@pytest.fixture
def home(dymn: Any, monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    monkeypatch.setenv("DYMN_HOME", dymn.env["DYMN_HOME"])


@pytest.mark.usefixtures("home")
def test_a_damaged_index_is_made_again(fake: Fake, sounds: str, dymn: Any) -> None:
    first = fake("search", sounds, "lib/mid.wav", "-k", 2)
    matrix = kept(dymn)
    matrix.write_bytes(matrix.read_bytes()[:-5])
    again = fake("search", sounds, "lib/mid.wav", "-k", 2)
    assert "4 of 4 files" in again.err
    assert again.out == first.out


@pytest.mark.usefixtures("home")
def test_one_process_at_a_time_makes_an_index(
    fake: Fake, sounds: str, dymn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("search", sounds, "lib/mid.wav")
    is_held, is_waited_for = threading.Event(), threading.Event()
    note = Messages.note

    def noted(self: Messages, text: str) -> None:
        note(self, text)
        if "waiting for another dymn" in text:
            is_waited_for.set()

    monkeypatch.setattr(Messages, "note", noted)

    def hold() -> None:
        with FileLock(kept(dymn).with_suffix(".lock")):
            is_held.set()
            assert is_waited_for.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    is_held.wait()
    ran = fake("search", sounds, "lib/mid.wav")
    other.join()
    assert ran.returncode == 0
    assert is_waited_for.is_set()


@pytest.mark.usefixtures("home")
def test_an_index_of_another_user_is_read_while_it_is_up_to_date(
    fake: Fake, sounds: str, dymn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fake("search", sounds, "lib/mid.wav", "-k", 2)

    def denied(self: Any, *args: Any, **named: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", self.lock_file)

    monkeypatch.setattr(FileLock, "acquire", denied)
    again = fake("search", sounds, "lib/mid.wav", "-k", 2)
    assert (again.returncode, again.out) == (0, first.out)
    shutil.copy(dymn.cwd / "lib/mid.wav", dymn.cwd / "lib/new.wav")
    changed = fake("search", sounds, "lib/mid.wav")
    assert (changed.returncode, changed.out) == (5, "")
    assert f"lib: its index in {kept(dymn).parent} cannot be written: permission denied" in changed.err
    assert "DYMN_HOME=DIR keeps it elsewhere" in changed.err


@pytest.mark.usefixtures("home")
def test_a_changed_file_that_fails_leaves_the_index(fake: Fake, sounds: str, dymn: Any) -> None:
    fake("search", sounds, "lib/mid.wav")
    (dymn.cwd / "lib/high.wav").write_bytes(b"no audio any more")
    ran = fake("search", sounds, "lib/mid.wav")
    assert {row[3].rpartition("/")[2] for row in ran.rows} == {"low1.wav", "low2.wav", "mid.wav"}
    assert "high.wav" in ran.err
    shutil.copy(dymn.cwd / "lib/mid.wav", dymn.cwd / "lib/new.wav")
    ran = fake("search", sounds, "lib/mid.wav")
    assert "1 of 5 files" in ran.err
    assert "high.wav" not in ran.err  # it has not changed since


@pytest.mark.usefixtures("home")
def test_an_index_that_cannot_be_added_to_is_made_again(fake: Fake, sounds: str, dymn: Any) -> None:
    first = fake("search", sounds, "lib/mid.wav")
    journal = Path(f"{kept(dymn)}.journal")
    journal.write_bytes(journal.read_bytes().replace(b'"--hop": "10 s"', b'"--hop": "11 s"', 1))
    os.utime(dymn.cwd / "lib/low1.wav", (0, 0))
    again = fake("search", sounds, "lib/mid.wav")
    assert (again.returncode, again.out) == (0, first.out)
    assert b'"--hop": "10 s"' in journal.read_bytes()


def test_a_folder_of_queries_gives_an_answer_each(fake: Fake, library: str, folder: str) -> None:
    ran = fake("search", library, folder, "-k", 1, "-f", "jsonl")
    assert ran.returncode == 6
    documents = [json.loads(line) for line in ran.out.splitlines()]
    found = {one["query"]: one["matches"][0]["source"] for one in documents if "query" in one}
    assert found == {
        "takes/take1.wav": "lib/low1.wav",
        "takes/take2.wav": "lib/mid.wav",
        "takes/take10.wav": found["takes/take10.wav"],
    }
    failed = [one["source"] for one in documents if one["schema"] == "dymn.error/1"]
    assert sorted(failed) == ["takes/broken.wav", "takes/empty.wav"]


def test_a_query_from_standard_input(dymn: Any, record: Callable[..., str]) -> None:
    for name in ("a.wav", "b.wav"):
        record(f"lib/{name}", (81 if name == "a.wav" else 20, 1))
    assert dymn("embed", "lib", "-o", "lib.npy").returncode == 0
    ran = dymn("search", "lib.npy", "-", "-k", 1, input=(dymn.cwd / "lib/a.wav").read_bytes())
    assert ran.rows[0][:2] + ran.rows[0][3:4] == ["-", "1", "lib/a.wav"]


@pytest.mark.parametrize("name", ["lib.parquet", "lib.jsonl", "lib.csv"])
def test_other_formats_of_embeddings_are_searched(fake: Fake, sounds: str, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    assert fake("embed", sounds, "-o", name).returncode == 0
    ran = fake("search", name, "lib/low1.wav", "-k", 2)
    assert [row[3] for row in ran.rows] == ["lib/low1.wav", "lib/low2.wav"]


def test_frames_are_found_where_they_are(fake: Fake, record: Callable[..., str]) -> None:
    record("long.wav", (20, 1), (81, 1), (20, 1))
    record("mid.wav", (81, 1))
    assert fake("embed", "long.wav", "--per", "frame", "-o", "frames.npy").returncode == 0
    ran = fake("search", "frames.npy", "mid.wav", "-k", 5)
    assert all(float(row[5]) >= 0.9 and float(row[6]) <= 2.1 for row in ran.rows)


def test_an_output_that_exists_is_refused_before_any_work(fake: Fake, library: str, dymn: Any) -> None:
    (dymn.cwd / "found.csv").write_text("mine", "utf-8")
    ran = fake("search", library, "lib/none.wav", "-o", "found.csv")  # else: 3, no such file
    assert ran.returncode == 5
    assert (dymn.cwd / "found.csv").read_text("utf-8") == "mine"
    assert fake("search", library, "lib/none.wav", "--copy-to", "found.csv").returncode == 5
    assert fake("search", library, "lib/low1.wav", "-o", "found.csv", "--force").returncode == 0
    assert json.loads((dymn.cwd / "found.csv.meta.json").read_text("utf-8"))["model"]["name"] == "fake"
    (dymn.cwd / "found.csv").unlink()
    assert fake("search", library, "lib/low1.wav", "-o", "found.csv").returncode == 0
    (dymn.cwd / "found.csv").unlink()
    (dymn.cwd / "found.csv.meta.json").write_text("mine", "utf-8")
    ran = fake("search", library, "lib/none.wav", "-o", "found.csv")
    assert (ran.returncode, "found.csv.meta.json: the file exists" in ran.err) == (5, True)


def test_recordings_that_have_moved_are_found(fake: Fake, library: str, dymn: Any) -> None:
    (dymn.cwd / "lib").rename(dymn.cwd / "elsewhere")
    query = "elsewhere/low1.wav"
    ran = fake("search", library, query, "-k", 1, "--copy-to", "out")
    assert ran.returncode == 6
    assert "no such recording" in ran.err
    assert fake("search", library, query, "-k", 1, "--copy-to", "out", "--audio", "elsewhere").returncode == 0
    assert [path.name for path in (dymn.cwd / "out").iterdir()] == ["001_low1.wav"]
    ran = fake("duplicates", library, "--audio", "elsewhere", "-f", "json")
    assert json.loads(ran.out)["duplicates"][0]["rate_hz"] == 32_000


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not have")
def test_copies_have_harmless_names(fake: Fake, dymn: Any) -> None:
    names = ["lib/-rf ~; $(x)\n.w v", "lib/plain", "../cwd/lib/\x1b[31m.wav", "lib/pipe.wav"]
    (dymn.cwd / "lib").mkdir()
    for name in names[:3]:
        (dymn.cwd / name).write_bytes(b"sound")
    os.mkfifo(dymn.cwd / names[3])
    rows = np.eye(5, 384, dtype=np.float32) + 1
    np.save(dymn.cwd / "lib.npy", rows)
    quoted = ",".join(["row", "source", "channel", "start_s", "end_s"]) + "\r\n"
    quoted += "".join(f'{n},"{name}",mix,0.0,1.0\r\n' for n, name in enumerate([*names, "query.wav"]))
    (dymn.cwd / "lib.index.csv").write_bytes(quoted.encode())
    ran = fake("search", "lib.npy", "--like", "query.wav", "--copy-to", "out")
    assert ran.returncode == 6
    assert "lib/pipe.wav: not a regular file" in ran.err
    assert sorted(path.name for path in (dymn.cwd / "out").iterdir()) == [
        "001_rf-x.w-v", "002_plain", "003_31m.wav",
    ]  # fmt: skip


@pytest.mark.usefixtures("home")
def test_a_graph_is_built_once(fake: Fake, library: str, dymn: Any) -> None:
    pytest.importorskip("usearch.index")
    exact = fake("search", library, "lib/low1.wav")
    first = fake("search", library, "lib/low1.wav", "--index")
    again = fake("search", library, "lib/low1.wav", "--index")
    assert exact.out == first.out == again.out
    assert "building a graph of 4 rows" in first.err
    assert "building" not in again.err
    grouped = fake("duplicates", library, "--index")
    assert grouped.out == fake("duplicates", library).out


def test_copies_replace_nothing(fake: Fake, library: str, dymn: Any) -> None:
    assert fake("search", library, "lib/low1.wav", "-k", 2, "--copy-to", "out").returncode == 0
    (dymn.cwd / "out/001_low1.wav").write_bytes(b"mine")
    ran = fake("search", library, "lib/low1.wav", "-k", 2, "--copy-to", "out")
    assert "is kept" in ran.err
    assert (dymn.cwd / "out/001_low1.wav").read_bytes() == b"mine"


def test_a_playlist_is_relative_to_where_it_lies(fake: Fake, library: str, dymn: Any) -> None:
    (dymn.cwd / "lists").mkdir()
    assert fake("search", library, "lib/low1.wav", "-k", 1, "-o", "lists/found.m3u8").returncode == 0
    assert (dymn.cwd / "lists/found.m3u8").read_text("utf-8") == "#EXTM3U\n../lib/low1.wav\n"


def test_a_playlist_leaves_out_what_no_line_can_name(fake: Fake, record: Callable[..., str]) -> None:
    for name in ("a\nb.wav", "c.wav"):
        record(f"two/{name}", (20, 1))
    ran = fake("search", "two", "two/c.wav", "-f", "m3u8")
    assert ran.out == "#EXTM3U\ntwo/c.wav\n", ran.err
    assert "a\\nb.wav: left out: m3u8 has no names with line ends" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("lib/low1.wav", "lib/low1.wav"), 3, "lib/low1.wav"),
        (("none.npy", "lib/low1.wav"), 3, "none.npy"),
        (("lib.npy",), 2, "nothing to look for"),
        (("lib.npy", "lib/low1.wav", "--start", "5"), 3, "ends before"),
        (("lib.npy", "lib/low1.wav", "--start", "3", "--end", "2"), 2, "--start 3 --end 2: not two"),
        (("lib.npy", "lib/low1.wav", "--min-similarity", "1.1"), 1, "similar enough"),
    ],
)
def test_bad_input_is_one_line(
    fake: Fake, library: str, arguments: tuple[str, ...], code: int, says: str
) -> None:
    ran = fake("search", *arguments)
    assert ran.returncode == code
    assert says in ran.err.splitlines()[-1]


def test_another_model_is_named(fake: Fake, library: str, dymn: Any) -> None:
    meta = dymn.cwd / "lib.meta.json"
    meta.write_text(meta.read_text("utf-8").replace("0" * 64, "1" * 64), "utf-8")
    ran = fake("search", library, "lib/low1.wav")
    assert ran.returncode == 4
    assert "was made with fake (111111111111)" in ran.err


def test_duplicates_say_what_differs(fake: Fake, library: str, dymn: Any) -> None:
    ran = fake("duplicates", library, "-f", "json")
    document = json.loads(ran.out)
    assert document["threshold"] == 0.85
    assert [one["source"] for one in document["duplicates"]] == ["lib/low1.wav", "lib/low2.wav"]
    assert document["duplicates"][0]["rate_hz"] == 32_000
    assert "1 group at a similarity of 0.85 or more (auto) or with the same sound\n" in ran.err
    assert "or more (auto)\n" in fake("duplicates", library, "--no-check").err
    shutil.rmtree(dymn.cwd / "lib")
    gone = fake("duplicates", library)
    assert [row[-5:] for row in gone.rows] == [[""] * 5] * 2


def test_what_is_the_same_moment_by_moment_is_said(fake: Fake, dymn: Any) -> None:
    hits = (0.1 * np.random.default_rng(0).standard_normal((2, 48_000))).astype(np.float32)
    (dymn.cwd / "lib").mkdir()
    for name, samples in (("one", hits[0]), ("cut", 0.5 * hits[0, 5000:40_000]), ("other", hits[1])):
        sf.write(dymn.cwd / f"lib/{name}.wav", samples, 32_000)
    assert fake("embed", "lib", "-o", "lib.npy").returncode == 0

    def told(*options: str) -> dict[str, bool | None]:
        ran = fake("duplicates", "lib.npy", "--threshold", "0.01", "-f", "json", *options)
        return {one["source"]: one["same_sound"] for one in json.loads(ran.out)["duplicates"]}

    assert told() == {"lib/cut.wav": None, "lib/one.wav": True, "lib/other.wav": False}
    assert set(told("--no-check").values()) == {None}
    cells = [row[-1] for row in fake("duplicates", "lib.npy", "--threshold", "0.01").rows]
    assert cells == ["", "true", "false"]


def test_a_long_comparison_shows_how_far_it_is(
    fake: Fake, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dymn_cli.cli.terminal.progress.FIRST_LINE_S", 0.0)
    ran = fake("duplicates", library, "--progress", "always")
    assert "comparing embeddings: 0%" in ran.err


def test_the_real_model_searches_a_graph(dymn: Any, record: Callable[..., str]) -> None:
    """onnxruntime and usearch in one process, in the order of a command."""
    pytest.importorskip("usearch.index")
    for name, band in (("a", 30), ("b", 60), ("c", 90)):
        record(f"lib/{name}.wav", (band, 1))
    assert dymn("embed", "lib", "-o", "lib.npy").returncode == 0
    path = os.pathsep.join([dymn.env["PYTHONPATH"], *sys.path])  # usearch may be anywhere on it
    ran = dymn("search", "lib.npy", "lib/b.wav", "-k", 1, "--index", env={"PYTHONPATH": path})
    assert ran.returncode == 0, ran.err
    assert ran.rows[0][2:4] == ["1.0", "lib/b.wav"]
