"""URIs on the command line, in this process: a store in memory, also under the schemes of others."""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from dymn_cli.remote import store

fsspec = pytest.importorskip("fsspec", reason="the extra `remote`")
DRIVERS = importlib.import_module("fsspec.registry")._registry
MEMORY = importlib.import_module("fsspec.implementations.memory").MemoryFileSystem


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, record: Callable[..., str], dymn: Any) -> Iterator[Any]:
    """A store in memory with two recordings and a file that is none."""
    monkeypatch.setattr(store, "WAITS_S", ())
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    for name, band in (("take2.wav", 81), ("in/take1.wav", 72)):
        memory.pipe_file(f"/site/{name}", (dymn.cwd / record("x.wav", (band, 1))).read_bytes())
    (dymn.cwd / "x.wav").unlink()
    memory.pipe_file("/site/notes.txt", b"no audio")
    yield memory
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture(autouse=True)
def home(fake: object, dymn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals of results in stores lie in a folder of the test."""
    monkeypatch.setenv("DYMN_HOME", dymn.env["DYMN_HOME"])


FILES = ["memory://site/in/take1.wav", "memory://site/take2.wav"]


def sources(rows: list[list[str]]) -> list[str]:
    return [row[0] for row in rows]


# ---------------------------------------------------------------------- inputs


def test_every_command_keeps_the_uri_as_the_source(memory: Any, fake: Callable[..., Any]) -> None:
    ran = fake("tag", "memory://site/", "-k", 1)
    assert (ran.returncode, sources(ran.rows)) == (0, FILES)
    assert sources(fake("info", "memory://site/").rows) == FILES
    assert set(sources(fake("events", "memory://site/", "-t", 0.1).rows)) == set(FILES)
    vectors = fake("embed", "memory://site/")
    assert [json.loads(line)["source"] for line in vectors.out.splitlines()] == FILES
    assert fake("tag", "memory://site/", "--dry-run").out.splitlines() == FILES


def test_a_uri_gives_what_its_file_gives(memory: Any, fake: Callable[..., Any], dymn: Any) -> None:
    (dymn.cwd / "take2.wav").write_bytes(memory.cat_file("/site/take2.wav"))
    for command in (
        ("tag", "-f", "jsonl"),
        ("events", "-f", "jsonl"),
        ("info", "-f", "jsonl", "--decode"),
        ("embed",),
    ):
        local, remote = fake(*command, "take2.wav"), fake(*command, "memory://site/take2.wav")
        assert remote.out.replace("memory://site/", "") == local.out
        assert (remote.returncode, local.returncode) == (0, 0)


@pytest.mark.parametrize("scheme", ["gs", "az", "abfs", "hf", "s3"])
def test_schemes_of_other_stores_go_to_their_drivers(
    memory: Any, fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    class Other(MEMORY):  # type: ignore[misc, valid-type]
        protocol = scheme

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(MEMORY._strip_protocol(path.replace(f"{scheme}://", "memory://")))

    monkeypatch.setitem(DRIVERS, scheme, Other)
    ran = fake("tag", f"{scheme}://site/", "-k", 1)
    assert (ran.returncode, sources(ran.rows)) == (0, [name.replace("memory", scheme) for name in FILES])


def test_a_list_of_names_may_lie_in_a_store(
    memory: Any, fake: Callable[..., Any], record: Callable[..., str]
) -> None:
    here = record("here.wav", (90, 1))
    memory.pipe_file("/list.txt", f"{FILES[1]}\r\n{here}\n".encode())
    ran = fake("tag", "--files-from", "memory://list.txt", "-k", 1)
    assert (ran.returncode, sources(ran.rows)) == (0, [FILES[1], here])
    ran = fake("tag", "--files-from", "memory://none.txt")
    assert (ran.returncode, ran.err.strip()) == (3, "dymn: error: memory://none.txt: no such file")


def test_members_of_an_archive_are_sources(memory: Any, fake: Callable[..., Any], dymn: Any) -> None:
    with zipfile.ZipFile(dymn.cwd / "x.zip", "w") as archive:
        for name in ("take2.wav", "in/take1.wav"):
            archive.writestr(name, memory.cat_file(f"/site/{name}"))
    assert sources(fake("tag", "zip://::x.zip", "-k", 1).rows) == [
        "zip://in/take1.wav::x.zip",
        "zip://take2.wav::x.zip",
    ]
    assert fake("tag", "zip://::x.zip", "--out-dir", "out").returncode == 0
    assert sorted(path.name for path in (dymn.cwd / "out").rglob("*.csv")) == [
        "take1.wav.csv",
        "take2.wav.csv",
    ]
    assert (dymn.cwd / "out/in/take1.wav.csv").is_file()


def test_nothing_leads_out_of_the_folder_of_results(memory: Any, fake: Callable[..., Any], dymn: Any) -> None:
    with zipfile.ZipFile(dymn.cwd / "x.zip", "w") as archive:
        archive.writestr("a/../../../up.wav", memory.cat_file("/site/take2.wav"))
    fake("tag", "zip://::x.zip", "--out-dir", "out")
    assert [path for path in dymn.cwd.parent.rglob("up*") if dymn.cwd / "out" not in path.parents] == []


def test_each_failure_is_a_line(memory: Any, fake: Callable[..., Any]) -> None:
    ran = fake("tag", "memory://site/none.wav")
    assert (ran.returncode, ran.err.strip()) == (3, "dymn: error: memory://site/none.wav: no such file")
    ran = fake("tag", "memory://site/none.wav", "xyz://b/a.wav", "memory://site/notes.txt", FILES[0], "-k", 1)
    assert (ran.returncode, sources(ran.rows)) == (6, FILES[:1])
    assert ran.err.count("dymn: failed: ") == 3
    assert "no kind of store" in ran.err


def test_offline_refuses_the_network_alone(
    memory: Any, fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYMN_OFFLINE", "1")
    ran = fake("tag", "https://h.example/a.wav")
    assert ran.returncode == 3
    assert "DYMN_OFFLINE is set, so the network is not used" in ran.err
    assert fake("tag", FILES[0]).returncode == 0
    ran = fake("tag", FILES[0], "-o", "s3://bucket/tags.csv")
    assert ran.returncode == 5
    assert "DYMN_OFFLINE" in ran.err


def test_a_clock_reads_names_and_metadata_of_uris(memory: Any, fake: Callable[..., Any]) -> None:
    memory.mv("/site/take2.wav", "/night/site_20190522_020000.wav")
    ran = fake("tag", "memory://night/", "-k", 1, "--clock", "auto", "-f", "csv")
    assert "2019-05-22T02:00:00" in ran.out


def test_events_of_a_uri_are_cut(memory: Any, fake: Callable[..., Any], dymn: Any) -> None:
    ran = fake("events", FILES[1], "-t", 0.1, "-o", "events.csv", "--cut", "clips")
    assert ran.returncode == 0, ran.err
    assert [path.name.partition("_")[0] for path in (dymn.cwd / "clips").rglob("*.wav")] == ["take2"]


# ---------------------------------------------------------------------- outputs


def test_results_go_to_a_store_as_they_go_to_a_file(memory: Any, fake: Callable[..., Any], dymn: Any) -> None:
    for command in (("tag", "-k", 2), ("events", "-t", 0.1)):
        local, remote = f"{command[0]}.csv", f"memory://results/{command[0]}.csv"
        assert fake(*command, "memory://site/", "-o", local).returncode == 0
        assert fake(*command, "memory://site/", "-o", remote).returncode == 0
        for beside in ("", ".meta.json"):
            kept = memory.cat_file(f"/results/{command[0]}.csv{beside}")
            assert kept == (dymn.cwd / f"{local}{beside}").read_bytes()
    assert fake("embed", "memory://site/", "-o", "memory://results/emb.npy").returncode == 0
    assert np.load(io.BytesIO(memory.cat_file("/results/emb.npy"))).shape == (2, 384)
    assert memory.cat_file("/results/emb.index.csv").decode().count("memory://site/") == 2
    left = sorted(memory.find("/results"))
    assert [name for name in left if "part" in name or "journal" in name] == []
    assert list((dymn.cwd.parent).rglob("*.journal")) == [], "a complete run needs none"


def test_a_result_is_not_replaced_unasked(memory: Any, fake: Callable[..., Any]) -> None:
    memory.pipe_file("/results/tags.csv", b"mine")
    ran = fake("tag", "memory://site/", "-o", "memory://results/tags.csv")
    assert (ran.returncode, memory.cat_file("/results/tags.csv")) == (5, b"mine")
    assert "memory://results/tags.csv: the file exists; --force replaces it" in ran.err
    assert fake("tag", "memory://site/", "-o", "memory://results/tags.csv", "--force").returncode == 0
    assert memory.cat_file("/results/tags.csv").startswith(b"source,")


def test_what_appears_meanwhile_is_not_replaced_either(
    memory: Any, fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MEMORY.put_file

    def late(self: Any, path: str, target: str, **options: Any) -> None:
        memory.pipe_file("/results/tags.csv", b"theirs")
        real(self, path, target, **options)

    monkeypatch.setattr(MEMORY, "put_file", late)
    ran = fake("tag", "memory://site/", "-o", "memory://results/tags.csv")
    assert (ran.returncode, memory.cat_file("/results/tags.csv")) == (5, b"theirs")


def test_an_upload_that_fails_costs_no_work(
    memory: Any, fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, dymn: Any
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise PermissionError("AccessDenied")

    with monkeypatch.context() as patch:
        patch.setattr(MEMORY, "put_file", full)
        ran = fake("tag", "memory://site/", "-o", "memory://results/tags.csv")
    assert (ran.returncode, memory.exists("/results/tags.csv")) == (5, False)
    assert "memory://results/tags.csv.meta.json: no permission to write it" in ran.err
    ran = fake("tag", "memory://site/", "-o", "memory://results/tags.csv", "-v")
    assert ran.returncode == 0
    assert "2 results were there already, 0 are new" in ran.err


def test_a_run_goes_on_where_it_stopped(memory: Any, fake: Callable[..., Any]) -> None:
    memory.pipe_file("/site/broken.wav", b"RIFF\x24\0\0\0WAVE")
    out = ("-o", "memory://results/tags.csv")
    ran = fake("tag", "memory://site/", *out, "-k", 1)
    assert ran.returncode == 6
    assert b"memory://site/broken.wav" in memory.cat_file("/results/tags.csv.failures.csv")
    memory.pipe_file("/site/broken.wav", memory.cat_file("/site/take2.wav"))
    memory.pipe_file("/site/in/take1.wav", memory.cat_file("/site/take2.wav"))  # another one by now
    ran = fake("tag", "memory://site/", *out, "-k", 1, "-v")
    assert ran.returncode == 0, ran.err
    assert "1 result was there already, 2 are new" in ran.err
    assert memory.cat_file("/results/tags.csv").decode().count("memory://site/") == 3
    assert not memory.exists("/results/tags.csv.failures.csv")


def test_a_local_result_of_uris_is_continued(memory: Any, fake: Callable[..., Any], dymn: Any) -> None:
    memory.pipe_file("/site/broken.wav", b"RIFF\x24\0\0\0WAVE")
    assert fake("tag", "memory://site/", "-o", "tags.csv").returncode == 6
    assert (dymn.cwd / "tags.csv.journal").is_file()
    memory.rm("/site/broken.wav")
    ran = fake("tag", "memory://site/", "-o", "tags.csv")
    assert ran.returncode == 0, ran.err
    assert "2 results were there already, 0 are new" in ran.err


@pytest.mark.parametrize(
    ("option", "place", "text"),
    [
        ("-o", "https://h/tags.csv", "results are not written to https://"),
        ("-o", "memory://results/", "a folder, not a file"),
        ("--out-dir", "memory://results/", "a folder is on this machine"),
        ("--failures", "sftp://h/failures.csv", "results are not written to sftp://"),
    ],
)
def test_where_results_cannot_go_is_said_at_once(
    memory: Any, fake: Callable[..., Any], option: str, place: str, text: str
) -> None:
    ran = fake("tag", FILES[0], option, place)
    assert ran.returncode in (2, 5)
    assert text in ran.err
    assert ran.err.count("\n") == 1


def test_two_results_may_not_share_a_place(memory: Any, fake: Callable[..., Any]) -> None:
    ran = fake("tag", FILES[0], "-o", "memory://r/x.csv", "--failures", "memory://r/x.csv")
    assert ran.returncode == 2
    assert "would both write it" in ran.err


# ---------------------------------------------------------------------- results that are read


def test_results_in_a_store_are_read_as_files_are(memory: Any, fake: Callable[..., Any], dymn: Any) -> None:
    events = "memory://results/events.csv"
    assert fake("events", "memory://site/", "-t", 0.1, "-o", "events.csv").returncode == 0
    assert fake("events", "memory://site/", "-t", 0.1, "-o", events).returncode == 0
    for form in ("jsonl", "tsv", "raven"):
        local, remote = (fake("convert", name, "-f", form) for name in ("events.csv", events))
        assert (remote.returncode, remote.out) == (0, local.out)
    assert fake("convert", events, "memory://results/events.jsonl").returncode == 0
    assert json.loads(memory.cat_file("/results/events.jsonl").splitlines()[0])["model"]["name"] == "fake"
    assert fake("convert", events, events, "--force").returncode == 2, "it is also an input"
    assert fake("convert", events, "--out-dir", "each").returncode == 0
    assert len(list((dymn.cwd / "each").rglob("*.wav.csv"))) == 2
    ran = fake("cut", events, "-o", "clips")
    assert ran.returncode == 0, ran.err
    assert (dymn.cwd / "clips/clips.csv").read_text().count("memory://site/") > 1
    ran = fake("report", events, "-o", "page.html")
    assert ran.returncode == 0, ran.err
    assert "memory://site/take2.wav" in (dymn.cwd / "page.html").read_text()


def test_a_picture_shows_the_events_of_a_result_in_a_store(
    memory: Any, fake: Callable[..., Any], record: Callable[..., str], dymn: Any
) -> None:
    pytest.importorskip("matplotlib")
    take = record("take2.wav", (81, 1))
    assert fake("events", "memory://site/", "-t", 0.1, "-o", "memory://results/e.csv").returncode == 0
    ran = fake("plot", take, "--events", "memory://results/e.csv", "-o", "x.png")
    assert (ran.returncode, (dymn.cwd / "x.png").is_file()) == (0, True), ran.err


def test_a_library_in_a_store_is_searched_unless_it_is_a_matrix(
    memory: Any, fake: Callable[..., Any]
) -> None:
    for name in ("lib.jsonl", "lib.npy"):
        assert fake("embed", "memory://site/", "-o", f"memory://results/{name}").returncode == 0
    ran = fake("search", "memory://results/lib.jsonl", "--like", FILES[1], "-k", 1)
    assert (ran.returncode, [row[3] for row in ran.rows]) == (0, [FILES[0]]), ran.err
    ran = fake("search", "memory://results/lib.npy", "--like", FILES[1])
    assert ran.returncode == 3
    assert "memory://results/lib.npy: a matrix is read where it lies, and not at a URI" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [("http://u:secret@h/a.jsonl", "--truth", "t.csv"), ("a.jsonl", "--truth", "http://u:secret@h/t.csv")],
)
def test_evaluation_takes_files_alone_and_shows_no_password(
    fake: Callable[..., Any], arguments: tuple[str, ...]
) -> None:
    ran = fake("eval", *arguments)
    assert (ran.returncode, "dymn eval reads files, not URIs" in ran.err) == (2, True)
    assert "secret" not in ran.err
