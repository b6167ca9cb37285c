"""How names and numbers are spelled, the same in every format.

Names are `str` as Python gets them from the file system: bytes that are no UTF-8 arrive as lone surrogates
("surrogateescape", PEP 383). Rows get the original bytes back, JSON a readable stand-in beside the original
in base64, a terminal neither control characters nor anything that it cannot show.
"""

from __future__ import annotations

import base64
import unicodedata
from datetime import datetime, timedelta

__all__ = [
    "clock_text",
    "name_bytes",
    "readable",
    "seconds",
    "stand_in",
    "visible",
    "visible_rows",
]

_SHORT_ESCAPES = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls of terminals and text, surrogates, separators
_JOINERS = "\u200c\u200d"  # within words of some scripts, and within emoji


def name_bytes(text: str) -> bytes:
    """UTF-8, with undecodable bytes of a file name as they were in the file system."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: only callers of the library send one
        return text.encode("utf-8", "surrogatepass")


def readable(text: str) -> str:
    """The same text as valid Unicode: U+FFFD stands for each byte that is no UTF-8."""
    return name_bytes(text).decode("utf-8", "replace")


def stand_in(name: str) -> tuple[str, str | None]:
    """The name of a source as valid Unicode, and its bytes in base64 where that says less than they do."""
    shown, raw = readable(name), name_bytes(name)
    return shown, None if shown.encode("utf-8") == raw else base64.b64encode(raw).decode("ascii")


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""The text on one line and harmless to a terminal of that encoding.

    Control characters, line separators, marks that reorder or hide text and undecodable bytes become escapes
    (`\n`, `\x1b`, `\u202e`, `\xff`); so does what the encoding lacks. A plain backslash stays one.
    """
    shown = "".join(_visible_char(char) for char in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def visible_rows(text: str) -> str:
    """Lines of text as `visible` shows them, tabs and line ends excepted."""
    return "".join(char if char in "\t\n" else _visible_char(char) for char in text)


def _visible_char(char: str) -> str:
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if unicodedata.category(char) not in _UNPRINTABLE or char in _JOINERS:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clock_text(began: datetime | None, start_s: float) -> str:
    """The time so many seconds after a recording began, in ISO 8601 with milliseconds; "" where unknown."""
    if began is None:
        return ""
    try:
        return (began + timedelta(milliseconds=round(start_s * 1000))).isoformat(timespec="milliseconds")
    except OverflowError:  # beyond the year 9999
        return ""


def seconds(value: float) -> float:
    """A time rounded to the millisecond, so that 0.1 + 0.2 prints as 0.3.

    Its `str` and its JSON are the same text: up to three decimals, trailing zeros cut, but always one
    decimal (`0.0`, `10.0`, `2.375`), so that a reader which guesses types sees a float in every file.
    """
    return round(float(value), 3) + 0.0  # + 0.0 makes -0.0 a plain zero
