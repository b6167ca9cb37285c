"""`dymn labels`: within this process where only the answer counts, on the real one where streams do."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from dymn_cli.cli.app import run
from dymn_cli.labels import Vocabulary
from dymn_cli.store.registry import DEFAULT_MODEL, model_spec
from dymn_cli.store.weights import read_weights, save_weights


@pytest.fixture
def labels(capsysbinary):
    """Runs `dymn labels` here: the exit code, the cells, and what was said."""

    def ask(*arguments) -> SimpleNamespace:
        code = run(["labels", *map(str, arguments)])
        streams = capsysbinary.readouterr()
        rows = [line.split("\t") for line in streams.out.decode().splitlines()]
        return SimpleNamespace(returncode=code, stdout=streams.out, rows=rows, err=streams.err.decode())

    return ask


@pytest.fixture
def own_model(tmp_path):
    """The shipped model with only three outputs, and labels of its own for them."""
    shipped = read_weights(model_spec(DEFAULT_MODEL))
    tensors = dict(shipped.tensors)
    for key in ("classifier.5.weight", "classifier.5.bias"):
        tensors[key] = tensors[key][:3]
    header = dataclasses.replace(
        shipped.header,
        name="mine",
        config=dataclasses.replace(shipped.header.config, n_classes=3),
        vocabulary=Vocabulary.from_names(["Engine, idling", "engine off", "Knocking"]),
    )
    path = tmp_path / "mine.safetensors"
    save_weights(path, header, tensors)
    return path


def test_all_labels_come_in_the_order_of_the_outputs(in_process):
    ran = in_process("labels")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert [row[0] for row in ran.rows] == [str(n) for n in range(527)]
    assert ran.rows[0] == ["0", "/m/09x0r", "Speech"]
    assert ["334", "/m/0195fx", "Subway, metro, underground"] in ran.rows
    assert all(len(row) == 3 for row in ran.rows)


def test_the_order_is_that_of_audiosets_own_list(labels, shared):
    import csv

    with (shared / "audioset" / "class_labels_indices.csv").open(encoding="utf-8") as file:
        expected = [[row["index"], row["mid"], row["display_name"]] for row in csv.DictReader(file)]
    assert labels().rows == expected


def test_a_header_on_demand(labels):
    assert labels("bark", "--header").rows == [["index", "mid", "name"], ["75", "/m/05tny_", "Bark"]]


@pytest.mark.parametrize(
    "query",
    [
        ("SUBWAY",),
        ("metro", "underground"),
        ("metro underground",),
        ("/m/0195fx",),
        ("subway-metro-underground",),
    ],
)
def test_a_label_is_found_by_part_of_its_name_its_id_or_its_slug(labels, query):
    assert labels(*query).rows == [["334", "/m/0195fx", "Subway, metro, underground"]]


def test_the_best_match_comes_first(labels):
    names = [row[2] for row in labels("guitar").rows]
    assert names[0] == "Guitar"
    assert {"Bass guitar", "Electric guitar", "Steel guitar, slide guitar"} < set(names)


def test_nothing_found_is_exit_code_1_and_the_nearest_three(in_process):
    ran = in_process("labels", "xylofone")
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert len(ran.err.splitlines()) == 1
    nearest = re.findall(r'"([^"]+)"', ran.err)
    assert len(nearest) == 3
    assert "Marimba, xylophone" in nearest


def test_json_has_slugs_that_are_unique(labels):
    document = json.loads(labels("-f", "json").stdout)
    assert document["schema"] == "dymn.labels/1"
    assert document["labels"][334] == {
        "index": 334,
        "mid": "/m/0195fx",
        "name": "Subway, metro, underground",
        "slug": "subway-metro-underground",
    }
    assert len({label["slug"] for label in document["labels"]}) == 527


def test_a_tree_shows_what_is_under_a_sound(labels):
    assert labels("dog", "--tree").rows == [
        ["0", "74", "/m/0bt9lr", "Dog"],
        ["1", "75", "/m/05tny_", "Bark"],
        ["1", "76", "/m/07r_k2n", "Yip"],
        ["1", "77", "/m/07qf0zm", "Howl"],
        ["1", "78", "/m/07rc7d9", "Bow-wow"],
        ["1", "79", "/m/0ghcn6", "Growling"],
        ["1", "80", "/t/dd00136", "Whimper (dog)"],
        ["1", "", "/m/07srf8z", "Bay"],
    ]


def test_the_whole_tree_has_seven_roots_and_every_label(labels):
    rows = labels("--tree").rows
    assert sum(row[0] == "0" for row in rows) == 7
    assert {int(row[1]) for row in rows if row[1]} == set(range(527))


def test_a_sound_with_several_parents_comes_under_each(labels):
    parents, path = set(), []
    for depth, _, _, name in labels("--tree").rows:
        path[int(depth) :] = [name]
        if name == "Growling":
            parents.add(path[-2])
    assert parents == {"Dog", "Cat", "Canidae, dogs, wolves", "Roaring cats (lions, tigers)"}


def test_a_tree_as_json(labels):
    document = json.loads(labels("Dog", "--tree", "-f", "json").stdout)
    assert document["schema"] == "dymn.label_tree/1"
    assert document["sounds"][0] == {"depth": 0, "index": 74, "mid": "/m/0bt9lr", "name": "Dog"}
    assert document["sounds"][-1]["index"] is None


def test_a_tree_from_an_unknown_sound_is_exit_code_1(labels):
    ran = labels("Doggo", "--tree")
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert '"Dog"' in ran.err


def test_a_model_of_ones_own_has_its_own_labels(in_process, own_model):
    expected = [["0", "", "Engine, idling"], ["1", "", "engine off"], ["2", "", "Knocking"]]
    assert in_process("labels", "-m", own_model).rows == expected
    assert in_process("labels", env={"DYMN_MODEL": str(own_model)}).rows == expected
    assert in_process("labels", "knock", "-m", own_model).rows == expected[2:]


def test_labels_that_are_not_audiosets_have_no_tree(labels, own_model):
    ran = labels("--tree", "-m", own_model)
    assert ran.returncode == 2
    assert "labels of its own" in ran.err


def test_an_unknown_format_is_a_usage_error_that_names_the_nearest(labels):
    ran = labels("-f", "jsn")
    assert ran.returncode == 2
    assert "nearest: json" in ran.err


def test_a_terminal_gets_a_table_and_no_label_is_cut(dymn):
    ran = dymn.terminal("labels", columns=80, env={"NO_COLOR": "1"})
    lines = ran.out.splitlines()
    assert lines[0].split() == ["index", "id", "name", "slug"]
    assert max(map(len, lines)) <= 80
    assert "\t" not in ran.out
    assert "…" not in ran.out
    assert "\x1b" not in ran.out
    name, ids = lines[0].index("name"), lines[0].index("id")
    slug = lines[0].index("slug")
    names: list[str] = []
    for line in lines[1:]:
        if line[ids:name].strip():
            names.append(line[name:slug].strip())
        else:
            names[-1] = f"{names[-1]} {line[name:slug].strip()}".strip()
    assert names == list(Vocabulary.audioset().names)


def test_a_tree_on_a_terminal_is_indented_and_marks_what_no_output_stands_for(dymn):
    ran = dymn.terminal("labels", "Dog", "--tree", columns=80, env={"NO_COLOR": "1"})
    assert "   74  /m/0bt9lr   Dog\n" in ran.out
    assert "   75  /m/05tny_     Bark\n" in ran.out
    assert "    –  /m/07srf8z    Bay\n" in ran.out
    assert "–" in ran.err


def test_colour_comes_and_goes_with_the_option(dymn):
    assert b"\x1b[" in dymn("labels", "bark", "-f", "table", "--color", "always").stdout
    assert b"\x1b[" not in dymn.terminal("labels", "bark", "--color", "never").stdout


def test_a_reader_that_goes_away_is_no_error(dymn):
    ran = dymn.shell("dymn labels | head -1")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"0\t/m/09x0r\tSpeech\n", b"")


def test_a_missing_model_file_is_a_model_error(labels):
    ran = labels("-m", Path("none.safetensors").absolute())
    assert ran.returncode == 4
