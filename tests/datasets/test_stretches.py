"""What a review of events teaches about the stretches that were judged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.datasets.label_tables import Judgement, read_judgements
from dymn_cli.datasets.stretches import rows_of_stretches, stretches_dataset
from dymn_cli.errors import InputError

RATE_HZ = 8_000
HEADER = "source,channel,start_s,end_s,label,mid,score,decision,found\n"


def judged(start: float, end: float, label: str, kept: bool | None, source: str = "n.wav") -> Judgement:
    return Judgement(source, start, end, label, "", kept)


def recording(path: Path, length_s: float = 20) -> None:
    """Every sample says where it stands."""
    n = round(length_s * RATE_HZ)
    soundfile.write(path, np.arange(n, dtype=np.int32) << 8, RATE_HZ, "PCM_24")


def test_each_judged_stretch_is_an_example() -> None:
    rows = rows_of_stretches([judged(1, 2, "Owl", True), judged(5, 6, "Dog", True)])
    assert [(row.start_s, row.end_s, row.labels, row.absent) for row in rows] == [
        (1, 2, ("Owl",), None),
        (5, 6, ("Dog",), None),
    ]


def test_a_label_kept_over_most_of_a_stretch_is_in_it() -> None:
    rows = rows_of_stretches([judged(1, 5, "Bird", True), judged(1.1, 4.8, "Crow", True)])
    assert [set(row.labels) for row in rows] == [{"Bird", "Crow"}, {"Bird", "Crow"}]
    assert rows[0].group == rows[1].group


def test_a_rejected_stretch_says_only_what_it_is_not() -> None:
    rows = rows_of_stretches([judged(1, 2, "Owl", False), judged(5, 6, "Dog", True)])
    assert (rows[0].labels, rows[0].absent) == ((), ("Owl",))
    assert (rows[1].labels, rows[1].absent) == (("Dog",), ("Owl",))


def test_what_nobody_decided_about_a_stretch_is_unknown() -> None:
    rows = rows_of_stretches(
        [
            judged(1, 4, "Owl", True),
            judged(1, 3, "Dog", None),
            judged(3.9, 9, "Cat", True),
            judged(20, 21, "Dog", False),
        ]
    )
    assert (rows[0].labels, rows[0].absent) == (("Owl",), ())  # Dog: open; Cat: touches it
    assert (rows[1].labels, rows[1].absent) == (("Cat",), ("Dog",))


def test_a_label_kept_and_rejected_in_a_place_is_there() -> None:
    (row, _) = rows_of_stretches([judged(1, 2, "Owl", True), judged(1, 2.01, "Owl", False)])
    assert (row.labels, row.absent) == (("Owl",), ())


def test_stretches_of_a_recording_stay_together_where_there_are_enough() -> None:
    def groups(n: int) -> list[str]:
        return [
            row.group
            for row in rows_of_stretches(
                [judged(at, at + 1, "Owl", True, f"{source}.wav") for source in range(n) for at in (0, 5)]
            )
        ]

    assert len(set(groups(4))) == 8
    assert groups(5) == [f"{n}.wav" for n in range(5) for _ in range(2)]


def test_stretches_are_cut_to_the_sample(tmp_path: Path) -> None:
    recording(tmp_path / "n.wav")
    os.utime(tmp_path / "n.wav", ns=(1, 10**18))
    rows = [judged(1, 1.5, "Owl", True), judged(12.25, 13, "Dog", True)]
    data = stretches_dataset(str(tmp_path / "d.csv"), rows, tmp_path / "cut")
    assert data.classes == ("Dog", "Owl")
    first, second = (soundfile.read(one.source, dtype="int32") for one in data.examples)
    assert first[1] == RATE_HZ
    np.testing.assert_array_equal(first[0], np.arange(8_000, 12_000) << 8)
    np.testing.assert_array_equal(second[0], np.arange(98_000, 104_000) << 8)
    assert {Path(one.source).stat().st_mtime_ns for one in data.examples} == {10**18}
    assert "each judged stretch counts as a recording: 2, of 1 file" in data.notes


def test_a_recording_that_is_missing_costs_its_own_stretches(tmp_path: Path) -> None:
    recording(tmp_path / "n.wav", 4)
    rows = [
        judged(1, 2, "Owl", True),
        judged(2, 3, "Dog", True),
        judged(1, 2, "Owl", True, "gone.wav"),
    ]
    data = stretches_dataset("d.csv", rows, tmp_path / "cut", audio=str(tmp_path))
    assert len(data.examples) == 2
    assert data.missing == ("gone.wav, 1.000 - 2.000 s",)
    assert "gone.wav: no such recording (stretches left out: 1)" in data.notes
    with pytest.raises(InputError, match=r"2 of 2 recordings are missing, the first is gone\.wav"):
        stretches_dataset(
            "d.csv",
            [judged(1, 2, "Owl", True, "gone.wav"), judged(3, 4, "Dog", True, "gone.wav")],
            tmp_path / "cut",
        )


def test_a_decision_behind_the_end_is_told(tmp_path: Path) -> None:
    recording(tmp_path / "n.wav", 4)
    rows = [judged(1, 2, "Owl", True), judged(2, 3, "Dog", True), judged(9, 10, "Owl", True)]
    data = stretches_dataset("d.csv", rows, tmp_path / "cut", audio=str(tmp_path))
    assert len(data.examples) == 2
    assert any("n.wav: it ends before 9 s, where a decision is" in note for note in data.notes)


def test_a_stretch_that_ends_far_behind_the_end_is_told(tmp_path: Path) -> None:
    recording(tmp_path / "n.wav", 4)
    rows = [judged(1, 2, "Owl", True), judged(2, 4.9, "Dog", True)]
    data = stretches_dataset("d.csv", rows, tmp_path / "cut", audio=str(tmp_path))
    assert data.warnings == ()
    rows += [judged(3, 999, "Owl", True), judged(3.5, 6, "Owl", True)]
    data = stretches_dataset("d.csv", rows, tmp_path / "cut", audio=str(tmp_path))
    (warning,) = data.warnings
    assert warning.startswith("stretches that end after their recording, and are cut there: 2, the first is")
    assert warning.endswith("n.wav, 3.000 - 999.000 s")


def test_one_label_both_kept_and_rejected_is_enough(tmp_path: Path) -> None:
    recording(tmp_path / "n.wav")
    rows = [judged(1, 2, "Owl", True), judged(5, 6, "Owl", False)]
    data = stretches_dataset("d.csv", rows, tmp_path / "cut", audio=str(tmp_path))
    assert (data.classes, data.is_multilabel) == (("Owl",), True)
    np.testing.assert_array_equal(data.targets(), [[True], [False]])
    assert data.known().all()
    with pytest.raises(InputError, match="only the class 'Owl'"):
        stretches_dataset("d.csv", rows[:1], tmp_path / "cut", audio=str(tmp_path))


def test_events_that_are_too_short_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"d\.csv: no decided event is 0\.05 s long or longer"):
        stretches_dataset("d.csv", [judged(1, 1.01, "Owl", True)], tmp_path / "cut")


def test_a_review_is_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(HEADER + 'n.wav,mix,1,2,"Chirp, tweet",/m/x,0.5,keep,Owl\nn.wav,mix,3,4,Dog,,,,Dog\n')
    assert read_judgements(path) == (
        Judgement("n.wav", 1, 2, "Chirp, tweet", "/m/x", True),
        Judgement("n.wav", 3, 4, "Dog", "", None),
    )
    path.write_text("file,label\nn.wav,Dog\n")
    assert read_judgements(path) is None


def test_a_spreadsheet_may_write_the_times_of_a_review_with_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"{HEADER.replace(',', ';')}n.wav;mix;1,5;2,25;Owl;;0,5;keep;Owl\n")
    assert read_judgements(path) == (Judgement("n.wav", 1.5, 2.25, "Owl", "", True),)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("n.wav,mix,1,2,Dog,,,perhaps,Dog", r"line 2: the decision is 'perhaps', neither keep nor reject"),
        ("n.wav,mix,1,soon,Dog,,,keep,Dog", r"line 2: 'soon' is not a time in seconds"),
        ("n.wav,mix,1,inf,Dog,,,keep,Dog", r"line 2: 'inf' is not a time in seconds"),
        ("n.wav,mix,3,2,Dog,,,keep,Dog", r"line 2: the event ends before it starts"),
        ("n.wav,mix,1,2,,,,keep,Dog", r"line 2: no label"),
        (",mix,1,2,Dog,,,keep,Dog", r"line 2: no file name"),
        ("n.wav,mix,1,2,Dog,,,,Dog", r"nothing in this review is decided"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"{HEADER}{row}\n")
    with pytest.raises(InputError, match=said):
        read_judgements(path)
