"""Work that needs no model and no audio, and can do harm."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import opened_once
import pytest

from dymn_cli.tagging import tagger as tagger_module
from dymn_cli.tagging.options import TagOptions


@pytest.fixture(scope="session", autouse=True)
def _importable_by_workers() -> Iterator[None]:
    sys.path.insert(0, os.fspath(Path(__file__).parent))
    yield
    sys.path.remove(os.fspath(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _the_model_that_ships_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagger_module, "open_backend", opened_once.open_backend)


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[..., Any]:
    """Makes work for a model that answers at once; `.begun()` of the result is what was worked on."""

    def make(device: str = "cpu", *, windows: bool = False, **kept: bool) -> Any:
        from faulty import FaultyJob

        note = tmp_path / "begun"
        return FaultyJob(os.fspath(note), "auto", device, None, TagOptions(windows=windows), **kept)

    return make


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[], list[tuple[int, str]]]:
    """Process and name of what was begun, in order."""

    def read() -> list[tuple[int, str]]:
        path = tmp_path / "begun"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(line.split(" ", 1)[0]), line.split(" ", 1)[1]) for line in lines]

    return read
