"""Scores come back out of what `dymn tag` writes, in every layout."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import InputError, UsageError
from dymn_cli.evaluation.score_files import read_scores
from dymn_cli.labels import Vocabulary
from dymn_cli.results import AudioInfo, ClipResult, ModelInfo, Tag
from dymn_cli.writers import Provenance, WriterOptions, tag_writer

VOCABULARY = Vocabulary.audioset()
MODEL = ModelInfo("m", "0" * 64, "onnx", "cpu")
SOURCES = ("a, b.wav", "tab\there.wav", "na\udcffme.wav")


def clip(source: str, top: int) -> ClipResult:
    rng = np.random.default_rng(len(source))
    scores = rng.random(527).astype(np.float32)
    best = np.argsort(-scores)[:top]
    tags = tuple(
        Tag(n + 1, int(i), VOCABULARY[i].name, VOCABULARY[i].mid, float(scores[i]))
        for n, i in enumerate(best.tolist())
    )
    info = AudioInfo(32_000, 1, 320_000, "WAV", "PCM_16")
    return ClipResult(source, "mix", info, 10.0, tags, scores, np.zeros(0, np.float32), 1, (), (), MODEL)


def write(path: Path, form: str, *, top: int = 527, layout: str = "long", header: bool | None = None) -> None:
    stream = io.BytesIO()
    options = WriterOptions(
        provenance=Provenance("1", MODEL),
        header=header,
        precision=9,
        top=top,
        layout=layout,  # type: ignore[arg-type]
        labels=VOCABULARY.labels,
    )
    writer = tag_writer(form, stream, options)
    writer.begin()
    for source in SOURCES:
        writer.write(clip(source, top))
    writer.end()
    path.write_bytes(stream.getvalue())


@pytest.mark.parametrize(
    ("form", "layout", "header"),
    [
        ("csv", "long", None),
        ("csv", "matrix", None),
        ("csv", "wide", None),
        ("tsv", "long", None),
        ("tsv", "long", True),
        ("jsonl", "long", None),
        ("json", "long", None),
    ],
)
def test_every_layout_gives_the_same_scores(
    tmp_path: Path, form: str, layout: str, header: bool | None
) -> None:
    path = tmp_path / f"tags.{form}"
    write(path, form, layout=layout, header=header)
    table = read_scores([str(path)])
    assert table.sources == SOURCES
    assert table.notes == ()
    order = [table.vocabulary.find(label.name).index for label in VOCABULARY]
    expected = np.stack([clip(source, 527).scores for source in SOURCES])
    assert order == list(range(527))  # as from audio
    np.testing.assert_allclose(table.scores[:, order], expected, atol=1e-6)
    assert table.vocabulary.find("Dog").mid == "/m/0bt9lr"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_results_that_were_cut_are_said_to_be_rough(tmp_path: Path, form: str) -> None:
    write(tmp_path / f"t.{form}", form, top=5)
    table = read_scores([str(tmp_path / f"t.{form}")])
    (note,) = table.notes
    assert "holds 5 of 527 scores of a recording, the others count as 0" in note
    assert table.scores.shape == (3, 527)
    assert ((table.scores > 0).sum(axis=1) == 5).all()


def test_a_choice_of_labels_is_not_cut(tmp_path: Path) -> None:
    rows = [
        f"{name}.wav,mix,0.0,1.0,{n},{label},,0.{n}" for name in "ab" for n, label in ((1, "Dog"), (2, "Cat"))
    ]
    (tmp_path / "t.csv").write_text("\n".join([CSV_HEADER, *rows, ""]))
    table = read_scores([str(tmp_path / "t.csv")])
    assert table.notes == ()
    assert table.vocabulary.names == ("Dog", "Cat")


CSV_HEADER = "source,channel,start_s,end_s,rank,label,mid,score"


def test_windows_and_channels_are_joined_by_their_highest_score(tmp_path: Path) -> None:
    rows = [
        "a.wav,mix,0.0,10.0,1,Dog,,0.2",
        "a.wav,mix,10.0,20.0,1,Dog,,0.7",
        "a.wav,mix,20.0,30.0,1,Dog,,0.1",
    ]
    (tmp_path / "t.csv").write_text("\n".join([CSV_HEADER, *rows, ""]))
    table = read_scores([str(tmp_path / "t.csv")])
    assert table.scores[0, 0] == np.float32(0.7)
    assert table.notes == ("recordings with several windows or channels, whose highest score counts: 1",)


def test_several_results_are_parts_of_one(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / f"{n}.csv").write_text(f"{CSV_HEADER}\n{n}.wav,mix,0.0,1.0,1,Dog,,0.{n}\n")
    table = read_scores([str(tmp_path / "1.csv"), str(tmp_path / "2.csv")])
    assert table.sources == ("1.wav", "2.wav")


def test_a_recording_is_in_one_result_only(tmp_path: Path) -> None:
    csv, tsv = str(tmp_path / "1.csv"), str(tmp_path / "2.tsv")
    Path(csv).write_text(f"{CSV_HEADER}\na.wav,mix,0.0,1.0,1,Dog,,0.5\n")
    Path(tsv).write_text("b.wav\tmix\t0.0\t1.0\t1\tDog\t0.5\na.wav\tmix\t0.0\t1.0\t1\tDog\t0.5\n")
    with pytest.raises(InputError, match=r"^a\.wav is in .*1\.csv and in .*2\.tsv$"):
        read_scores([csv, tsv])


def test_labels_of_ones_own_stand_by_name_or_as_in_the_matrix(tmp_path: Path) -> None:
    rows = [f"a.wav,mix,0.0,1.0,{n},{name},,0.{9 - n}" for n, name in enumerate(("owl 10", "owl 2", "Dog"))]
    (tmp_path / "long.csv").write_text("\n".join([CSV_HEADER, *rows]) + "\n")
    (tmp_path / "matrix.csv").write_text("source,channel,start_s,end_s,owl,cat\na.wav,mix,0,1,0.1,0.2\n")
    table = read_scores([str(tmp_path / "long.csv")])
    assert table.vocabulary.names == ("Dog", "owl 2", "owl 10")
    np.testing.assert_allclose(table.scores[0], [0.7, 0.8, 0.9])
    assert read_scores([str(tmp_path / "matrix.csv")]).vocabulary.names == ("owl", "cat")


def test_a_result_that_a_spreadsheet_wrote(tmp_path: Path) -> None:
    header = CSV_HEADER.replace(",", ";")
    (tmp_path / "t.csv").write_bytes(
        f'\ufeff{header}\r\na.wav;mix;0,0;1,0;1;"Chirp, tweet";;0,25\r\n'.encode()
    )
    table = read_scores([str(tmp_path / "t.csv")])
    assert (table.vocabulary.names[0], table.scores[0, 0]) == ("Chirp, tweet", 0.25)


def test_a_result_behind_another_is_said(tmp_path: Path) -> None:
    row = "a.wav,mix,0.0,1.0,1,Dog,,0.5"
    (tmp_path / "t.csv").write_text(f"{CSV_HEADER}\n{row}\n{CSV_HEADER}\n{row}\n")
    with pytest.raises(InputError, match="line 3: the names of the columns again") as caught:
        read_scores([str(tmp_path / "t.csv")])
    assert "tail -n +2" in (caught.value.hint or "")


def test_recordings_that_failed_are_told(tmp_path: Path) -> None:
    good = {"schema": "dymn.clip/1", "source": "a.wav", "tags": [{"label": "Dog", "mid": "", "score": 0.5}]}
    bad = {"schema": "dymn.error/1", "source": "b.wav", "error": "CorruptAudioError"}
    (tmp_path / "t.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    table = read_scores([str(tmp_path / "t.jsonl")])
    assert (table.sources, table.failed) == (("a.wav",), ("b.wav",))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "", "not a result of dymn tag"),
        ("t.csv", "file,label\na,b\n", "not a result of dymn tag: its first line is 'file,label'"),
        ("t.csv", f"{CSV_HEADER}\n", "no scores in this result"),
        ("t.csv", f"{CSV_HEADER}\na.wav,mix,0.0,1.0,1,Dog,,nan\n", "line 2: 'nan' is not a score"),
        ("t.csv", f"{CSV_HEADER}\na.wav,mix,0.0,1.0,1,Dog,,1.5\n", "line 2: '1.5' is not a score"),
        ("t.csv", f"{CSV_HEADER}\na.wav,mix,0.0\n", "line 2: 3 cells for 8 columns"),
        ("t.csv", "source,channel,start_s,end_s,Dog,Dog\n", "two columns have the same name"),
        ("t.csv", "source,channel,start_s,end_s,e0,e1\na,mix,0,1,0.1,0.2\n", "not a result of dymn tag"),
        ("t.tsv", "", "no scores in this result"),
        ("t.jsonl", "\n{", "line 2: not JSON"),
        ("t.jsonl", "\udcff", "not text in UTF-8"),
        ("t.json", "\udcff", "not text in UTF-8"),
        ("t.jsonl", "[1]\n", "not a result of dymn tag, but None"),
        ("t.jsonl", '{"schema":"dymn.events/1","source":"a"}\n', "not a result of dymn tag, but dymn.even"),
        ("t.jsonl", '{"schema":"dymn.clip/1","source":"a","tags":[{"label":"Dog"}]}\n', "a tag without"),
        ("t.jsonl", '{"schema":"dymn.clip/1","tags":[]}\n', "no source"),
        ("t.json", "[", "not JSON"),
    ],
)
def test_what_is_no_result_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_bytes(os.fsencode(text))
    with pytest.raises(InputError, match=said) as refusal:
        read_scores([str(tmp_path / name)])
    assert "codec" not in refusal.value.message


def test_files_that_are_not_there_and_forms_that_are_not_known() -> None:
    with pytest.raises(InputError, match="no such file"):
        read_scores(["none.csv"])
    with pytest.raises(UsageError, match="not a result that can be evaluated"):
        read_scores(["tags.parquet"])
