"""Recipes in files: what is printed can be read, and what is wrong is said with its place."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.errors import InputError, UsageError
from dymn_cli.train.distill import recipe as distill
from dymn_cli.train.distill.recipe import RECIPES, Recipe, built_in
from dymn_cli.train.finetune import recipe as finetune
from dymn_cli.train.finetune.recipe import PUBLISHED, FinetuneRecipe, default_recipe
from dymn_cli.train.recipe_file import change, parse, parse_assignment, read

SMALL = distill.recipe_toml(built_in("small"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_built_in_recipe_is_what_is_printed_of_it(name: str) -> None:
    text = resources.files("dymn_cli.train.distill").joinpath("recipes", f"{name}.toml").read_text("utf-8")
    assert distill.recipe_toml(built_in(name)) == text
    assert max(map(len, text.splitlines())) <= 110
    for field in dataclasses.fields(Recipe):
        assert field.name in text or (field.name == "mixes" and name in ("paper", "labels"))


@pytest.mark.parametrize("name", [None, *PUBLISHED])
def test_a_recipe_of_finetune_is_read_as_it_is_printed(name: str | None) -> None:
    recipe = dataclasses.replace(default_recipe(name), roll_s=0.1 + 0.2, rate=1e-5 / 3)
    assert parse(FinetuneRecipe, finetune.recipe_toml(recipe), "text") == recipe


def test_any_number_is_read_as_it_was_written(tmp_path: Path) -> None:
    mixes = dataclasses.replace(built_in("small").mixes, p_noise=1 / 3, p_clips=(0.1 + 0.2, 0.7), max_speed=2)
    recipe = dataclasses.replace(built_in("small"), mixes=mixes, label_weight=1e-17)
    path = tmp_path / "mine.toml"
    path.write_text(distill.recipe_toml(recipe))
    assert read(Recipe, str(path)) == recipe


def test_what_a_file_leaves_out_has_its_default() -> None:
    text = 'hours = 2\n[[stages]]\nmode = "end-to-end"\nshare = 1\nbatch = 8\nwindow_s = 5\nrate = 1e-3\n'
    recipe = parse(Recipe, text, "text")
    assert (recipe.mixes, recipe.label_weight, recipe.hours) == (None, 0.1, 2)
    assert (recipe.stages[0].optimizer, recipe.stages[0].dropout) == ("adamw", True)


@pytest.mark.parametrize(
    ("old", "new", "said", "hint"),
    [
        ("hours =", "hour =", "mine.toml: there is no setting 'hour'", "nearest: hours"),
        ("p_far =", "p_fat =", "mine.toml, mixes: there is no setting 'p_fat'", "p_far"),
        ("batch = 16", "bach = 16", "mine.toml, stages.2: there is no setting 'bach'", "nearest: batch"),
        ("batch = 16", 'batch = "16"', "mine.toml, stages.2: batch '16' is not a whole number", None),
        ("batch = 16", "batch = 1", "mine.toml, stages.2: batch 1 is not at least 2", None),
        ("batch = 16", "batch = true", "mine.toml, stages.2: batch True is not a whole number", None),
        ("batch = 16", "#", "mine.toml, stages.2: batch is missing", "clips in a step"),
        ("window_s = 4.0", "window_s = nan", "mine.toml, stages.1: window_s nan is not at least 0.5", None),
        ("window_s = 4.0", "window_s = inf", "mine.toml, stages.1: window_s inf is not at most 60", None),
        ("ema_decay = 0.999", "ema_decay = 1", "mine.toml, stages.2: ema_decay 1 is not less than 1", None),
        ('mode = "end-to-end"', 'mode = "whole"', "mine.toml, stages.2: no mode 'whole'", "end-to-end"),
        ("dropout = false", 'dropout = "no"', "stages.1: dropout 'no' is neither true nor false", None),
        ("p_far = 0.08", "p_far = 1.5", "mine.toml, mixes: p_far 1.5 is not at most 1", None),
        ("p_clips = [0.45,", "p_clips = [0.5,", "mine.toml, mixes: p_clips: their sum is 1.05, not 1", None),
        ("p_clips = [0.45,", 'p_clips = ["a",', "mine.toml, mixes: p_clips 'a' is not a number", None),
        ("gain_db = [-20.0,", "gain_db = [14.0,", "mine.toml, mixes: gain_db: 14 is more than 8", None),
        ("gain_db = [-20.0,", "gain_db = [1, 2,", "gain_db (1, 2, 8.0) is not a list of 2 numbers", None),
        ("[mixes]", "[[mixes]]", "mine.toml, mixes: not a table", None),
        ("[mixes]", "[other]", "mine.toml: there is no setting 'other'", None),
        ("relative_rate = 10.0", "relative_rate = 0", "stages.1: rate 0 and relative_rate 0", None),
        ("hours = 1.0", "hours = 0", "mine.toml: hours 0 and epochs 0: exactly one", None),
        ("mixup = 0.0", "mixup = 0.3", "mine.toml: mixup and perturb_bands are for a recipe without", None),
        ("hours = 1.0", "hours = ", "mine.toml: not TOML: Invalid value (at line 13, column", None),
        ("hours = 1.0", "hours = 1.0\nhours = 2.0", "mine.toml: not TOML: Cannot overwrite a value", None),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_said_with_its_place(old: str, new: str, said: str, hint: str | None) -> None:
    assert old in SMALL
    with pytest.raises(UsageError) as caught:
        parse(Recipe, SMALL.replace(old, new, 1), "mine.toml")
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(Recipe, str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read(Recipe, str(tmp_path / "bytes.toml"))


@pytest.mark.parametrize("text", ["", "stages = []", "stages = 1", "stages = [1]", "[stages]\nbatch = 1"])
def test_a_recipe_needs_stages(text: str) -> None:
    with pytest.raises(UsageError, match="stages"):
        parse(Recipe, text, "text")


def test_settings_are_changed_by_key() -> None:
    small = built_in("small")
    changed = change(
        small,
        [("batch", 8), ("stages.2.rate", 1e-3), ("mixes.p_far", 0), ("hours", 0.0), ("epochs", 3)],
        "small",
    )
    assert [stage.batch for stage in changed.stages] == [8, 8]
    assert [stage.rate for stage in changed.stages] == [0, 1e-3]
    assert (changed.mixes.p_far, changed.hours, changed.epochs) == (0, 0, 3)
    assert small == built_in("small")
    assert change(small, [], "small") == small


@pytest.mark.parametrize(
    ("key", "value", "said", "hint"),
    [
        ("bacth", 8, "there is no setting 'bacth'", "batch"),
        ("stages.3.batch", 8, "there is no setting 'stages.3.batch'", None),
        ("stages.0.batch", 8, "there is no setting", None),
        ("mixes.p_fra", 8, "there is no setting 'mixes.p_fra'", "mixes.p_far"),
        ("mixes", 0, "there is no setting 'mixes'", None),
        ("mixes.p_far.x", 0, "there is no setting", None),
        ("stages", 0, "small, stages: not an array of tables", None),
        ("batch", 1, "small, stages.1: batch 1 is not at least 2", None),
    ],
)
def test_settings_that_cannot_be_changed(key: str, value: object, said: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        change(built_in("small"), [(key, value)], "small")
    assert said in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("batch=8", ("batch", 8)),
        (" mixes.p_far = 1e-3 ", ("mixes.p_far", 1e-3)),
        ("mode=end-to-end", ("mode", "end-to-end")),
        ('mode="end-to-end"', ("mode", "end-to-end")),
        ("dropout=false", ("dropout", False)),
        ("mixes.gain_db=[-3, 3]", ("mixes.gain_db", [-3, 3])),
    ],
)
def test_an_assignment_has_a_key_and_a_value(text: str, found: tuple[str, Any]) -> None:
    assert parse_assignment(text) == found


@pytest.mark.parametrize("text", ["batch", "=8", "batch=", " = "])
def test_no_assignment(text: str) -> None:
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        parse_assignment(text)


def test_rates_follow_the_width_unless_they_are_given() -> None:
    recipe = change(built_in("small"), [("stages.1.rate", 1e-2)], "small")
    rates = [[stage.rate for stage in recipe.for_student(width).stages] for width in (0.4, 1.0, 2.0)]
    assert rates == [[1e-2, 0.75 * 2e-3], [1e-2, 0.75 * 1e-3], [1e-2, 0.75 * 5e-4]]


def test_stages_may_be_left_out() -> None:
    small = built_in("small")
    assert [stage.mode for stage in small.for_student(0.4, blocks=False).stages] == ["end-to-end"]
    without = change(small, [("stages.2.share", 0)], "small")
    assert [stage.mode for stage in without.for_student(0.4).stages] == ["blockwise"]
    with pytest.raises(UsageError, match="the student's channels in every block"):
        without.for_student(0.4, blocks=False)
    with pytest.raises(UsageError, match="a share of more than 0"):
        change(without, [("stages.1.share", 0)], "small")
