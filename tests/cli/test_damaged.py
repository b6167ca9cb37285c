"""Damaged files through every command: what is left is analysed with a warning, and --strict refuses it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

CASES = Path(__file__).parents[1] / "audio" / "cases"
SAID = "72.0 ms of audio at 3.38 s could not be decoded"
COMMANDS = [
    ("tag", "-f", "jsonl"),
    ("embed", "-f", "jsonl"),
    ("events", "-f", "jsonl"),
    ("info", "-f", "jsonl", "--decode"),
]


@pytest.fixture
def damaged(dymn: Any) -> str:
    """A FLAC file with one bit flipped."""
    shutil.copy(CASES / "flac_one_bit_flipped.flac", dymn.cwd / "flipped.flac")
    return "flipped.flac"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_is_missing_is_said_in_the_result_and_on_stderr(
    fake: Callable[..., Any], damaged: str, command: tuple[str, ...]
) -> None:
    ran = fake(command[0], damaged, *command[1:])
    assert ran.returncode == 0
    documents = [json.loads(line) for line in ran.out.splitlines()]
    assert documents
    assert any(SAID in text for document in documents for text in document.get("warnings", ()))
    assert f"{damaged}: {SAID}" in ran.err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_strict_refuses_a_damaged_file(
    fake: Callable[..., Any], damaged: str, command: tuple[str, ...]
) -> None:
    ran = fake(command[0], damaged, "--strict", *command[1:])
    assert ran.returncode == 3
    assert f"{damaged}: damaged: {SAID}; without --strict, the rest is read" in ran.err


def test_the_warning_is_the_same_in_a_worker(dymn: Any, damaged: str) -> None:
    sound = np.tile(np.sin(np.arange(16_000) * 0.1) * 0.3, 3)
    soundfile.write(dymn.cwd / "whole.wav", sound, 16_000)
    soundfile.write(dymn.cwd / "opposite.wav", np.stack([sound, -sound], 1), 16_000)
    files = (damaged, "whole.wav", "opposite.wav")
    ran = [dymn("tag", *files, "-f", "jsonl", "-j", jobs) for jobs in (1, 2)]
    assert ran[0].out == ran[1].out
    found = [json.loads(line)["warnings"] for line in ran[0].out.splitlines()]
    assert found[0] == [SAID]
    assert len(found[1]) == 1  # that it was repeated
    assert any("--channel 0" in text for text in found[2])
