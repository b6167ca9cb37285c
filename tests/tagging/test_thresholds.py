"""The file of `--thresholds`: what is read, and what is said of what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from dymn_cli.errors import UsageError
from dymn_cli.labels import Vocabulary
from dymn_cli.tagging.thresholds import read_thresholds


def test_a_row_is_a_label_by_id_or_name(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        'mid,label,threshold\n/m/09x0r,Speech,0.5\n,"Subway, metro, underground",0.25\n/m/0bt9lr,,1\n',
        "utf-8",
    )
    assert read_thresholds(str(path)).pairs == (
        ("/m/09x0r", 0.5),
        ("Subway, metro, underground", 0.25),
        ("/m/0bt9lr", 1.0),
    )


@pytest.mark.parametrize(
    "text",
    [
        "label,threshold\nDog,0.5\n",
        "threshold,label\n0.5,Dog\n",
        "label,threshold,note\nDog,0.5,a note\n",
        "\ufefflabel,threshold\r\nDog,0.5\r\n\r\n",
        "mid,label,threshold\n, Dog ,5e-1",
        "\ufeffmid;label;threshold\r\n;Dog;0,5\r\n;;\r\n",
        "label\tthreshold\r\nDog\t0.5\r\n",
    ],
)
def test_columns_in_any_order_others_beside_them_and_what_spreadsheets_add(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    assert read_thresholds(str(path)).pairs == (("Dog", 0.5),)


def test_a_file_with_a_header_alone_has_no_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("mid,label,threshold\n", "utf-8")
    assert read_thresholds(str(path)).pairs == ()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"label,score\nDog,0.5\n", "mid,label,threshold"),
        (b"threshold\n0.5\n", "mid,label,threshold"),
        (b"label,threshold\nDog,0.5\nCat,high\n", "line 3: 'high'"),
        (b"label,threshold\nDog,1.5\n", "line 2: '1.5'"),
        (b"label,threshold\nDog,-0.1\n", "line 2: '-0.1'"),
        (b"label,threshold\nDog,nan\n", "line 2: 'nan'"),
        (b"label,threshold\nDog,\n", "line 2: ''"),
        (b"label,threshold\nDog\n", "line 2: ''"),
        (b"label,threshold\nDog,0,5\nCat,0,5\n", "line 2"),
        (b"mid,label,threshold\n,,0.5\n", "line 2: no label"),
        (b"label,threshold\n\xff,0.5\n", "UTF-8"),
        (b'label,threshold\n"Dog,0.5\n', "line"),
    ],
)
def test_what_cannot_be_read_is_said_with_file_and_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_thresholds(str(path))
    assert caught.value.message.startswith(str(path))
    assert said in caught.value.message


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.csv", "no such file"), (tmp_path, "a folder, not a file")):
        with pytest.raises(UsageError, match=said):
            read_thresholds(str(path))


def test_an_endless_label_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_text(f"label,threshold\n{'x' * 100_000},0.5\n", "utf-8")
    with pytest.raises(UsageError, match="too long") as refusal:
        read_thresholds(str(path))
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,threshold\nDog,0.5\nCat,0.1\nDog,0.7\n", r"line 4: 'Dog' has a threshold already: .*line 2$"),
        ("label,threshold\nDog,0.5\n Dog ,0.5\n", "line 3: 'Dog' has a threshold already"),
        ("label,threshold,threshold\nDog,0.5,0.9\n", "line 1: two columns have the name 'threshold'"),
        ("label,label,threshold\nDog,Cat,0.9\n", "line 1: two columns have the name 'label'"),
    ],
)
def test_what_is_said_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=said):
        read_thresholds(str(path))


def test_an_id_and_a_label_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("mid,label,threshold\n/m/0bt9lr,Dog,0.1\n/m/0bt9lr,Animal,0.1\n", "utf-8")
    with pytest.raises(UsageError, match=r"line 3: the id of 'Animal' is /m/0jbk, not /m/0bt9lr"):
        read_thresholds(str(path))
    path.write_text("mid,label,threshold\n/m/0bt9lr,my dog,0.1\n", "utf-8")  # a name of the model's own
    assert read_thresholds(str(path)).pairs == (("/m/0bt9lr", 0.1),)


def test_two_spellings_of_one_label_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("mid,label,threshold\n,dog,0.5\n/m/0bt9lr,,0.6\n", "utf-8")
    thresholds = read_thresholds(str(path))
    with pytest.raises(UsageError, match=r"line 3: '/m/0bt9lr' has a threshold already: .*line 2$"):
        thresholds.require_known(Vocabulary.audioset())
