from __future__ import annotations

from pathlib import Path

import pytest

from dymn_cli.datasets.label_tables import read_label_table
from dymn_cli.errors import InputError
from dymn_cli.evaluation.event_tables import read_events
from dymn_cli.readers import open_result
from dymn_cli.report.decisions import read_decisions
from dymn_cli.report.model import Decision

TABLE = """source,channel,start_s,end_s,label,mid,score,decision,found
night.wav,mix,12.340,15.600,Owl,/m/09d5_,0.8123,keep,Owl
night.wav,mix,80.100,81.020,Dog,/m/0bt9lr,0.3310,reject,Dog
day.wav,0,99.000,99.800,"Chirp, tweet",/m/07pggtn,,keep,Bird
quiet.wav,mix,1.000,2.000,Owl,/m/09d5_,0.2000,reject,Owl
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.csv"
    path.write_text(TABLE)
    return path


def test_decisions_come_back(table: Path) -> None:
    kept, rejected, relabelled, _ = read_decisions(str(table))
    assert kept == Decision(("night.wav", "mix", 12340, 15600, "Owl"), "keep", "Owl", "/m/09d5_", 0.8123)
    assert rejected.verdict == "reject"
    assert relabelled == Decision(
        ("day.wav", "0", 99000, 99800, "Bird"), "relabel", "Chirp, tweet", "/m/07pggtn", None
    )


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("source,start_s,end_s,label,decision", "night.wav,12.34,15.6,Owl,keep"),
        (
            "source,channel,start_s,end_s,label,mid,score,mean_score,n_windows,decision",
            "night.wav,mix,12.34,15.6,Owl,,,,,keep",
        ),
    ],
)
def test_a_table_of_ones_own_needs_few_columns(table: Path, header: str, row: str) -> None:
    table.write_text(f"{header}\n{row}\n")
    assert read_decisions(str(table)) == (Decision(("night.wav", "mix", 12340, 15600, "Owl"), "keep", "Owl"),)


def test_as_true_events_without_what_is_rejected(table: Path) -> None:
    events = read_events([str(table)])
    labels = {name: [row.labels[0] for row in rows] for name, rows in events.rows.items()}
    assert labels == {"night.wav": ["Owl"], "day.wav": ["Chirp, tweet"], "quiet.wav": []}


def test_as_labels_of_recordings_without_what_is_rejected(table: Path) -> None:
    rows = read_label_table(str(table)).rows
    assert {row.source: row.labels for row in rows} == {
        "night.wav": ("Owl",),
        "day.wav": ("Chirp, tweet",),
        "quiet.wav": (),
    }


def test_as_a_result_without_what_is_rejected(table: Path) -> None:
    with open_result(str(table)) as result:
        found = {item.source: [event.label for event in item.events] for item in result}
    assert found == {"night.wav": ["Owl"], "day.wav": ["Chirp, tweet"], "quiet.wav": []}


def test_what_is_not_decided_says_nothing(table: Path) -> None:
    table.write_text(TABLE.replace("reject,Dog", ",Dog").replace("reject,Owl", ",Owl"))
    assert [one.verdict for one in read_decisions(str(table))] == ["keep", "relabel"]
    assert "quiet.wav" not in read_events([str(table)]).rows
    assert [row.source for row in read_label_table(str(table)).rows] == ["night.wav", "day.wav"]


@pytest.mark.parametrize("read", [lambda path: read_events([path]), read_label_table, read_decisions])
def test_a_decision_that_is_none_is_said_by_whoever_reads_it(table: Path, read) -> None:
    table.write_text(TABLE.replace("reject", "maybe"))
    with pytest.raises(InputError, match=r"line 3: the decision is 'maybe', neither keep nor reject"):
        read(str(table))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: text.index("/m/0bt9lr")], r"line 3: 6 cells for 9 columns"),
        (
            lambda text: text.replace("keep", "maybe"),
            r"line 2: the decision is 'maybe', neither keep nor reject",
        ),
        (lambda text: text.replace("12.340", "noon"), r"line 2: 'noon' is not a time in seconds"),
        (lambda text: text.replace(",Owl,/m", ",,/m", 1), r"line 2: no label"),
        (lambda text: text.replace("decision", "verdict"), r"no column 'decision'"),
        (lambda text: text.replace('tweet"', "tweet"), r"not a table"),
        (lambda text: "", r"no column 'source'"),
    ],
)
def test_a_table_that_is_none(table: Path, change, said: str) -> None:
    table.write_text(change(TABLE))
    with pytest.raises(InputError, match=said):
        read_decisions(str(table))
