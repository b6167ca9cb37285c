"""Data sets out of folders and tables, and what is said of those that cannot teach anything."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.datasets.dataset import Dataset, read_folder, read_table
from dymn_cli.errors import InputError, UsageError
from dymn_cli.values import listed, listed_labels


def files(top: Path, *names: str) -> Path:
    """Empty files: data sets are made without opening any."""
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return top


def labels_of(data: Dataset) -> dict[str, tuple[str, ...]]:
    return {Path(e.source).name: e.labels for e in data.examples}


def test_a_folder_has_a_class_for_each_of_its_folders(tmp_path: Path) -> None:
    top = files(tmp_path, "dog/1.wav", "dog/more/2.flac", "cat/3.wav", "cat/notes.txt", ".git/4.wav")
    data = read_folder(top)
    assert data.classes == ("cat", "dog")
    assert labels_of(data) == {"1.wav": ("dog",), "2.flac": ("dog",), "3.wav": ("cat",)}
    assert not data.is_multilabel
    assert data.notes == ()


def test_classes_that_differ_only_in_case_are_told(tmp_path: Path) -> None:
    files(tmp_path, *(f"{n}.wav" for n in range(4)))
    (tmp_path / "t.csv").write_text("file,label\n0.wav,digits\n1.wav,Digits\n2.wav,owl\n3.wav,digits\n")
    data = read_table(tmp_path / "t.csv")
    assert data.classes == ("Digits", "digits", "owl")
    assert data.warnings == ('classes that differ only in case: "Digits" (1), "digits" (2)',)


def test_parts_of_a_folder_are_its_split(tmp_path: Path) -> None:
    top = files(tmp_path, "train/dog/1.wav", "train/cat/2.wav", "test/dog/3.wav", "test/cat/4.wav")
    data = read_folder(top)
    assert data.classes == ("cat", "dog")
    assert {Path(e.source).name: e.split for e in data.examples} == {
        "1.wav": "train", "2.wav": "train", "3.wav": "test", "4.wav": "test",
    }  # fmt: skip
    assert "the folders test, train are used as parts of the data" in data.notes


def test_files_without_a_class_and_classes_without_a_file_are_said(tmp_path: Path) -> None:
    top = files(tmp_path, "dog/1.wav", "cat/2.wav", "owl/readme.txt", "loose.wav")
    data = read_folder(top)
    assert data.classes == ("cat", "dog")
    assert any("in no class, which are left out: 1" in note for note in data.notes)
    assert any("no audio in owl" in note for note in data.notes)


def test_a_file_that_two_classes_link_to_has_both(tmp_path: Path) -> None:
    top = files(tmp_path, "dog/1.wav", "cat/2.wav")
    (top / "cat/linked.wav").symlink_to(top / "dog/1.wav")
    data = read_folder(top)
    assert data.is_multilabel
    assert sorted(len(e.labels) for e in data.examples) == [1, 2]


def test_a_file_cannot_be_in_two_parts(tmp_path: Path) -> None:
    top = files(tmp_path, "train/dog/1.wav", "train/cat/2.wav", "test/dog/3.wav")
    (top / "test/dog/linked.wav").symlink_to(top / "train/dog/1.wav")
    with pytest.raises(InputError, match=r"1\.wav: the same recording as .*linked\.wav, in another part"):
        read_folder(top)


@pytest.mark.parametrize("other", ["./a.wav", "sub/../a.wav", "a", "link.wav", "{top}/a.wav", "linked/a.wav"])
def test_a_recording_is_one_however_it_is_spelled(tmp_path: Path, other: str) -> None:
    top = files(tmp_path, "a.wav", "b.wav", "sub/c.wav")
    (top / "link.wav").symlink_to("a.wav")
    (top / "linked").symlink_to(".")
    other = other.format(top=top)
    table = top / "labels.csv"
    table.write_text(f"file,label\na.wav,Dog\nb.wav,Cat\n{other},Purr\n")
    data = read_table(table)
    assert [Path(example.source).name for example in data.examples] == ["a.wav", "b.wav"]
    assert labels_of(data) == {"a.wav": ("Dog", "Purr"), "b.wav": ("Cat",)}
    assert any("whose labels are merged: 1" in note for note in data.notes)


@pytest.mark.parametrize(("column", "what"), [("fold", "fold"), ("split", "fold"), ("group", "group")])
def test_a_recording_cannot_be_on_both_sides(tmp_path: Path, column: str, what: str) -> None:
    top = files(tmp_path, "a.wav", "b.wav")
    (top / "link.wav").symlink_to("a.wav")
    table = top / "labels.csv"
    for name in ("./a.wav", "link.wav"):
        table.write_text(f"file,label,{column}\na.wav,Dog,train\nb.wav,Cat,test\n{name},Dog,test\n")
        with pytest.raises(InputError) as caught:
            read_table(table)
        said = f"{table}, line 4: {name} is in another {what} on line 2, as a.wav"
        assert caught.value.message == said


def test_a_table_says_where_its_files_are(tmp_path: Path) -> None:
    files(tmp_path, "a.wav", "sub/b.wav", "64760.wav")
    (tmp_path / "t.csv").write_text("file,label,fold,group\na.wav,Dog,1,g\nsub/b.wav,Cat,2,\n64760,Dog,1,\n")
    data = read_table(tmp_path / "t.csv")
    assert [Path(e.source) for e in data.examples] == [
        tmp_path / "a.wav", tmp_path / "sub/b.wav", tmp_path / "64760.wav",
    ]  # fmt: skip
    assert [(e.fold, e.group) for e in data.examples] == [("1", "g"), ("2", ""), ("1", "")]


def test_files_of_a_table_may_be_anywhere_in_another_folder(tmp_path: Path) -> None:
    files(tmp_path / "audio", "x/a.wav", "y/b.flac", "c.wav")
    (tmp_path / "t.csv").write_text("file,label\na.wav,Dog\nb.wav,Cat\n")
    data = read_table(tmp_path / "t.csv", audio=tmp_path / "audio")
    assert labels_of(data) == {"a.wav": ("Dog",), "b.flac": ("Cat",)}
    assert any("without a label, which are left out: 1" in note for note in data.notes)


def test_the_task_is_that_of_the_data_unless_it_is_said(tmp_path: Path) -> None:
    files(tmp_path, "a.wav", "b.wav", "c.wav")
    (tmp_path / "one.csv").write_text("file,label\na.wav,Dog\nb.wav,Cat\n")
    (tmp_path / "many.csv").write_text("file,label\na.wav,Dog;Cat\nb.wav,Cat\nc.wav,\n")
    assert not read_table(tmp_path / "one.csv").is_multilabel
    assert read_table(tmp_path / "one.csv", task="many").is_multilabel
    many = read_table(tmp_path / "many.csv")
    assert many.is_multilabel
    assert "1 of 3 recordings have several labels" in many.notes
    assert "recordings without a label, examples of no class: 1" in many.notes
    with pytest.raises(InputError, match=r'with several: 1; .*a\.wav has "Cat", "Dog"'):
        read_table(tmp_path / "many.csv", task="one")
    with pytest.raises(UsageError, match="no task 'some'"):
        read_table(tmp_path / "one.csv", task="some")  # type: ignore[arg-type]


def test_targets_and_what_is_known_as_tables(tmp_path: Path) -> None:
    files(tmp_path, "k1.wav", "k2.wav")
    (tmp_path / "t.csv").write_text("sample_key,instrument,relevance\nk1,flute,1\nk1,banjo,0\nk2,banjo,0.8\n")
    data = read_table(tmp_path / "t.csv")
    assert data.classes == ("banjo", "flute")
    np.testing.assert_array_equal(data.targets(), [[False, True], [True, False]])
    np.testing.assert_array_equal(data.known(), [[True, True], [True, False]])


def test_some_recordings_may_be_missing_but_not_most(tmp_path: Path) -> None:
    files(tmp_path, "a.wav", "b.wav")
    (tmp_path / "t.csv").write_text("file,label\na.wav,Dog\nb.wav,Cat\nc.wav,Cat\n")
    assert read_table(tmp_path / "t.csv").missing == ("c.wav",)
    (tmp_path / "t.csv").write_text("file,label\na.wav,Dog\nx.wav,Dog\ny.wav,Cat\n")
    with pytest.raises(InputError, match=r"2 of 3 recordings are missing, the first is x\.wav") as caught:
        read_table(tmp_path / "t.csv")
    assert caught.value.hint == "name their folder with --audio DIR"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "no class in this folder"),
        (("loose.wav",), "no class in this folder"),
        (("dog/1.wav", "dog/2.wav"), "only the class 'dog', where two or more are needed"),
        (("dog/1.wav", "cat/notes.txt"), "only the class 'dog'"),
    ],
)
def test_folders_that_teach_nothing(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_folder(files(tmp_path, *names))


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_a_folder_whose_name_is_no_utf8_is_no_class(tmp_path: Path) -> None:
    files(tmp_path, "dog/1.wav")
    files(tmp_path, "caf\udce9/2.wav")
    with pytest.raises(InputError, match=r'the label "caf\\xe9" is not UTF-8') as caught:
        read_folder(tmp_path)
    assert caught.value.hint == "rename the folder"


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(InputError, match="nowhere: no such file or directory"):
        read_folder("nowhere")


def test_a_table_whose_files_are_of_one_class_only(tmp_path: Path) -> None:
    files(tmp_path, "a.wav", "b.wav")
    (tmp_path / "t.csv").write_text("file,label\na.wav,Dog\nb.wav,Dog\nc.wav,Cat\n")
    with pytest.raises(InputError, match="recordings of one class only"):
        read_table(tmp_path / "t.csv")


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdef")) == "a, b, c and 3 more"
    assert listed_labels(["Chirp, tweet", "Dog"]) == '"Chirp, tweet", "Dog"'
