"""Lines of JSON are as their schema says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from dymn_cli.live.lines import drop_out_json, event_json, event_row, tags_json, tags_rows
from dymn_cli.live.listener import DropOut, Heard, LiveEvent
from dymn_cli.results import Event, Tag, WindowScores
from dymn_cli.writers.schemas import SCHEMAS

jsonschema = pytest.importorskip("jsonschema")

CLOCK = datetime(2026, 3, 1, 12, 30, 5, 250_000, tzinfo=UTC)
EVENT = Event("-", "mix", 3.5, 5.25, 0, "Speech", "/m/09x0r", 0.91234, 0.8, 3)
NOTHING = np.empty(0, np.float32)
WINDOW = WindowScores(1.0, 11.0, NOTHING, NOTHING, NOTHING)
LINES = {
    "begin": event_json(LiveEvent(7, EVENT, CLOCK, "begin"), 3),
    "end": event_json(LiveEvent(7, EVENT, CLOCK, "end"), 3, "clips/speech.wav"),
    "tags": tags_json("mic", "0", Heard(WINDOW, CLOCK, 0.1), (Tag(1, 0, "Speech", "/m/09x0r", 0.5),), 3),
    "dropout": drop_out_json("caf\udce9", DropOut("no sound for 5 s", 17.5)),
}


def validate(document: dict[str, Any]) -> None:
    schema = SCHEMAS["live"] | {"additionalProperties": False}
    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize("kind", LINES)
def test_a_line_is_as_its_schema_says(kind: str) -> None:
    assert LINES[kind].endswith(b"\n")
    document = json.loads(LINES[kind])
    assert document["type"] == kind
    validate(document)
    for field in set(document) - {"file", "source_b64"}:
        with pytest.raises(jsonschema.ValidationError):
            validate({name: value for name, value in document.items() if name != field})


def test_what_an_event_says() -> None:
    end = json.loads(LINES["end"])
    assert (end["number"], end["start_s"], end["end_s"], end["score"]) == (7, 3.5, 5.25, 0.912)
    assert datetime.fromisoformat(end["clock"]) == CLOCK
    assert "end_s" not in json.loads(LINES["begin"])


def test_rows_have_all_decimals_of_a_score() -> None:
    event = event_row(LiveEvent(7, replace(EVENT, score=0.7310001), CLOCK, "end"), 4)
    assert event == b"-\tmix\t3.5\t5.25\tSpeech\t0.7310\t2026-03-01T12:30:05.250Z\n"
    (tag,) = tags_rows("-", "mix", Heard(WINDOW, CLOCK, 0.1), (Tag(1, 0, "Speech", "", 0.5),), 3).split(
        b"\n"
    )[:-1]
    assert tag.split(b"\t")[6] == b"0.500"
