"""The local store: what is in it is whole, and a name is never a path."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path

import pytest

from dymn_cli.errors import ModelError, OutputError, UsageError
from dymn_cli.store import local
from dymn_cli.store.local import Pin, Record, adopt, check_name, discard, locked, own_names, pin_of, record_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store."""
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def record(name: str = "mine", data: bytes = b"numbers", **changes: object) -> Record:
    fields = {
        "name": name,
        "origin": "own",
        "file": f"{name}-{len(data)}.safetensors",
        "sha256": "ab" * 32,
        "size_bytes": len(data),
        "checkpoint_sha256": "cd" * 32,
        "checkpoint_from": "best.pt",
        "recognised_by": "user",
        "architecture": "mn01",
        "n_classes": 3,
        "purpose": "tags",
        "hop_ms": 10,
        "n_mels": 128,
        "parameters": 1000,
        "macs": 2000,
        "embedding_size": 96,
        "temperature": 1.0,
    }
    return Record(**{**fields, **changes})  # type: ignore[arg-type]


def put(name: str = "mine", data: bytes = b"numbers", **changes: object) -> Record:
    """Adopt a model of these bytes."""
    made = record(name, data, **changes)
    with locked(name, lambda: None) as folder:
        (folder / "untested.safetensors").write_bytes(data)
        adopt(made, folder / "untested.safetensors")
    return made


def test_what_is_adopted_is_found(home: Path) -> None:
    made = put()
    assert record_of("mine") == made
    assert made.path.read_bytes() == b"numbers"
    assert made.path.parent == home / "models" / "mine"
    assert own_names() == ("mine",)


def test_another_file_takes_the_place_of_the_first_and_leavings_go() -> None:
    first = put()
    with locked("mine", lambda: None) as folder:
        (folder / "download.partial").write_bytes(b"half")
    second = put(data=b"other numbers", kept="original.pt")
    assert record_of("mine") == second
    assert not first.path.exists()
    assert {path.name for path in second.path.parent.iterdir()} == {"record.json", second.file}


def test_an_original_that_is_kept_stays() -> None:
    with locked("mine", lambda: None) as folder:
        (folder / "original.pt").write_bytes(b"zip")
    assert "original.pt" in {path.name for path in put(kept="original.pt").path.parent.iterdir()}


def test_an_adoption_that_fails_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    first = put()

    def refuse(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(local, "write_whole", refuse)
    with pytest.raises(OutputError, match="no space left"):
        put(data=b"other numbers")
    assert record_of("mine") == first
    assert first.path.read_bytes() == b"numbers"


def test_what_is_discarded_is_gone_and_its_pin_is_not(home: Path) -> None:
    put()
    local.save_pin("mine", Pin("ef" * 32, "https://models.example/x.pt"))
    with locked("mine", lambda: None):
        assert discard("mine") > len(b"numbers")
    assert record_of("mine") is None
    assert own_names() == ()
    assert not (home / "models" / "mine").exists()
    assert pin_of("mine") == Pin("ef" * 32, "https://models.example/x.pt")


def test_a_lock_that_brings_nothing_leaves_no_folder(home: Path) -> None:
    with locked("mine", lambda: None):
        pass
    assert not (home / "models" / "mine").exists()


def test_who_comes_second_waits_and_is_told() -> None:
    order: list[str] = []
    inside, told = threading.Event(), threading.Event()

    def second() -> None:
        inside.wait(10)
        with locked("mine", told.set):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with locked("mine", lambda: None):
        inside.set()
        assert told.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.parametrize("name", ["a", "my-birds_2.1", "0", "x" * 64])
def test_names_that_can_be(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "C:x",
        ".hidden",
        "-x",
        "A",
        "ä",
        "a b",
        "a\n",
        "x" * 65,
        "a.",
        "con",
        "nul.txt",
        "lpt1",
    ],
)
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        check_name(name)
    assert record_of(name) is None


DAMAGE = {
    "no JSON": "{",
    "a list": "[]",
    "another version": json.dumps({"schema": "dymn.model-record/2"}),
    "empty": "",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_told_with_what_helps(damage: str, home: Path) -> None:
    put()
    (home / "models/mine/record.json").write_text(DAMAGE[damage])
    with pytest.raises(ModelError, match="not a readable record") as caught:
        record_of("mine")
    assert "dymn models remove mine" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../../../etc/passwd"},
        {"file": "C:\\x"},
        {"file": ""},
        {"file": ".."},
        {"name": "other"},
        {"sha256": "short"},
        {"size_bytes": "7"},
        {"macs": True},
        {"temperature": None},
        {"origin": "elsewhere"},
        {"surprise": 1},
    ],
)
def test_a_record_that_was_meddled_with_is_refused(changes: dict[str, object], home: Path) -> None:
    put()
    path = home / "models/mine/record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelError, match="not a readable record"):
        record_of("mine")


def test_a_record_has_no_times_and_no_absolute_paths(home: Path) -> None:
    put()
    text = (home / "models/mine/record.json").read_text()
    assert str(home) not in text
    assert set(json.loads(text)) == {"schema", *(field.name for field in dataclasses.fields(Record))}


@pytest.mark.parametrize("text", ["{", '{"schema": "dymn.pin/1", "sha256": "x", "seen_at": ""}', "[]"])
def test_a_damaged_pin_is_no_reason_to_trust(text: str, home: Path) -> None:
    local.save_pin("mine", Pin("ef" * 32, "here"))
    (home / "pins/mine.json").write_text(text)
    with pytest.raises(ModelError, match="not a readable pin"):
        pin_of("mine")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_may_not_be_written_to_says_where_else(home: Path) -> None:
    home.mkdir()
    home.chmod(0o500)
    with pytest.raises(OutputError) as caught, locked("mine", lambda: None):
        pass
    assert "DYMN_HOME" in (caught.value.hint or "")


def test_a_store_that_is_a_file_is_an_output_error(home: Path) -> None:
    home.write_text("no folder")
    with pytest.raises(OutputError), locked("mine", lambda: None):
        pass
    assert own_names() == ()
    assert record_of("mine") is None
    assert pin_of("mine") is None
