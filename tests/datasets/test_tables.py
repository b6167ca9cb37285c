"""Tables of text in the dialects that people and programs write, and errors that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dymn_cli.datasets.tables import read_table, separator_of, small_table
from dymn_cli.errors import InputError, UsageError


def written(tmp_path: Path, data: bytes) -> str:
    (tmp_path / "table.txt").write_bytes(data)
    return str(tmp_path / "table.txt")


@pytest.mark.parametrize(
    "data",
    [
        b"name, label\na.wav, Dog\n\nb.wav\n",
        b"\xef\xbb\xbfname;label\r\na.wav;Dog\r\n;\r\nb.wav;\r\n",
        b"name\tlabel\ra.wav\tDog\rb.wav\t\r",
        b'# made by hand\n"name","label"\n"a.wav","Dog"\n# b comes last\nb.wav,\n',
    ],
    ids=[
        "spaces and a short row",
        "semicolons of a spreadsheet",
        "tabs of an old Mac",
        "comments and quotes",
    ],
)
def test_what_people_write_is_one_table(tmp_path: Path, data: bytes) -> None:
    table = small_table(written(tmp_path, data), InputError)
    assert table.columns == ("name", "label")
    assert [row for _, row in table] == [{"name": "a.wav", "label": "Dog"}, {"name": "b.wav", "label": ""}]


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("a,b;c", ","),
        ("a;b, c", ";"),
        ("a\tb, c;d", "\t"),
        ('"a, b";"c\t"', ";"),
        ("alone", ","),
    ],
)
def test_the_separator_is_the_first_outside_of_quotes(header: str, separator: str) -> None:
    assert separator_of(header) == separator


def test_a_table_behind_another_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, b"source;label\na.wav;Dog\nsource;label\nb.wav;Cat\n")
    for table in (small_table(path, InputError), read_table(path, ",;")):
        with pytest.raises(InputError, match="line 3: the names of the columns again"):
            list(table)


def test_lines_are_counted_from_the_beginning_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, b'# one\n\nname,label\n"a\nb",Dog\nc,Cat,Owl\n')
    table = small_table(path, UsageError)
    lines = iter(table)
    assert next(lines) == (5, {"name": "a\nb", "label": "Dog"})
    with pytest.raises(UsageError, match=r"table\.txt, line 6: 3 cells for 2 columns") as caught:
        next(lines)
    assert "quotes" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"# only a comment\n\n", "empty"),
        (b"a,b,a\n", "line 1: two columns have the name 'a'"),
        (b"a,b\0\n", "not a table of text"),
        (b'a,b\n1,"2\n', "line 2: not a table: unexpected end of data"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(small_table(written(tmp_path, data), UsageError))


def test_what_programs_write_is_taken_exactly(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, b'source,label\n" a.wav",\xff Dog \n'), ",")
    assert list(table) == [(2, {"source": " a.wav", "label": "\udcff Dog "})]
    quotes_are_text = read_table(written(tmp_path, b'source\tlabel\n"a\t"b\n'), "\t")
    assert list(quotes_are_text) == [(2, {"source": '"a', "label": '"b'})]
    with pytest.raises(InputError, match="line 2: 1 cell for 2 columns"):
        list(read_table(written(tmp_path, b"source,label\na.wav\n"), ","))


@pytest.mark.parametrize("header", [b"", b"source\tlabel\n"])
def test_a_header_may_be_missing(tmp_path: Path, header: bytes) -> None:
    table = read_table(written(tmp_path, header + b"a.wav\tDog\n"), "\t", columns=("source", "label"))
    assert [row for _, row in table] == [{"source": "a.wav", "label": "Dog"}]
