"""`dymn tag` in the formats of annotations and tables, as a user would go on with them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import sounds

RATE_HZ = 32_000


@pytest.fixture
def chirp(dymn) -> Path:
    """Six seconds of a rising tone, whose name a spreadsheet would compute."""
    path = dymn.cwd / "=1+2.wav"
    sf.write(path, sounds.sweep(200, 100, 6, RATE_HZ, level=0.2), RATE_HZ)
    return path


def test_windows_as_labels_and_as_subtitles(in_process, chirp: Path) -> None:
    options = ("--windows", "--window", 2, "-k", 1)
    labels = in_process("tag", chirp.name, *options, "-f", "audacity")
    assert [line.split("\t")[:2] for line in labels.out.splitlines()] == [
        ["0.000000", "2.000000"],
        ["2.000000", "4.000000"],
        ["4.000000", "6.000000"],
    ]
    subtitles = in_process("tag", chirp.name, *options, "-f", "srt")
    assert "\n00:00:02,000 --> 00:00:04,000\n" in subtitles.out
    assert labels.out.splitlines()[1].split("\t")[2] in subtitles.out


def test_a_matrix_has_all_scores_or_those_of_some_labels(in_process, chirp: Path) -> None:
    assert in_process("tag", chirp.name, "--layout", "matrix", "-o", "all.csv").returncode == 0
    frame = pd.read_csv(in_process.cwd / "all.csv", index_col="source")
    assert frame.shape == (1, 3 + 527)
    best = in_process("tag", chirp.name, "-k", 1).rows[0]
    assert frame.iloc[0, 3:].astype(float).idxmax() == best[5]
    labels = ("-l", "Speech", "-l", "Subway, metro, underground")
    some = in_process("tag", chirp.name, "--layout", "matrix", *labels, "-f", "csv")
    header, row = csv.reader(some.out.splitlines())
    assert header[4:] == ["Speech", "Subway, metro, underground"]
    assert float(row[5]) == frame.loc[chirp.name, "Subway, metro, underground"]


def test_a_matrix_in_parquet_is_the_same(dymn, in_process, chirp: Path) -> None:
    pytest.importorskip("pyarrow")
    assert dymn("tag", chirp.name, "--layout", "matrix", "-o", "all.parquet").returncode == 0
    assert (
        in_process("tag", chirp.name, "--layout", "matrix", "-o", "all.csv", "--precision", 9).returncode == 0
    )
    binary = pd.read_parquet(dymn.cwd / "all.parquet").iloc[:, 5:].to_numpy()
    text = pd.read_csv(dymn.cwd / "all.csv").iloc[:, 4:].to_numpy()
    np.testing.assert_allclose(binary, text, atol=1e-9)


def test_a_name_that_is_a_formula(in_process, chirp: Path) -> None:
    plain = in_process("tag", chirp.name, "-f", "csv", "-k", 1).out.splitlines()[1]
    safe = in_process("tag", chirp.name, "-f", "csv", "-k", 1, "--csv-safe").out.splitlines()[1]
    assert plain.startswith("=1+2.wav,mix,")
    assert safe == f"'{plain}"


def test_a_layout_that_there_is_not(in_process, chirp: Path) -> None:
    ran = in_process("tag", chirp.name, "--layout", "tall")
    assert (ran.returncode, ran.out) == (2, "")
    assert "long, wide or matrix" in ran.err
    assert in_process("tag", chirp.name, "--layout", "matrix").returncode == 2, "tsv has none"
