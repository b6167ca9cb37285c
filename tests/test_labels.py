from __future__ import annotations

import csv
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from dymn_cli.errors import UsageError
from dymn_cli.labels import Label, Node, Ontology, Vocabulary


@pytest.fixture(scope="module")
def audioset() -> Vocabulary:
    return Vocabulary.audioset()


@pytest.fixture(scope="module")
def ontology() -> Ontology:
    return Ontology.audioset()


def suggestions(error: pytest.ExceptionInfo[UsageError]) -> list[str]:
    assert error.value.hint is not None
    return error.value.hint.removeprefix("nearest: ").strip('"').split('"; "')


class TestAudioSetLabels:
    def test_the_527_in_the_order_of_the_outputs(self, audioset: Vocabulary) -> None:
        assert len(audioset) == 527
        assert [label.index for label in audioset] == list(range(527))
        assert audioset[0] == Label(0, "/m/09x0r", "Speech")
        assert audioset[137].name == "Music"
        assert audioset[526] == Label(526, "/m/07hvw1", "Field recording")

    def test_they_are_the_published_ones(self, audioset: Vocabulary, shared: Path) -> None:
        with (shared / "audioset" / "class_labels_indices.csv").open(encoding="utf-8", newline="") as file:
            rows = [(int(row["index"]), row["mid"], row["display_name"]) for row in csv.DictReader(file)]
        assert [(label.index, label.mid, label.name) for label in audioset] == rows

    def test_slugs_are_unique_and_fit_for_file_names(self, audioset: Vocabulary) -> None:
        slugs = {label.slug for label in audioset}
        assert len(slugs) == 527
        assert all(slug.replace("-", "").isalnum() and slug.isascii() and slug.islower() for slug in slugs)
        assert audioset[334].slug == "subway-metro-underground"
        assert audioset.find("Dental drill, dentist's drill").slug == "dental-drill-dentists-drill"

    def test_every_label_is_found_by_name_id_and_slug(self, audioset: Vocabulary) -> None:
        for label in audioset:
            for text in (label.name, label.name.upper(), f" {label.name.lower()} ", label.mid, label.slug):
                assert audioset.find(text) is label

    def test_it_has_a_label_by_every_spelling_that_finds_it(self, audioset: Vocabulary) -> None:
        for spelling in ("Siren", "siren", "/m/03kmc9", "subway-metro-underground", audioset[0]):
            assert spelling in audioset
        for other in ("Sirene", "", "sir", 3, None, Label(0, "", "Speech")):
            assert other not in audioset
        assert "a-b" not in Vocabulary.from_names(["a b", "a/b"])  # it may be either

    def test_a_name_with_commas_is_one_name(self, audioset: Vocabulary) -> None:
        assert audioset.find("subway, METRO,  underground").index == 334
        with pytest.raises(UsageError):
            audioset.find("Speech, Music")

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("barking", "Bark"),
            ("Subway", "Subway, metro, underground"),
            ("speach", "Speech"),
            ("musik", "Music"),
            ("dogs", "Dog"),
            ("vacum", "Vacuum cleaner"),
            ("gunshoot", "Gunshot, gunfire"),
            ("meowing", "Meow"),
            ("laughing", "Laughter"),
            ("thunderstrom", "Thunderstorm"),
            ("ambulance", "Ambulance (siren)"),
            ("bird song", "Bird vocalization, bird call, bird song"),
            ("keyboard", "Computer keyboard"),
            ("rain drops", "Raindrop"),
        ],
    )
    def test_what_was_meant_is_among_the_three_nearest(
        self, audioset: Vocabulary, text: str, meant: str
    ) -> None:
        with pytest.raises(UsageError) as error:
            audioset.find(text)
        assert repr(text) in error.value.message
        assert len(suggestions(error)) == 3
        assert meant in suggestions(error)

    @pytest.mark.parametrize(
        "text", ["", "   ", "/m/xxxxxx", "\N{SNOWMAN}", "zzzzqqq", "a" * 5000, "(", "\\"]
    )
    def test_nonsense_is_a_usage_error_with_three_real_names(self, audioset: Vocabulary, text: str) -> None:
        with pytest.raises(UsageError) as error:
            audioset.find(text)
        assert len({audioset.find(name).index for name in suggestions(error)}) == 3

    def test_search_puts_the_name_itself_first_and_loose_matches_last(self, audioset: Vocabulary) -> None:
        names = [label.name for label in audioset.search("CAR")]
        assert names[0] == "Car"
        assert names.index("Car alarm") < names.index("Shuffling cards") < names.index("Scary music")

    def test_search_prefers_names_that_list_the_query_between_commas(self, audioset: Vocabulary) -> None:
        assert [label.name for label in audioset.search("chirp")] == ["Chirp, tweet", "Chirp tone"]

    def test_search_needs_every_word_in_any_order(self, audioset: Vocabulary) -> None:
        assert [label.name for label in audioset.search("truck fire")] == ["Fire engine, fire truck (siren)"]
        assert audioset.search("truck violin") == []

    def test_search_by_id_and_for_everything(self, audioset: Vocabulary) -> None:
        assert audioset.search("/m/07yv9") == [audioset.find("Vehicle")]
        assert audioset.search("") == list(audioset)


class TestOwnVocabulary:
    def test_names_alone_make_one(self) -> None:
        own = Vocabulary.from_names(["kea", "kākāpō", "Tui, male"])
        assert own.find("KĀKĀPŌ") == Label(1, "", "kākāpō")
        assert own.find("tui-male").index == 2
        assert own.names == ("kea", "kākāpō", "Tui, male")
        with pytest.raises(UsageError) as error:
            own.find("kia")
        assert suggestions(error)[0] == "kea"

    def test_names_that_differ_in_case_only_are_told_apart_by_it(self) -> None:
        own = Vocabulary.from_names(["C", "c", "d"])
        assert [own.find(name).index for name in ("C", "c", "D")] == [0, 1, 2]

    def test_a_slug_that_two_share_is_refused_with_both_names(self) -> None:
        own = Vocabulary.from_names(["new york", "new, york", "?", "!"])
        assert own.find("?").index == 2
        with pytest.raises(UsageError, match=r'"new york"; "new, york"'):
            own.find("new-york")

    @pytest.mark.parametrize("names", [[], ["a", ""], ["a", " "], ["a", "b", "a"]])
    def test_lists_that_are_none(self, names: list[str]) -> None:
        with pytest.raises(UsageError):
            Vocabulary.from_names(names)

    def test_indices_must_be_the_places(self) -> None:
        with pytest.raises(UsageError, match="place 0"):
            Vocabulary([Label(1, "", "a")])


class TestOntology:
    def test_seven_roots(self, ontology: Ontology) -> None:
        assert [root.name for root in ontology.roots] == [
            "Human sounds",
            "Animal",
            "Music",
            "Natural sounds",
            "Sounds of things",
            "Source-ambiguous sounds",
            "Channel, environment and background",
        ]

    def test_every_label_has_its_place(self, ontology: Ontology, audioset: Vocabulary) -> None:
        assert len(ontology.nodes) == 632
        under_roots = {label for root in ontology.roots for label in ontology.labels_under(root)}
        assert under_roots == set(audioset)

    def test_names_and_edges_are_the_published_ones(self, ontology: Ontology, shared: Path) -> None:
        with (shared / "audioset" / "ontology_edges.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        edges = {(node.mid, child.mid) for node in ontology.nodes for child in ontology.children(node)}
        assert edges == {(row["parent_id"], row["child_id"]) for row in rows}
        for row in rows:
            child = ontology.find(row["child_id"])
            assert (child.name, child.is_class) == (row["child_name"], row["child_is_class"] == "1")

    def test_a_node_need_not_be_a_label(self, ontology: Ontology) -> None:
        human = ontology.find("human sounds")
        assert not human.is_class
        assert human.label is None
        assert "Human voice" in [node.name for node in ontology.children(human)]
        assert "Speech" in [label.name for label in ontology.labels_under("human-sounds")]

    def test_several_parents(self, ontology: Ontology) -> None:
        assert [node.name for node in ontology.parents("Growling")] == [
            "Dog",
            "Cat",
            "Roaring cats (lions, tigers)",
            "Canidae, dogs, wolves",
        ]
        growling = ontology.find("Growling")
        for above in ("Domestic animals, pets", "Wild animals", "Animal"):
            assert growling in ontology.descendants(above)
        animals = ontology.descendants("Animal")
        assert len(animals) == len(set(animals))
        assert [node.name for node in animals].count("Growling") == 1

    def test_descendants_are_the_children_and_their_descendants(self, ontology: Ontology) -> None:
        for node in ontology.nodes:
            below = set(ontology.descendants(node))
            assert node not in below
            children = ontology.children(node)
            assert below == set(children).union(*(ontology.descendants(child) for child in children))
            assert all(node in ontology.parents(child) for child in children)

    def test_a_label_stands_for_itself_and_what_is_below(
        self, ontology: Ontology, audioset: Vocabulary
    ) -> None:
        dog = audioset.find("Dog")
        names = [label.name for label in ontology.labels_under(dog)]
        assert names[0] == "Dog"
        assert {"Bark", "Howl", "Whimper (dog)"} <= set(names)
        assert "Cat" not in names
        assert ontology.labels_under(audioset.find("Field recording")) == (audioset.find("Field recording"),)

    def test_the_tree_shows_a_node_under_each_parent(self, ontology: Ontology) -> None:
        rows = list(ontology.tree("Animal"))
        assert (rows[0].name, rows[0].depth, rows[0].is_class) == ("Animal", 0, True)
        assert (rows[1].name, rows[1].depth) == ("Domestic animals, pets", 1)
        assert sum(row.name == "Growling" for row in rows) == 4
        for above, below in itertools.pairwise(rows):
            assert 1 <= below.depth <= above.depth + 1

    def test_the_whole_tree_visits_everything(self, ontology: Ontology) -> None:
        rows = list(ontology.tree())
        assert {row.node for row in rows} == set(ontology.nodes)
        assert [row.node for row in rows if row.depth == 0] == list(ontology.roots)

    def test_an_unknown_sound_is_a_usage_error(self, ontology: Ontology) -> None:
        with pytest.raises(UsageError, match="unknown sound 'Human noise'") as error:
            ontology.descendants("Human noise")
        assert len(suggestions(error)) == 3

    def test_labels_without_an_id_are_looked_up_by_name(self, ontology: Ontology) -> None:
        assert ontology.find("Bark") in ontology.descendants(Label(3, "", "dog"))

    def test_children_keep_the_order_of_the_edges(self) -> None:
        nodes = [Node(mid, mid.upper(), None) for mid in "abcd"]
        small = Ontology(nodes, [("a", "c"), ("a", "b"), ("b", "d"), ("c", "d")])
        assert [(row.name, row.depth) for row in small.tree()] == [
            ("A", 0),
            ("C", 1),
            ("D", 2),
            ("B", 1),
            ("D", 2),
        ]
        assert [node.name for node in small.descendants("a")] == ["C", "D", "B"]


def test_labels_load_without_numpy_and_importing_reads_no_file(repository: Path) -> None:
    code = (
        "import sys, dymn_cli.labels\n"
        "assert 'csv' not in sys.modules\n"
        "dymn_cli.labels.Ontology.audioset()\n"
        "assert not {'numpy', 'torch', 'onnxruntime', 'typer', 'rich'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository, timeout=60)


def test_the_notice_names_the_licence_of_every_file(repository: Path) -> None:
    folder = repository / "dymn_cli" / "data"
    notice = (folder / "NOTICE.md").read_text(encoding="utf-8")
    for name in ("audioset_labels.csv", "audioset_strong_labels.csv", "ontology_edges.csv"):
        assert (folder / name).is_file()
        section = notice.split(f"`{name}`", 1)[1].split("\n## ", 1)[0]
        assert "https://creativecommons.org/licenses/by" in section
        assert "Changes:" in section


def test_audioset_strong_is_mostly_in_audioset(audioset: Vocabulary) -> None:
    strong = Vocabulary.audioset_strong()
    assert len(strong) == 447
    assert list(strong.names) == sorted(strong.names)
    of_both = {label.mid: label.name for label in audioset}
    shared = [label for label in strong if label.mid in of_both]
    assert len(shared) == 376
    assert sum(of_both[label.mid] != label.name for label in shared) == 11
    assert strong.find("Bicycle, tricycle").mid == audioset.find("Bicycle").mid
    assert all(label.mid.startswith(("/m/", "/g/", "/t/")) for label in strong)


class TestMatch:
    def test_what_find_finds_comes_first(self, audioset: Vocabulary) -> None:
        for text in ("Dog", "/m/0bt9lr", "subway-metro-underground", "BIRD"):
            assert audioset.match(text) == audioset.find(text)

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("chirp", "Chirp, tweet"),  # one of its names, while "Chirp tone" is another sound
            ("subway", "Subway, metro, underground"),
            ("metro underground", "Subway, metro, underground"),
            ("theremin", "Theremin"),
        ],
    )
    def test_words_find_the_one_label_that_has_them(self, audioset: Vocabulary, text: str, name: str) -> None:
        assert audioset.match(text).name == name

    def test_words_of_several_labels_are_refused_with_those_labels(self, audioset: Vocabulary) -> None:
        with pytest.raises(UsageError, match="'electric' is in the names") as error:
            audioset.match("electric")
        assert error.value.hint is not None
        named = error.value.hint.removeprefix("one of ").strip('"').split('"; "')
        assert len(named) >= 2
        assert all("electric" in name.casefold() for name in named)

    def test_labels_that_contain_the_text_are_listed_before_those_that_look_alike(
        self, audioset: Vocabulary
    ) -> None:
        with pytest.raises(UsageError, match="unknown label 'ukul'") as error:
            audioset.match("ukul")
        assert suggestions(error)[0] == "Ukulele"

    def test_beginnings_of_words_are_no_match(self, audioset: Vocabulary) -> None:
        with pytest.raises(UsageError, match="unknown label 'chir'"):
            audioset.match("chir")

    def test_files_of_thresholds_name_labels_exactly(self, audioset: Vocabulary) -> None:
        with pytest.raises(UsageError, match="unknown label 'chirp'"):
            audioset.find("chirp")
