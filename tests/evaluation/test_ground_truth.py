"""Truth and recordings are brought together: names, labels, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dymn_cli.datasets.label_tables import LabelRow
from dymn_cli.errors import InputError, UsageError
from dymn_cli.evaluation.ground_truth import GroundTruth, match, read_ground_truth, read_label_map
from dymn_cli.labels import Vocabulary

OWN = Vocabulary.from_names(["Dog", "Cat", "Subway, metro"])


def truth(*rows: tuple[str, tuple[str, ...]]) -> GroundTruth:
    return GroundTruth("truth.csv", tuple(LabelRow(name, labels) for name, labels in rows))


def test_labels_are_names_ids_or_slugs() -> None:
    said = GroundTruth(
        "t",
        (
            LabelRow("a.wav", ("dog",)),
            LabelRow("b.wav", ("subway-metro-underground",)),
            LabelRow("c.wav", ("Electric_guitar", "whatever"), ("/m/02sgy", "/m/04rlf")),
        ),
    )
    vocabulary = Vocabulary.audioset()
    found = match(said, ["x/c.wav", "x/a.wav", "x/b.wav"], vocabulary)
    names = [{vocabulary[n].name for n in np.flatnonzero(row)} for row in found.truth]
    assert names == [{"Electric guitar", "Music"}, {"Dog"}, {"Subway, metro, underground"}]
    assert list(found.recordings) == [0, 1, 2]
    assert found.known is None


def test_a_map_says_what_other_words_mean(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text('truth,label\ntube,"Subway, metro"\npets,Dog\npets,Cat\nsilence,\n')
    said = truth(("a.wav", ("tube",)), ("b.wav", ("pets", "silence")), ("c.wav", ("silence",)))
    found = match(said, ["a.wav", "b.wav", "c.wav"], OWN, mapping=read_label_map(path))
    np.testing.assert_array_equal(found.truth, [[False, False, True], [True, True, False]])
    assert list(found.recordings) == [0, 1]
    assert (found.n_dropped, found.ignored) == (1, ())


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_map_may_come_from_any_spreadsheet(tmp_path: Path, separator: str) -> None:
    text = separator.join(("truth", "label")) + "\n" + separator.join(("tube", "Subway, metro")) + "\n"
    (tmp_path / "map.csv").write_text(text)
    assert read_label_map(tmp_path / "map.csv") == {"tube": ("Subway, metro",)}


def test_labels_that_the_model_does_not_have_are_listed() -> None:
    said = truth(("a.wav", ("Dogs",)), ("b.wav", ("Cat", "zither")), ("c.wav", ("Cat",)))
    with pytest.raises(
        UsageError, match=r'2 labels unknown to the model: "Dogs", "zither" \("Dogs": nearest: "Dog"'
    ) as caught:
        match(said, ["a.wav", "b.wav", "c.wav"], OWN)
    assert "--map" in (caught.value.hint or "")
    found = match(said, ["a.wav", "b.wav", "c.wav"], OWN, ignore_unknown=True)
    assert found.ignored == ("Dogs", "zither")
    assert (list(found.recordings), found.n_dropped) == ([1, 2], 1)


def test_recordings_on_one_side_only_are_told() -> None:
    said = truth(("a.wav", ("Dog",)), ("b.wav", ("Cat",)))
    found = match(said, ["c.wav", "x/b.wav"], OWN)
    assert found.without_truth == ("c.wav",)
    assert found.without_recording == ("a.wav",)
    assert list(found.recordings) == [1]


def test_recordings_without_a_label_have_none_of_the_classes() -> None:
    found = match(truth(("a.wav", ("Dog",)), ("b.wav", ())), ["a.wav", "b.wav"], OWN)
    np.testing.assert_array_equal(found.truth, [[True, False, False], [False, False, False]])


def test_what_is_absent_is_known_and_the_rest_is_not() -> None:
    said = GroundTruth("t", (LabelRow("a.wav", ("Dog",), absent=("Cat",)),))
    found = match(said, ["a.wav"], OWN)
    assert found.known is not None
    np.testing.assert_array_equal(found.known, [[True, True, False]])


def test_one_row_cannot_mean_two_recordings() -> None:
    said = truth(("take.wav", ("Dog",)), ("b.wav", ("Cat",)))
    with pytest.raises(InputError, match=r"take\.wav matches both x/take\.wav and y/take\.wav"):
        match(said, ["x/take.wav", "y/take.wav"], OWN)


def test_nothing_in_common_is_said_with_examples() -> None:
    with pytest.raises(InputError, match=r"names like a\.wav, the recordings like other\.wav"):
        match(truth(("a.wav", ("Dog",))), ["other.wav"], OWN)


def test_a_folder_is_a_truth(tmp_path: Path) -> None:
    for name in ("Dog/1.wav", "Cat/1.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = match(read_ground_truth(tmp_path), ["sounds/Dog/1.wav", "sounds/Cat/1.wav"], OWN)
    np.testing.assert_array_equal(found.truth, [[True, False, False], [False, True, False]])


def test_one_part_of_the_truth() -> None:
    rows = (LabelRow("a.wav", ("Dog",), split="train"), LabelRow("b.wav", ("Dog",), fold="3", split="test"))
    said = GroundTruth("t", rows)
    assert [row.source for row in said.only("test").rows] == ["b.wav"]
    assert [row.source for row in said.only("3").rows] == ["b.wav"]
    with pytest.raises(UsageError, match="has no part 'val'") as caught:
        said.only("val")
    assert caught.value.hint == "train, test, 3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "must name the columns truth,label"),
        ("truth,label\n,Dog\n", "line 2: no word in the column truth"),
        ("truth,label\nx,Subway, metro\n", "line 2: 3 cells for 2 columns"),
    ],
)
def test_maps_that_make_no_sense(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_label_map(tmp_path / "map.csv")
    with pytest.raises(UsageError, match="no such file"):
        read_label_map(tmp_path / "none.csv")


def test_two_spellings_of_a_name_are_one_recording(tmp_path: Path) -> None:
    table = tmp_path / "truth.csv"
    table.write_text("file,label\na.wav,Dog\n./a.wav,Bark\n")
    truth = read_ground_truth(table)
    assert [(row.source, row.labels) for row in truth.rows] == [("a.wav", ("Dog", "Bark"))]
    found = match(truth, ["clips/a.wav"], Vocabulary.audioset())
    assert found.truth.sum() == 2
