"""`dymn schema`: what it prints, and that real results are as it says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import state_dict

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import save_weights
from dymn_cli.writers.schemas import SCHEMAS

jsonschema = pytest.importorskip("jsonschema")

Fake = Callable[..., Any]
Record = Callable[..., str]


def closed(schema: Any) -> Any:
    """The schema with no fields but those that it describes: what is not described is not documented."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        inner["additionalProperties"] = False
    return inner


def check(document: dict[str, Any]) -> str:
    """Hold a document to the schema that it names; gives the name."""
    name = str(document["schema"]).removeprefix("dymn.").removesuffix("/1")
    schema = SCHEMAS[name] if name == "meta" else closed(SCHEMAS[name])
    jsonschema.Draft202012Validator(schema).validate(document)
    return name


def names(out: bytes) -> list[str]:
    return [check(json.loads(line)) for line in out.splitlines()]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_is_printed(fake: Fake, name: str) -> None:
    ran = fake("schema", name)
    assert (ran.returncode, ran.err) == (0, "")
    printed = json.loads(ran.out)
    jsonschema.Draft202012Validator.check_schema(printed)
    assert printed == SCHEMAS[name]
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert printed["properties"]["schema"]["const"] == f"dymn.{name}/1"
    assert json.loads(fake("schema", f"dymn.{name}/1").out) == printed


def test_help_names_every_schema(fake: Fake) -> None:
    described = " ".join(fake("schema", "--help").out.split())
    assert all(f" {name}: " in described for name in SCHEMAS)


def test_a_name_that_is_none_gets_the_nearest(fake: Fake) -> None:
    ran = fake("schema", "clips")
    assert (ran.returncode, ran.out) == (2, "")
    assert "no schema 'clips'; nearest: clip" in ran.err


def test_tags_are_as_their_schema_says(fake: Fake, folder: str, record: Record) -> None:
    record("stereo.wav", [(81, 11)], [(104, 11)])
    ran = fake("tag", folder, "-f", "jsonl")
    assert sorted(names(ran.stdout)) == ["clip", "clip", "clip", "error", "error"]
    each = fake("tag", "stereo.wav", "--channel", "each", "--windows", "-l", "Cat", "-t", 0.5, "-f", "jsonl")
    assert names(each.stdout) == ["clip", "clip"]
    assert [check(document) for document in json.loads(fake("tag", folder, "-f", "json").out)] == names(
        ran.stdout
    )


def test_names_that_are_no_utf8(fake: Fake, record: Record) -> None:
    Path(record("plain.wav", (81, 1))).rename(os.fsdecode(b"caf\xe9.wav"))
    for command in ("tag", "events", "embed"):
        (line,) = fake(command, b"caf\xe9.wav", "-f", "jsonl").stdout.splitlines()
        document = json.loads(line)
        check(document)
        assert document["source_b64"] == "Y2Fm6S53YXY="


def test_events_are_as_their_schema_says(fake: Fake, folder: str, record: Record) -> None:
    record("long.wav", (20, 8), (81, 6), (20, 8))
    ran = fake("events", "long.wav", folder, "-l", "Cat", "-f", "jsonl")
    assert sorted(names(ran.stdout)) == ["error", "error", "events", "events", "events", "events"]
    assert json.loads(ran.out.splitlines()[0])["events"]
    assert [check(document) for document in json.loads(fake("events", "long.wav", "-f", "json").out)]


def test_embeddings_are_as_their_schema_says(fake: Fake, folder: str) -> None:
    assert sorted(names(fake("embed", folder).stdout)) == ["embedding"] * 3 + ["error"] * 2
    assert set(names(fake("embed", f"{folder}/take1.wav", "--per", "frame").stdout)) == {"embedding"}


def test_so_is_what_info_says(fake: Fake, folder: str) -> None:
    for options in ((), ("--decode",)):
        assert set(names(fake("info", folder, *options, "-f", "jsonl").stdout)) == {"info", "error"}


def test_so_is_what_search_and_duplicates_find(fake: Fake, folder: str, record: Record) -> None:
    record("lib/a.wav", (81, 1))
    record("lib/b.wav", (81, 1))
    fake("embed", "lib", "-o", "lib.npy")
    ran = fake("search", "lib.npy", folder, "-f", "jsonl")
    assert sorted(names(ran.stdout)) == ["error", "error", "search", "search", "search"]
    assert [check(one) for one in json.loads(fake("search", "lib.npy", "lib", "-f", "json").out)]
    found = fake("duplicates", "lib.npy", "-f", "json")
    assert (found.returncode, check(json.loads(found.out))) == (0, "duplicates")


def test_and_what_lies_beside_files(fake: Fake, folder: str, dymn: Any) -> None:
    for arguments in (
        ("tag", folder, "-o", "t.csv"),
        ("events", folder, "-o", "e.tsv"),
        ("embed", folder, "-o", "v.npy"),
        ("tag", folder, "--out-dir", "all", "-f", "csv"),
    ):
        assert fake(*arguments).returncode == 6
    found = sorted(str(path.relative_to(dymn.cwd)) for path in dymn.cwd.rglob("*meta.json"))
    assert len(found) == 4, found
    assert {check(json.loads((dymn.cwd / name).read_text("utf-8"))) for name in found} == {"meta"}


def test_an_ensemble_lists_its_members(in_process: Any, record: Record) -> None:
    record("a.wav", (81, 1))
    config = ARCHITECTURES["mn01"]
    header = ModelHeader("small", config, FrontEndConfig(), Vocabulary.audioset())
    save_weights(in_process.cwd / "small.safetensors", header, state_dict(config))
    ran = in_process("tag", "a.wav", "-m", "./small.safetensors", "-m", "dymn04_kd", "-f", "jsonl")
    assert ran.returncode == 0, ran.err
    (line,) = ran.out.splitlines()
    check(json.loads(line))
    assert len(json.loads(line)["model"]["models"]) == 2
