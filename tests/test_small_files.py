"""Files that the user names by mistake or out of malice: one line of an error, within seconds."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dymn_cli import small_files
from dymn_cli.errors import DymnError, InputError, UsageError
from dymn_cli.small_files import bounded_lines, read_small, read_small_text

posix_only = pytest.mark.skipif(os.name != "posix", reason="devices and named pipes are Unix's")


def readers() -> dict[str, Callable[[str], object]]:
    """All that read a table or list which the user names."""
    from dymn_cli.cli.commands.distill import _config
    from dymn_cli.datasets.label_tables import read_label_table
    from dymn_cli.datasets.recordings import groups_of_manifest
    from dymn_cli.evaluation.ground_truth import read_ground_truth, read_label_map
    from dymn_cli.store.class_names import read_class_names
    from dymn_cli.store.index import read_index
    from dymn_cli.tagging.thresholds import read_thresholds
    from dymn_cli.train.distill.splits import read_split

    return {
        "thresholds": read_thresholds,
        "label table": read_label_table,
        "truth": read_ground_truth,
        "label map": read_label_map,
        "class names": lambda path: read_class_names(Path(path)),
        "manifest": lambda path: groups_of_manifest(Path(path), "label"),
        "split": lambda path: read_split(Path(path), ("a",)),
        "index": lambda path: read_index(Path(path)),
        "architecture": _config,
    }


READERS = ("thresholds", "label table", "truth", "label map", "class names", "manifest", "split", "index")


def refused(read: Callable[[str], object], path: object) -> str:
    began = time.monotonic()
    with pytest.raises(DymnError) as caught:
        read(str(path))
    assert time.monotonic() - began < 10
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value.message


@posix_only
@pytest.mark.parametrize("what", READERS)
def test_a_device_without_an_end_is_refused(what: str) -> None:
    assert "a device, not a file" in refused(readers()[what], "/dev/zero")


@posix_only
@pytest.mark.parametrize("what", READERS)
def test_a_pipe_that_nobody_writes_to_is_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_files, "WAIT_S", 0.1)
    os.mkfifo(tmp_path / "pipe")
    assert "no data for" in refused(readers()[what], tmp_path / "pipe")


@pytest.mark.parametrize("what", READERS)
def test_a_huge_file_is_refused(what: str, tmp_path: Path) -> None:
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(200 << 30)
    assert "larger than" in refused(readers()[what], tmp_path / "huge.csv")


@pytest.mark.parametrize("what", READERS)
def test_a_folder_and_a_missing_file_are_refused(what: str, tmp_path: Path) -> None:
    if what != "truth":  # may be a folder
        assert "a folder, not a file" in refused(readers()[what], tmp_path)
    assert "no such file" in refused(readers()[what], tmp_path / "gone")


@posix_only
def test_an_architecture_from_a_pipe_or_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_files, "WAIT_S", 0.1)
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    assert "a device" in refused(readers()["architecture"], tmp_path / "zero.json")


@posix_only
def test_what_a_process_writes_into_a_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        time.sleep(0.2)
        with pipe.open("w") as file:
            file.write("label,thres")
            file.flush()
            time.sleep(0.2)
            file.write("hold\nDog,0.5\n")

    writer = threading.Thread(target=write)
    writer.start()
    from dymn_cli.tagging.thresholds import read_thresholds

    assert read_thresholds(str(pipe)).pairs == (("Dog", 0.5),)
    writer.join()


@posix_only
def test_a_pipe_without_an_end_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(InputError, match="larger than 1 MB"):
        read_small(pipe, InputError, max_bytes=1 << 20)
    writer.join(10)


def test_text_is_utf_8_with_or_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_small_text(path, UsageError) == "a\r\nb"
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"t\.txt: not text in UTF-8"):
        read_small_text(path, UsageError)
    with pytest.raises(UsageError, match="--labels here: not text"):
        read_small_text(path, UsageError, where="--labels here")
    assert read_small_text(path, UsageError, errors="surrogateescape") == "\udcff"


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(UsageError):
        read_small("a\0b", UsageError)


def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_files, "LONGEST_LINE", 100)
    assert list(bounded_lines(io.StringIO("a\nb"), "t", InputError)) == ["a\n", "b"]
    with pytest.raises(InputError, match="t: a line of more than"):
        list(bounded_lines(io.StringIO("x" * 1000), "t", InputError))


@posix_only
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json"])
def test_a_finished_result_without_an_end_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dymn_cli.evaluation.score_files import read_scores

    monkeypatch.setattr(small_files, "LONGEST_LINE", 1 << 20)
    (tmp_path / name).symlink_to("/dev/zero")
    refused(lambda path: read_scores([path]), tmp_path / name)
