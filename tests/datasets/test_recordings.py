from __future__ import annotations

from pathlib import Path

import pytest

from dymn_cli.datasets.recordings import find_recordings, groups_of_manifest, named_split, split_groups
from dymn_cli.errors import InputError, UsageError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/one.wav", "a/two.wav", "b/deep/three.wav", "top.wav"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"")
    return tmp_path / "data"


def test_a_recordings_group_is_its_folder(tree: Path) -> None:
    found, problems = find_recordings([str(tree)])
    assert {one.name: one.group for one in found} == {
        "a/one.wav": "a",
        "a/two.wav": "a",
        "b/deep/three.wav": "b/deep",
        "top.wav": "data",
    }
    assert problems == []


def test_names_without_recordings_come_with_their_errors(tree: Path) -> None:
    empty = tree / "12:30"
    empty.mkdir()
    found, problems = find_recordings([str(tree / "top.wav"), str(empty)])
    assert [one.name for one in found] == ["top.wav"]
    assert [name for name, _ in problems] == [str(empty)]


def test_equal_folders_of_several_inputs_stay_apart(tree: Path) -> None:
    found, _ = find_recordings([str(tree / "a"), str(tree / "b")])
    assert [one.group for one in found] == ["a/a", "a/a", "b/deep"]


def test_a_manifest_says_the_groups(tree: Path) -> None:
    manifest = tree / "MANIFEST.csv"
    manifest.write_text("path,origin\na/one.wav,x\nb/deep/three.wav,x\n", "utf-8")
    groups = groups_of_manifest(manifest, "origin")
    found, _ = find_recordings([str(tree)], groups=groups)
    assert {one.name: one.group for one in found} == {
        "a/one.wav": "x",
        "a/two.wav": "a",
        "b/deep/three.wav": "x",
        "top.wav": "data",
    }


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("file,x\na,b\n", UsageError, "no column 'origin'"),
        ("foo,origin\na,b\n", InputError, "no column of paths"),
        (None, InputError, "no such file"),
    ],
)
def test_a_manifest_that_does_not_serve(
    tmp_path: Path, text: str | None, error: type[Exception], words: str
) -> None:
    if text is not None:
        (tmp_path / "m.csv").write_text(text, "utf-8")
    with pytest.raises(error, match=f"(?i){words}"):
        groups_of_manifest(tmp_path / "m.csv", "origin")


def test_an_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio files in this folder"):
        find_recordings([str(tmp_path)])


def test_whole_groups_are_held_out() -> None:
    groups = [f"g{n % 20}" for n in range(1000)]
    split = split_groups(groups, 0.2, seed=0)
    assert len(split.held_out) == 4
    assert not set(split.held_out) & set(split.training)
    assert set(split.held_out) | set(split.training) == set(groups)
    assert split_groups(reversed(groups), 0.2, seed=0) == split
    assert split_groups(groups, 0.2, seed=1) != split


def test_a_group_that_is_far_too_large_is_learnt_from() -> None:
    groups = ["large"] * 900 + [f"g{n}" for n in range(100)]
    for seed in range(5):
        split = split_groups(groups, 0.05, seed)
        assert "large" in split.training
        assert 45 <= len(split.held_out) <= 55


def test_two_large_groups_are_split_all_the_same() -> None:
    split = split_groups(["a"] * 10 + ["b"] * 20, 0.1, seed=0)
    assert (split.held_out, split.training) == (("a",), ("b",))


def test_nothing_held_out_when_so_asked() -> None:
    assert split_groups(["a", "a"], 0.0, 0).held_out == ()
    assert split_groups(["a", "a"], 1.0, 0).training == ()
    assert split_groups(["a", "b"], 1.0, 0).held_out == ("a", "b")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(UsageError, match="cannot hold out a share"):
        split_groups(["a", "b"], share, 0)


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="one group"):
        split_groups(["a", "a"], 0.1, 0)


def test_groups_are_held_out_by_name() -> None:
    groups = ["corpus/animalia/cats", "corpus/animalia", "corpus2/noisekun", "corpus2/noise", "corpus/petz"]
    split = named_split([*groups, *groups], ["animalia", "noisekun/"])
    assert split.held_out == ("corpus/animalia", "corpus/animalia/cats", "corpus2/noisekun")
    assert split.training == ("corpus/petz", "corpus2/noise")
    assert named_split(groups, ["corpus2"]).held_out == ("corpus2/noise", "corpus2/noisekun")
    with pytest.raises(UsageError, match="no group 'animals' to hold out") as caught:
        named_split(groups, ["animals"])
    assert "animalia" in caught.value.hint
    with pytest.raises(UsageError, match="no group 'cat' to hold out"):
        named_split(groups, ["cat"])
