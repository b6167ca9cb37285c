"""Which labels are wanted and kept, in tags and in events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.errors import UsageError
from dymn_cli.labels import Ontology, Vocabulary
from dymn_cli.results import Event
from dymn_cli.tagging.event_options import EventOptions
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.selection import Selection, named_labels, specific_events, wanted_labels

COLOURS = Vocabulary.from_names(["red", "green", "blue", "sea, deep", "black"])
AUDIOSET = Vocabulary.audioset()


def picked(scores: list[float], **options: object) -> list[tuple[int, str, float]]:
    selection = Selection(TagOptions(**options), COLOURS)  # type: ignore[arg-type]
    tags = selection.tags(np.array(scores, np.float32))
    return [(tag.rank, tag.label, round(tag.score, 4)) for tag in tags]


def test_the_best_come_first_and_rank_counts_from_one() -> None:
    assert picked([0.1, 0.5, 0.3, 0.9, 0.2], top=3) == [
        (1, "sea, deep", 0.9),
        (2, "green", 0.5),
        (3, "blue", 0.3),
    ]


def test_equal_scores_come_in_the_order_of_the_model() -> None:
    assert [label for _, label, _ in picked([0.5, 0.7, 0.5, 0.7, 0.5], top=0)] == [
        "green",
        "sea, deep",
        "red",
        "blue",
        "black",
    ]


def test_zero_means_all_and_so_does_more_than_there_are() -> None:
    assert len(picked([0.0] * 5, top=0)) == len(picked([0.0] * 5, top=99)) == 5


def test_a_score_at_the_threshold_is_kept() -> None:
    assert [label for _, label, _ in picked([0.3, 0.2999, 0.31, 0.0, 0.0], min_score=0.3)] == ["blue", "red"]


def test_thresholds_filter_before_the_number_of_tags_is_cut() -> None:
    kept = picked([0.9, 0.8, 0.7, 0.6, 0.5], top=2, thresholds=(("red", 0.95), ("green", 0.85)))
    assert kept == [(1, "blue", 0.7), (2, "sea, deep", 0.6)]


def test_a_threshold_of_a_label_goes_before_the_general_one_in_both_directions() -> None:
    kept = picked([0.2, 0.4, 0.4, 0.0, 0.0], min_score=0.3, thresholds=(("red", 0.1), ("blue", 0.5)))
    assert [label for _, label, _ in kept] == ["green", "red"]


def test_a_choice_of_labels_hides_all_others_and_keeps_their_thresholds() -> None:
    scores = [0.9, 0.8, 0.1, 0.2, 0.7]
    assert [label for _, label, _ in picked(scores, labels=("BLUE", "sea-deep"))] == ["sea, deep", "blue"]
    kept = picked(scores, labels=("red", "blue"), thresholds=(("blue", 0.5), ("black", 0.0)))
    assert [label for _, label, _ in kept] == ["red"]


def test_a_label_with_a_comma_is_one_label() -> None:
    assert picked([0.1] * 5, labels=("sea, deep",)) == [(1, "sea, deep", 0.1)]
    with pytest.raises(UsageError):
        picked([0.1] * 5, labels=("red, green",))


def test_tags_know_their_place_and_id() -> None:
    audioset = Vocabulary.audioset()
    scores = np.zeros(527, np.float32)
    scores[[74, 441]] = 0.5, 0.25
    tags = Selection(TagOptions(top=2), audioset).tags(scores)
    assert [(tag.rank, tag.index, tag.label, tag.mid, tag.score) for tag in tags] == [
        (1, 74, "Dog", "/m/0bt9lr", 0.5),
        (2, 441, audioset[441].name, audioset[441].mid, 0.25),
    ]


@pytest.mark.parametrize("options", [{"labels": ("purple",)}, {"thresholds": (("purple", 0.5),)}])
def test_an_unknown_label_is_an_error_with_the_nearest(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="purple") as caught:
        Selection(TagOptions(**options), COLOURS)  # type: ignore[arg-type]
    assert (caught.value.hint or "").startswith("nearest: ")


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5),
    top=st.integers(0, 6),
    lowest=st.floats(0, 1, width=32),
)
def test_a_selection_is_the_sorted_filtered_cut_list(scores: list[float], top: int, lowest: float) -> None:
    tags = Selection(TagOptions(top=top, min_score=lowest), COLOURS).tags(np.array(scores, np.float32))
    above = sorted((score for score in scores if score >= lowest), reverse=True)
    assert [tag.score for tag in tags] == (above[:top] if top else above)
    assert [tag.rank for tag in tags] == list(range(1, len(tags) + 1))


def heard(scores: dict[str, float], **options: object) -> list[str]:
    """The labels that are kept of AudioSet's, all others having no score."""
    row = np.zeros(len(AUDIOSET), np.float32)
    for name, score in scores.items():
        row[AUDIOSET.find(name).index] = score
    selection = Selection(TagOptions(**options), AUDIOSET)  # type: ignore[arg-type]
    return [tag.label for tag in selection.tags(row)]


CHAIN = {"Animal": 0.9, "Domestic animals, pets": 0.8, "Dog": 0.7, "Bark": 0.3, "Speech": 0.6, "Cat": 0.2}


def test_of_a_chain_the_most_specific_label_that_passes_is_kept() -> None:
    assert heard(CHAIN, specific=True, min_score=0.1) == ["Speech", "Bark", "Cat"]
    assert heard(CHAIN, specific=True, min_score=0.25) == ["Speech", "Bark"]
    assert heard(CHAIN, specific=True, min_score=0.5) == ["Dog", "Speech"]
    assert heard(CHAIN, specific=True, min_score=0.85) == ["Animal"]


def test_specific_comes_before_the_number_of_tags_is_cut() -> None:
    assert heard(CHAIN, specific=True, min_score=0.1, top=2) == ["Speech", "Bark"]


def test_thresholds_by_label_decide_which_kind_passes() -> None:
    assert heard(CHAIN, specific=True, min_score=0.1, thresholds=(("Bark", 0.5), ("Cat", 0.5))) == [
        "Dog",
        "Speech",
    ]


def test_an_excluded_label_takes_no_place() -> None:
    assert heard(CHAIN, specific=True, min_score=0.25, exclude=("bark",)) == ["Dog", "Speech"]
    assert heard(CHAIN, min_score=0.25, exclude=("Dog",)) == [
        "Animal",
        "Domestic animals, pets",
        "Speech",
        "Bark",
    ]
    assert heard(CHAIN, min_score=0.25, exclude=("/m/0jbk",), descendants=True) == ["Speech"]
    assert heard(CHAIN, min_score=0.1, labels=("Animal",), exclude=("Dog",), descendants=True) == [
        "Animal",
        "Domestic animals, pets",
        "Cat",
    ]


def test_specific_needs_a_threshold_and_an_ontology() -> None:
    with pytest.raises(UsageError, match="--specific needs a lowest score") as error:
        TagOptions(specific=True)
    assert error.value.hint == "-t 0.1 (in Python, min_score=0.1)"
    with pytest.raises(UsageError, match="labels of its own"):
        picked([0.1] * 5, specific=True, min_score=0.1)
    with pytest.raises(UsageError, match="labels of its own"):
        wanted_labels(EventOptions(specific=True), COLOURS)


@pytest.mark.parametrize("options", [TagOptions, EventOptions])
def test_nothing_is_left_when_all_is_excluded(options: type[TagOptions] | type[EventOptions]) -> None:
    with pytest.raises(UsageError, match="every label that is asked for is excluded"):
        wanted_labels(options(labels=("Dog",), exclude=("dog", "Cat")), AUDIOSET)


def test_silence_is_wanted_where_it_is_asked_for() -> None:
    silence = AUDIOSET.find("Silence")
    assert silence not in wanted_labels(EventOptions(), AUDIOSET, silence=False)
    assert wanted_labels(EventOptions(labels=("silence",)), AUDIOSET, silence=False) == (silence,)
    assert silence in wanted_labels(TagOptions(), AUDIOSET)
    own = Vocabulary.from_names(["Silence", "Dog"])
    assert len(wanted_labels(EventOptions(), own, silence=False)) == 2


def test_a_word_finds_the_only_label_that_has_it() -> None:
    found = named_labels(("chirp", "meow", "Dog", "dog"), AUDIOSET)
    assert [label.name for label in found] == ["Chirp, tweet", "Meow", "Dog"]
    with pytest.raises(UsageError, match="is a sound of the ontology, but no label") as error:
        named_labels(("Human sounds",), AUDIOSET)
    assert error.value.hint is not None and "--descendants" in error.value.hint


@given(st.dictionaries(st.sampled_from([label.name for label in AUDIOSET]), st.floats(0, 1), max_size=12))
def test_no_kept_label_is_above_another_and_none_is_lost_without_a_kind(scores: dict[str, float]) -> None:
    ontology = Ontology.audioset()
    passing = heard(scores, min_score=0.2, top=0)
    kept = heard(scores, min_score=0.2, top=0, specific=True)
    for name in passing:
        kinds = {node.name for node in ontology.descendants(AUDIOSET.find(name))}
        assert (name in kept) == kinds.isdisjoint(passing)
    assert kept == [name for name in passing if name in kept]


def event(label: str, start_s: float, end_s: float, channel: str = "mix") -> Event:
    known = AUDIOSET.find(label)
    return Event("farm.wav", channel, start_s, end_s, known.index, known.name, known.mid, 0.5, 0.4, 1)


def kept(*events: Event) -> list[tuple[str, float]]:
    return [(one.label, one.start_s) for one in specific_events(events, AUDIOSET)]


def test_an_event_goes_where_its_kinds_cover_half_of_it() -> None:
    assert kept(event("Dog", 0, 4), event("Bark", 1, 3)) == [("Bark", 1)]
    assert kept(event("Dog", 0, 4), event("Bark", 1, 2.9)) == [("Dog", 0), ("Bark", 1)]
    assert kept(event("Animal", 0, 4), event("Dog", 0, 3), event("Bark", 0, 1)) == [("Dog", 0), ("Bark", 0)]
    assert kept(event("Dog", 0, 4), event("Cat", 0, 4)) == [("Dog", 0), ("Cat", 0)]


def test_what_several_kinds_cover_is_counted_once() -> None:
    overlapping = event("Bark", 0, 1.5), event("Howl", 0.5, 1.8), event("Yip", 0, 1)
    assert ("Dog", 0) in kept(event("Dog", 0, 4), *overlapping)
    assert ("Dog", 0) not in kept(event("Dog", 0, 4), *overlapping, event("Howl", 3.8, 9))


def test_channels_are_judged_on_their_own() -> None:
    assert len(kept(event("Dog", 0, 4, "0"), event("Bark", 0, 4, "1"))) == 2
