"""Which rows of a finished result are wanted, whatever list the labels of its model are from."""

from __future__ import annotations

from dymn_cli.readers import SelectionOptions
from dymn_cli.readers.selection import Selection
from dymn_cli.results import Event


def event(label: str, mid: str) -> Event:
    return Event("a.wav", "mix", 0.0, 1.0, 0, label, mid, 0.5, 0.5, 1)


def test_kinds_of_a_sound_include_groups_that_only_some_models_score() -> None:
    """ "Human voice" groups others in AudioSet's 527, and is a label in AudioSet Strong."""
    selection = Selection(SelectionOptions(labels=("Human sounds",), descendants=True))
    assert selection.wants(event("Human voice", "/m/09l8g"))
    assert selection.wants(event("Speech", "/m/09x0r"))
    assert not selection.wants(event("Dog", "/m/0bt9lr"))


def test_a_label_is_found_by_its_id_where_a_model_spells_it_otherwise() -> None:
    selection = Selection(SelectionOptions(labels=("Bicycle",)))
    assert selection.wants(event("Bicycle, tricycle", "/m/0199g"))
    assert not selection.wants(event("Car", "/m/0k4j"))
