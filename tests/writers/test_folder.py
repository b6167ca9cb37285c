"""A file for each source: where it lies, and what is refused before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dymn_cli.audio.discover import Found, find
from dymn_cli.errors import InputError, OutputError, UsageError
from dymn_cli.results import ModelInfo
from dymn_cli.writers.base import Provenance, Writer
from dymn_cli.writers.folder import ResultFolder

MADE = Provenance("1.0", ModelInfo("m", "ab", "onnx", "CPU"))


class Plain(Writer[str]):
    """Writes what it is given."""

    def write(self, result: str) -> None:
        self.stream.write(result.encode())


def fill(folder: ResultFolder, name: str, *results: str) -> None:
    with folder.writer(name, lambda stream, index: Plain(stream)) as writer:
        for result in results:
            writer.write(result)


def tree(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.mark.parametrize("given", ["rec", "rec/", "./rec", "../here/rec", "{absolute}/rec"])
def test_a_file_found_in_a_folder_keeps_its_path_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    touch("rec/a.wav", "rec/a.flac", "rec/x/y/a.wav")
    sources = list(find([given.format(absolute=tmp_path / "here")]))
    folder = ResultFolder("out", "csv", sources)
    for found in sources:
        fill(folder, found.name, "x")
    assert tree(Path("out")) == {"a.wav.csv", "a.flac.csv", "x/y/a.wav.csv"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.wav", "a.wav.csv"),
        ("x/a.wav", "x/a.wav.csv"),
        ("./x//a.wav", "x/a.wav.csv"),
        ("../x/a.wav", "a.wav.csv"),
        ("/data/x/a.wav", "a.wav.csv"),
        ("x/../../a.wav", "a.wav.csv"),
        ("-", "stdin.csv"),
    ],
)
def test_a_file_that_was_named_keeps_a_path_that_stays_within(tmp_path: Path, name: str, place: str) -> None:
    folder = ResultFolder(str(tmp_path / "out"), "csv", [Found(name)])
    fill(folder, name, "x")
    assert tree(tmp_path / "out") == {place}


def test_a_name_that_is_no_utf8_is_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    fill(ResultFolder(str(tmp_path), "csv", [Found(name)]), name, "x")
    assert os.listdir(os.fsencode(tmp_path)) == [b"caf\xe9.wav.csv"]  # noqa: PTH208 - of bytes


@pytest.mark.parametrize(("form", "suffix"), [("audacity", "audacity.txt"), ("table", "txt"), ("srt", "srt")])
def test_formats_have_their_suffixes(tmp_path: Path, form: str, suffix: str) -> None:
    fill(ResultFolder(str(tmp_path), form, [Found("a.wav")]), "a.wav", "x")
    assert tree(tmp_path) == {f"a.wav.{suffix}"}


def test_sources_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^/x/a\.wav and /y/a\.wav would both become "):
        ResultFolder(str(tmp_path), "csv", [Found("/x/a.wav"), Found("b.wav"), Found("/y/a.wav")])


def test_a_name_with_no_room_for_a_suffix_is_refused(tmp_path: Path) -> None:
    longest = "a" * 251
    ResultFolder(str(tmp_path), "csv", [Found(longest)])
    for form in ("jsonl", "npy"):
        with pytest.raises(OutputError, match="too long"):
            ResultFolder(str(tmp_path), form, [Found(longest)])


def test_what_is_there_already_is_said_before_any_work(tmp_path: Path) -> None:
    sources = [Found("a.wav"), Found("b.wav"), Found("gone", InputError("gone"))]
    folder = ResultFolder(str(tmp_path), "csv", sources)
    folder.check()
    (tmp_path / "b.wav.csv").touch()
    with pytest.raises(OutputError, match=r"b\.wav\.csv: the file exists"):
        folder.check()


def test_what_is_left_of_results_that_are_gone_is_not_in_the_way(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path), "npy", [Found("a.wav")])
    folder.complete(MADE)
    (tmp_path / "a.wav.index.csv").write_text("row,source,channel,start_s,end_s\n0,a.wav,mix,0.0,1.0\n")
    with pytest.raises(OutputError, match=r"dymn\.meta\.json: the file exists"):
        folder.check()  # it may be about the result that the index is of
    (tmp_path / "a.wav.index.csv").rename(tmp_path / "dymn.failures.csv")
    folder.check()
    (tmp_path / "dymn.failures.csv").rename(tmp_path / "a.wav.index.csv")
    (tmp_path / "dymn.meta.json").unlink()
    folder.check()
    (tmp_path / "a.wav.npy").touch()
    with pytest.raises(OutputError, match=r"a\.wav\.npy: the file exists"):
        folder.check()
    (tmp_path / "a.wav.npy").unlink()
    (tmp_path / "a.wav.index.csv").unlink()
    (tmp_path / "dymn.meta.json").write_text("{}")
    with pytest.raises(OutputError, match=r"dymn\.meta\.json: the file exists"):
        folder.check()  # somebody else's


def test_a_file_appears_when_it_is_complete_and_replaces_an_older_one(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path), "csv", [Found("a.wav")])
    fill(folder, "a.wav", "old")
    with pytest.raises(RuntimeError), folder.writer("a.wav", lambda stream, _: Plain(stream)) as writer:
        writer.write("half")
        raise RuntimeError
    assert (tmp_path / "a.wav.csv").read_text() == "old"
    fill(folder, "a.wav", "new", " and whole")
    assert (tmp_path / "a.wav.csv").read_text() == "new and whole"
    assert tree(tmp_path) == {"a.wav.csv"}


def test_the_result_of_a_source_that_fails_now_goes(tmp_path: Path) -> None:
    folder = ResultFolder(str(tmp_path), "npy", [Found("a.wav"), Found("b.wav")])
    for name in ("a.wav.npy", "a.wav.index.csv", "b.wav.npy"):
        (tmp_path / name).touch()
    folder.forget("a.wav")
    folder.forget("never heard of")
    assert tree(tmp_path) == {"b.wav.npy"}


def test_leavings_of_killed_runs_go_and_provenance_stands_once(tmp_path: Path) -> None:
    touch(str(tmp_path / "out/x/.dymn-0123456789abcdef.part"))
    folder = ResultFolder(str(tmp_path / "out"), "csv", [Found("x/a.wav")])
    folder.prepare()
    fill(folder, "x/a.wav", "x")
    folder.complete(MADE)
    assert tree(tmp_path / "out") == {"x/a.wav.csv", "dymn.meta.json"}


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="not a folder"):
        ResultFolder(str(tmp_path / "out"), "csv", [])


@pytest.mark.parametrize("link", ["a.wav.npy", "a.wav.index.csv", "sub", "dymn.meta.json"])
def test_nothing_is_written_or_removed_through_a_link(tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    touch(str(elsewhere / "a.wav.npy"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / link).symlink_to(elsewhere if link == "sub" else elsewhere / "new")
    name = "sub/a.wav" if link == "sub" else "a.wav"
    folder = ResultFolder(str(tmp_path / "out"), "npy", [Found(name)])
    with pytest.raises(OutputError, match="a symbolic link"):
        folder.check(lambda name, path: True)
    with pytest.raises(OutputError, match="a symbolic link"):
        fill(folder, name, "x")
        folder.complete(MADE)
    folder.forget(name)
    assert tree(elsewhere) == {"a.wav.npy"}


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    folder = ResultFolder(str(tmp_path / "out"), "csv", [Found("a.wav")])
    folder.prepare()
    fill(folder, "a.wav", "x")
    assert tree(tmp_path / "disk") == {"a.wav.csv"}


def test_what_may_be_replaced_is_asked_for_each_file(tmp_path: Path) -> None:
    touch(*(str(tmp_path / name) for name in ("a.wav.npy", "b.wav.index.csv", "dymn.meta.json")))
    asked = set()
    folder = ResultFolder(str(tmp_path), "npy", [Found("a.wav"), Found("b.wav")])
    folder.check(lambda name, path: not asked.add((name, Path(path).name)))  # type: ignore[func-returns-value]
    assert asked == {("", "dymn.meta.json"), ("a.wav", "a.wav.npy"), ("b.wav", "b.wav.index.csv")}
    with pytest.raises(OutputError, match=r"b\.wav\.index\.csv: the file exists"):
        folder.check(lambda name, path: name != "b.wav")
