"""Tables of labels in the forms that people have them in, and what is said of those that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from dymn_cli.datasets.label_tables import LabelTable, read_judgements, read_label_table
from dymn_cli.errors import InputError

AUDIOSET = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=2, num_segs=2, num_unique_labels=3, num_positive_labels=3
# YTID, start_seconds, end_seconds, positive_labels
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"
-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw"
"""


def read(tmp_path: Path, text: str | bytes) -> LabelTable:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_label_table(path)


def test_a_plain_table(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        "file,label,fold,split,group\na.wav,Dog; Cat,1,train,x\n"
        '"b, c.wav","Subway, metro",2,val,\nd.wav,,3,,\n',
    )
    assert table.form == "plain"
    first, second, third = table.rows
    assert (first.labels, first.fold, first.split, first.group) == (("Dog", "Cat"), "1", "train", "x")
    assert (second.source, second.labels, second.split) == ("b, c.wav", ("Subway, metro",), "val")
    assert (third.labels, third.absent, third.line) == ((), None, 4)


@pytest.mark.parametrize(
    "text",
    ["file;label\na.wav;Dog\n", "path\tclass\na.wav\tDog\n", "\ufefffilename,tags\r\na.wav,Dog\r\n"],
    ids=["semicolons", "tabs", "byte order mark"],
)
def test_tables_of_other_programs(tmp_path: Path, text: str) -> None:
    (row,) = read(tmp_path, text).rows
    assert (row.source, row.labels) == ("a.wav", ("Dog",))


def test_several_rows_of_a_file_are_joined(tmp_path: Path) -> None:
    table = read(tmp_path, "file,label\na.wav,Dog\nb.wav,Cat\na.wav,Cat\n")
    assert [(row.source, row.labels) for row in table.rows] == [
        ("a.wav", ("Dog", "Cat")),
        ("b.wav", ("Cat",)),
    ]
    assert table.n_repeated == 1


def test_splits_have_many_names(tmp_path: Path) -> None:
    names = ["training", "dev", "valid", "Validation", "eval", "TEST"]
    rows = read(tmp_path, "file,label,split\n" + "".join(f"{n}.wav,x,{n}\n" for n in names)).rows
    assert [row.split for row in rows] == ["train", "train", "val", "val", "test", "test"]
    rows = read(tmp_path, "file,label,split\na.wav,x,north\nb.wav,y,\nc.wav,y,south\n").rows
    assert [(row.split, row.fold) for row in rows] == [("", "north"), ("", ""), ("", "south")]


def test_a_misspelt_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 4: split 'tset' is none of train, val, test$") as caught:
        read(tmp_path, "file,label,split\na.wav,x,train\nb.wav,y,\nc.wav,x,tset\nd.wav,y,train\n")
    assert caught.value.hint == "folds belong in a column fold"


def test_audioset(tmp_path: Path) -> None:
    table = read(tmp_path, AUDIOSET)
    assert table.form == "audioset"
    assert [(row.source, row.mids) for row in table.rows] == [
        ("--4gqARaEJE", ("/m/068hy", "/m/07q6cd_")),
        ("-0RWZT-miFs", ("/m/03v3yw",)),
    ]
    assert table.rows[1].line == 5


def test_fsd50k(tmp_path: Path) -> None:
    table = read(tmp_path, 'fname,labels,mids,split\n64760,"Electric_guitar,Music","/m/02sgy,/m/04rlf",val\n')
    (row,) = table.rows
    assert table.form == "fsd50k"
    assert (row.source, row.labels, row.mids, row.split) == (
        "64760", ("Electric_guitar", "Music"), ("/m/02sgy", "/m/04rlf"), "val",
    )  # fmt: skip


def test_esc50(tmp_path: Path) -> None:
    text = "filename,fold,target,category,esc10,src_file,take\n1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    (row,) = read(tmp_path, text).rows
    assert (row.labels, row.fold, row.group) == (("dog",), "1", "100032")


def test_tau(tmp_path: Path) -> None:
    cells = "audio/airport-lisbon-1000-40000-a.wav\tairport\tlisbon-1000\ta"
    (row,) = read(tmp_path, f"filename\tscene_label\tidentifier\tsource_label\n{cells}\n").rows
    assert (row.source, row.labels, row.group) == (
        "audio/airport-lisbon-1000-40000-a.wav", ("airport",), "lisbon-1000",
    )  # fmt: skip


def test_openmic_knows_what_is_absent_and_the_last_answer_counts(tmp_path: Path) -> None:
    text = (
        "sample_key,instrument,relevance,num_responses\n000046_3840,clarinet,0.17,3\n000046_3840,flute,0.0,3\n"
        "000135_483840,synthesizer,1.0,5\n000046_3840,flute,0.9,4\n"
    )
    one, other = read(tmp_path, text).rows
    assert (one.labels, one.absent) == (("flute",), ("clarinet",))
    assert (other.labels, other.absent) == (("synthesizer",), ())


def test_a_review_has_the_labels_that_were_kept(tmp_path: Path) -> None:
    head = "source,start_s,end_s,label,decision,score\n"
    kept = "a.wav,0,1,Dog,keep,0.9\na.wav,4,5,Cat,Keep,0.5\nb.wav,0,1,Owl,,0.4\n"
    table = read(tmp_path, head + kept)
    assert table.form == "review"
    assert [(row.source, row.labels, row.absent) for row in table.rows] == [("a.wav", ("Dog", "Cat"), None)]
    rejected = "a.wav,7,8,Dog,reject,0.3\nb.wav,3,4,Dog,reject,0.3\n"
    rows = read(tmp_path, head + kept + rejected).rows
    assert [(row.source, row.labels, row.absent) for row in rows] == [
        ("a.wav", ("Dog", "Cat"), ()),  # rejected in one place, but there in another
        ("b.wav", (), ("Dog",)),
    ]


def test_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    (row,) = read(tmp_path, b"file,label\nna\xffme.wav,Dog\n").rows
    assert row.source == "na\udcffme.wav"


@pytest.mark.parametrize(
    "data",
    [
        b"file,label\na.wav,Dog\nb.wav,Dog;Caf\xe9\n",
        b"filename;fold;category\na.wav;1;Dog\nb.wav;1;Caf\xe9\n",
        b"sample_key,instrument,relevance\na,flute,0.9\nb,Caf\xe9,0.1\n",
        b"source,label,decision\na.wav,Dog,keep\nb.wav,Caf\xe9,reject\n",
    ],
)
def test_labels_that_are_no_utf8_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match=r'line 3: the label "Caf\\xe9" is not UTF-8') as caught:
        read(tmp_path, data)
    assert caught.value.hint == "save the table as UTF-8"


def test_labels_of_judged_events_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_bytes(b"source,start_s,end_s,label,decision\na.wav,0,1,Caf\xe9,keep\n")
    with pytest.raises(InputError, match=r'line 2: the label "Caf\\xe9" is not UTF-8'):
        read_judgements(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("file,label\n", "no recordings in this table"),
        ("x,y\n1,2\n", "no column of files among x, y"),
        ("file,y\n1,2\n", "no column of labels among file, y"),
        ("file,file,label\n", "line 1: two columns have the name 'file'"),
        ("file,label\na.wav,Dog, Cat\n", "line 2: 3 cells for 2 columns"),
        ("file,label\n,Dog\n", "line 2: no file name"),
        ("file,label\na.wav,nan\n", "line 2: the label is 'nan'"),
        ("file,label,fold\na.wav,Dog,1\na.wav,Cat,2\n", "line 3: a.wav is in another fold on line 2"),
        ('file,label\na.wav,"Dog\n', "not a table"),
        ("RIFF\0\0\0WAVE", "not a table of text"),
        ('fname,labels,mids\n1,"a,b",/m/1\n', "line 2: 2 labels and 1 mids"),
        ("sample_key,instrument,relevance\nk,flute,nan\n", "line 2: 'nan' is not a relevance"),
        ("sample_key,instrument,relevance\nk,flute,7\n", "line 2: '7' is not a relevance"),
        ("filename,scene_label\na.wav,\n", "line 2: no scene_label"),
        ("source,label,decision\na.wav,Dog,maybe\n", "line 2: the decision is 'maybe', neither keep nor rej"),
        ("source,label,decision\na.wav,,keep\n", "line 2: no label"),
        ("source,label,decision\na.wav,Dog,\n", "nothing in this review is decided"),
        (AUDIOSET + "abcdefghijk, 0, 10, Dog\n", "line 6: 'Dog' is not a list of AudioSet ids"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, text)
    assert "\n" not in caught.value.message


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_label_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="a folder, not a file"):
        read_label_table(tmp_path)
