"""Names of classes from a file: one a line, commas and all, or a column."""

from __future__ import annotations

from pathlib import Path

import pytest

from dymn_cli.errors import UsageError
from dymn_cli.store.class_names import read_class_names


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("x.txt", b"Rain\nSubway, metro\n\xe9\x9b\xa8\n"),
        ("x.txt", b"\xef\xbb\xbfRain\r\nSubway, metro\r\n\xe9\x9b\xa8\r\n\r\n"),
        ("x.csv", b'index,mid,display_name\n0,/m/1,Rain\n1,/m/2,"Subway, metro"\n2,/m/3,\xe9\x9b\xa8\n'),
        ("x.CSV", b'label\nRain\n"Subway, metro"\n\xe9\x9b\xa8\n'),
    ],
)
def test_names_are_read_in_order(file: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(data)
    assert read_class_names(tmp_path / file).names == ("Rain", "Subway, metro", "雨")


@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        ("x.txt", b"", "at least one"),
        ("x.txt", b"Rain\n\nSnow\n", "label 1 has no name"),
        ("x.txt", b"Rain\nRain\n", "'Rain' occurs twice"),
        ("x.txt", b"\xff\xfe", "not text in UTF-8"),
        ("x.csv", b"a,b\n1,2\n", "no column of names"),
        ("x.csv", b"", "no column of names"),
        ("x.csv", b'label\n"Rain\n', "not a readable CSV"),
        ("gone.txt", None, "no such file"),
    ],
)
def test_what_is_no_list_of_names_is_told_in_a_line(
    file: str, data: bytes | None, words: str, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / file).write_bytes(data)
    with pytest.raises(UsageError, match=words) as caught:
        read_class_names(tmp_path / file)
    assert "--labels" in caught.value.message
