from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.values import counted
from dymn_cli.writers.spelling import name_bytes, readable, seconds, visible, visible_rows


@pytest.mark.parametrize("raw", [b"plain.wav", "föö.wav".encode(), b"f\xf6\xf6.wav", b"\xff\xfe\xed\xa0\x80"])
def test_bytes_of_a_file_name_survive(raw: bytes) -> None:
    assert name_bytes(raw.decode("utf-8", "surrogateescape")) == raw


def test_one_thing_is_one_thing() -> None:
    assert [counted(n, "clip") for n in (0, 1, 2, 1200)] == ["0 clips", "1 clip", "2 clips", "1,200 clips"]


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_string_can_be_written_and_read(text: str) -> None:
    name_bytes(text)
    readable(text).encode("utf-8")
    assert visible(text, "ascii").isascii()


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_readable_text_is_left_alone(text: str) -> None:
    assert readable(text) == text


def test_what_a_terminal_would_obey_is_made_visible() -> None:
    assert (
        visible("a\x1b[31m\n\r\t\x07\x9b\u2028\u202egpj.wav") == r"a\x1b[31m\n\r\t\x07\x9b\u2028\u202egpj.wav"
    )
    assert visible("f\udcf6.wav") == r"f\xf6.wav"


@pytest.mark.parametrize(
    "code", [0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0x202A, 0x202E, 0x2066, 0x2069, 0xFEFF]
)
def test_marks_that_reorder_or_hide_text_are_made_visible(code: int) -> None:
    assert visible(f"a{chr(code)}b") == (f"a\\x{code:02x}b" if code < 0x100 else f"a\\u{code:04x}b")
    assert visible("\U000e0001") == r"\U000e0001"


def test_rows_keep_their_tabs_and_line_ends_only() -> None:
    assert visible_rows("a\tb\nc\r\x1b[0m\x9bd\n") == "a\tb\nc\\r\\x1b[0m\\x9bd\n"


def test_what_a_terminal_can_show_is_left_alone() -> None:
    family = "👩\u200d👧 C:\\take [1]\u00a0ü.wav"
    assert visible(family) == family
    assert visible("ü 🦉", "ascii") == r"\xfc \U0001f989"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (10.0, "10.0"),
        (0.1 + 0.2, "0.3"),
        (2.3754999, "2.375"),
        (1e-9, "0.0"),
        (86_400.25, "86400.25"),
    ],
)
def test_times_are_whole_milliseconds_everywhere_alike(value: float, text: str) -> None:
    assert str(seconds(value)) == json.dumps(seconds(value)) == text
