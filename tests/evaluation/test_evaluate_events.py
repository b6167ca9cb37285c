from __future__ import annotations

import json
import math

import pytest

from dymn_cli.datasets.label_tables import LabelRow
from dymn_cli.errors import InputError, UsageError
from dymn_cli.evaluation.evaluate_events import (
    FROM_EVENTS,
    Detections,
    EventEvaluation,
    detections_in,
    evaluate_events,
    pair,
    true_events,
    vocabulary_of,
)
from dymn_cli.evaluation.event_tables import EventTable
from dymn_cli.labels import Vocabulary

WORDS = Vocabulary.from_names(["bark", "meow", "moo"])
HOUR_S = 3600.0


def event(start_s: float, end_s: float, label: str, score: float | None = None) -> LabelRow:
    return LabelRow("", (label,), start_s=start_s, end_s=end_s, score=score)


def table(rows: dict[str, list[LabelRow]], name: str = "truth.tsv") -> EventTable:
    return EventTable(name, rows, {}, (), complete=True)


def judged(true: dict[str, list[LabelRow]], heard: dict[str, list[LabelRow]]) -> EventEvaluation:
    truth = true_events(table(true), WORDS)
    pairing = pair(truth, list(heard))
    found = {pairing.of_source[name]: detections_in(rows, truth, WORDS) for name, rows in heard.items()}
    return evaluate_events(truth, found, duration_s=HOUR_S, curve=FROM_EVENTS)


def test_figures_by_class_and_over_all() -> None:
    true = {"farm": [event(1, 2, "bark"), event(5, 6, "bark"), event(8, 9, "meow")]}
    heard = {
        "D/farm.wav": [
            event(1.1, 2.1, "bark", score=0.9),
            event(5.5, 6.5, "bark", score=0.5),  # half of it is right, but neither of its ends
            event(20, 21, "moo", score=0.9),  # no class of the truth
        ]
    }
    evaluation = judged(true, heard)
    bark, meow = evaluation.classes
    assert (bark.label, bark.by_ends.n_true, bark.by_ends.n_found, bark.by_ends.n_false) == ("bark", 2, 1, 1)
    assert bark.by_intersection.f1 == 1.0
    assert (meow.by_ends.f1, meow.psds1) == (0.0, 0.0)
    assert evaluation.event_f1 == pytest.approx(0.25)  # of bark 0.5, of meow 0
    assert evaluation.event_total.f1 == pytest.approx(2 / 5)
    # In scenario 1 the second bark is a false alarm, one an hour: half of the barks are found anyhow.
    assert bark.psds1 == pytest.approx(0.5)
    assert bark.psds2 == pytest.approx(1.0)
    assert evaluation.n_other == 1


def test_the_document_is_plain_json() -> None:
    document = judged({"a": [event(1, 2, "bark")]}, {"a.wav": [event(1, 2, "bark", score=0.9)]}).document()
    assert document["schema"] == "dymn.eval-events/1"
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["event_f1"], document["psds1"], document["psds_from"]) == (1.0, 1.0, FROM_EVENTS)


def test_without_lengths_there_is_no_psds() -> None:
    truth = true_events(table({"a": [event(1, 2, "bark")]}), WORDS)
    evaluation = evaluate_events(truth, {"a": Detections()}, curve=FROM_EVENTS)
    assert math.isnan(evaluation.psds1)
    assert evaluation.document()["psds2"] is None
    assert evaluation.event_f1 == 0.0


def test_words_of_the_truth_are_matched_mapped_or_left_out() -> None:
    rows = {"a": [event(1, 2, "Bark"), event(3, 4, "cat"), event(5, 6, "tractor")]}
    with pytest.raises(UsageError, match='2 labels unknown to the model: "cat", "tractor"'):
        true_events(table(rows), WORDS)
    truth = true_events(table(rows), WORDS, mapping={"cat": ("meow", "moo")}, ignore_unknown=True)
    assert [label for label, _ in truth.classes] == ["bark", "meow", "moo"]
    assert truth.events["a"] == {0: [(1, 2)], 1: [(3, 4)], 2: [(3, 4)]}
    assert truth.ignored == ("tractor",)
    with pytest.raises(InputError, match="no event whose label the model has"):
        true_events(table({"a": [event(5, 6, "tractor")]}), WORDS, ignore_unknown=True)
    with pytest.raises(InputError, match="no events in it, or none that is kept"):
        true_events(table({"a": []}), WORDS)


def test_words_of_the_truth_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(InputError, match=r'truth.tsv: the label "caf\\xe9" is not UTF-8') as caught:
        true_events(table({"a": [event(1, 2, "caf\udce9")]}), WORDS)
    assert caught.value.hint == "save the table as UTF-8"


def test_recordings_are_paired_by_name() -> None:
    truth = true_events(table({"a.wav": [event(1, 2, "bark")], "b.wav": []}), WORDS)
    pairing = pair(truth, ["D/a.flac", "D/c.flac"])
    assert pairing.of_source == {"D/a.flac": "a.wav"}
    assert (pairing.without_truth, pairing.without_source) == (("D/c.flac",), ("b.wav",))
    with pytest.raises(InputError, match=r"a\.wav matches both D/a\.wav and E/a\.wav"):
        pair(truth, ["D/a.wav", "E/a.wav"])
    with pytest.raises(InputError, match="no row matches a recording"):
        pair(truth, ["x.wav"])


def test_labels_of_a_result_are_audiosets_or_those_that_occur() -> None:
    assert len(vocabulary_of(table({"a": [event(1, 2, "dog")]}), table({}))) == 527
    own = vocabulary_of(table({"a": [event(1, 2, "left engine")]}), table({"a": [event(1, 2, "Dog")]}))
    assert own.names == ("left engine", "Dog")
