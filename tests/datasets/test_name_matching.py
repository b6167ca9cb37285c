"""Which recording a name means, however it is spelled."""

from __future__ import annotations

import pytest

from dymn_cli.datasets.name_matching import match_names


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/audio/dog.wav", "dog.wav"),
        ("audio/dog.wav", "/mnt/sounds/audio/dog.wav"),
        ("FSD50K.dev_audio/64760.wav", "64760"),
        ("audio\\dog.wav", "./audio/dog.wav"),
        ("clips/dog.flac", "clips/dog.wav"),
        ("na\udcffme.wav", "na\udcffme.wav"),
    ],
)
def test_one_path_ends_with_the_other(source: str, name: str) -> None:
    assert match_names([source, "other.wav"], ["nothing.wav", name]) == [1, None]


def test_the_longest_agreement_counts() -> None:
    names = ["take.wav", "dog/take.wav", "cat/take.wav"]
    assert match_names(["x/cat/take.wav", "x/dog/take.wav", "x/owl/take.wav"], names) == [2, 1, 0]
    assert match_names(["1.wav", "1.flac"], ["1.flac", "1.wav"]) == [1, 0]


def test_what_may_be_either_is_neither() -> None:
    assert match_names(["take.wav"], ["dog/take.wav", "cat/take.wav"]) == [None]


def test_recordings_that_have_moved_are_known_by_their_name_if_it_is_the_only_one() -> None:
    names = ["/old/place/a.wav", "/old/place/b.wav", "/old/other/b.wav"]
    assert match_names(["new/a.wav", "new/b.wav"], names) == [0, None]
    assert match_names(["new/a.wav", "place/b.wav"], names) == [
        None,
        1,
    ]  # where some paths agree, they decide


@pytest.mark.parametrize("file", ["-0RWZT-miFs.wav", "Y-0RWZT-miFs.mp3", "Y-0RWZT-miFs_420.000_430.000.wav"])
def test_files_of_videos_begin_with_their_id(file: str) -> None:
    names = ["YYYYYYYYYYY", "-0RWZT-miFs"]
    assert match_names([f"audioset/{file}"], names, videos=True) == [1]
    assert match_names(["YYYYYYYYYYYY.wav", "YYYYYYYYYYY.wav"], names, videos=True) == [0, 0]
    assert match_names(["Y-0RWZT-miFsomething.wav"], names, videos=True) == [None]


def test_what_says_nothing_in_a_path_does_not_count() -> None:
    assert match_names(["audio/a.wav", "audio/b.wav"], ["./audio//a.wav", "x/../audio/b.wav"]) == [0, 1]
    assert match_names(["/data/audio/a.wav"], ["../audio/a.wav"]) == [0]
