from __future__ import annotations

import json
from pathlib import Path

import pytest

from dymn_cli.datasets.recordings import Split
from dymn_cli.errors import InputError
from dymn_cli.train.distill.splits import read_split, write_split

GROUPS = ["a", "a", "b", "c"]


def test_a_split_is_held_out_again(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    write_split(path, Split(("a", "c"), ("b",)), GROUPS, group_by="folder", seed=3)
    document = json.loads(path.read_text())
    assert (document["n_clips"], document["n_held_out"], document["seed"]) == (4, 1, 3)
    assert read_split(path, GROUPS) == Split(("a", "c"), ("b",))
    assert read_split(path, [*GROUPS, "new"]) == Split(("a", "c", "new"), ("b",))


def test_a_split_of_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    write_split(path, Split((), ("x",)), ["x"], group_by="folder", seed=0)
    with pytest.raises(InputError, match="none of its 1 held-out groups"):
        read_split(path, GROUPS)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "other", "held_out": 3}'])
def test_what_is_no_split(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"split\.json"):
        read_split(path, GROUPS)
