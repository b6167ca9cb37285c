"""Check the values of options and files; errors name the place and the value in one sentence.

Those of options are for the `__post_init__` of frozen options, because Python does not enforce types: a
string in place of a tuple of names would be read letter by letter, and "10" would fail somewhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from dymn_cli.errors import DymnError, InputError, UsageError

__all__ = [
    "bytes_text",
    "counted",
    "listed",
    "listed_labels",
    "names_of",
    "nearest",
    "require_choice",
    "require_flag",
    "require_named",
    "require_number",
    "require_positive",
    "require_score",
    "require_whole",
    "score_of",
    "scores_of",
    "shortened",
    "time_of",
    "with_first",
]


def require_number(what: str, value: object) -> None:
    """Require a number; the caller checks its range.

    Raises:
        UsageError: it is not a number.
    """
    if isinstance(value, bool | str) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise UsageError(f"{what} {value!r:.60} is not a number")


def require_whole(what: str, value: object) -> None:
    """Require a whole number, of Python or NumPy; the caller checks its range.

    Raises:
        UsageError: it is not a whole number.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise UsageError(f"{what} {value!r:.60} is not a whole number")


def require_positive(what: str, value: Any) -> None:
    """Require a whole number of 1 or more.

    Raises:
        UsageError: it is not one.
    """
    require_whole(what, value)
    if value < 1:
        raise UsageError(f"{what} must be at least 1, not {value}")


def require_flag(what: str, value: object) -> None:
    """Require True or False: the string "no" would count as true.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, bool):
        raise UsageError(f"{what} {value!r:.60} is neither True nor False")


def require_choice(what: str, value: object, choices: Any) -> None:
    """Require one of the values of a `Literal`, or of a tuple.

    Raises:
        UsageError: it is not one of them.
    """
    known = choices if isinstance(choices, tuple) else get_args(choices)
    if isinstance(value, str) and value in known:
        return
    either = f"{', '.join(known[:-1])} or {known[-1]}"
    if what.startswith("--"):
        raise UsageError(f"{what} must be {either}, not {value!r}")
    raise UsageError(f"no {what} {value!r}", hint=either)


def names_of(what: str, value: object) -> tuple[str, ...]:
    """Turn a tuple or list of strings into a tuple.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, tuple | list) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{what} {value!r:.60} is not a tuple of names", hint='for example ("Dog",)')
    return tuple(value)


def require_named(labels: object, exclude: object, *, descendants: bool) -> None:
    """Refuse to take the kinds of labels where none is named.

    Raises:
        UsageError: none is, and `descendants` is set.
    """
    if descendants and not (labels or exclude):
        raise UsageError("--descendants needs --label or --exclude")


def require_score(value: Any) -> None:
    """Require a score from 0 to 1.

    Raises:
        UsageError: it is not one.
    """
    require_number("a score of", value)
    if not 0 <= value <= 1:  # so put, NaN fails
        raise UsageError(f"a score of {value:g} is not between 0 and 1")


def scores_of(what: str, value: object) -> tuple[tuple[str, float], ...]:
    """Turn a tuple or list of (name, score) pairs into a tuple of tuples.

    Raises:
        UsageError: it is something else, or a score is not from 0 to 1.
    """
    pairs = value if isinstance(value, tuple | list) else (None,)
    if not all(
        isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise UsageError(
            f"{what} {value!r:.60} are not pairs of a label and a score", hint='for example (("Dog", 0.2),)'
        )
    for _, score in pairs:
        require_score(score)
    return tuple((name, score) for name, score in pairs)


def time_of(text: object, where: str) -> float:
    """A time in seconds that a file has, with a decimal point or comma.

    Raises:
        InputError: it is none, or negative.
    """
    try:
        value = float(str(text).replace(",", "."))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{where}: {text!r} is not a time in seconds")
    return value


def score_of(
    text: object, where: str, *, what: str = "a score", error: type[DymnError] = InputError
) -> float:
    """A score that a file has, with a decimal point or comma.

    Args:
        text: of it, or the number.
        where: it stands.
        what: errors call it.
        error: what is raised.

    Raises:
        DymnError: as `error` says: it is none between 0 and 1.
    """
    try:
        value = float(text.replace(",", ".") if isinstance(text, str) else text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 1:
        raise error(f"{where}: {text!r} is not {what} between 0 and 1")
    return value


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a line, cut where there are many: "a, b and 3 more"."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def listed_labels(labels: Iterable[str], most: int = 4) -> str:
    """Labels in a line, in quotes because commas are part of them: "Crying, sobbing", "Speech"."""
    return listed([f'"{label}"' for label in labels], most)


def with_first(names: Sequence[str]) -> str:
    """How many there are, and one of them: "3, the first is a.wav"."""
    return f"{len(names)}, the first is {names[0]}"


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """What may have been meant by a name that there is not: "nearest: csv, tsv, jsonl"."""
    from difflib import get_close_matches  # only a misspelt name needs it

    return f"nearest: {', '.join(get_close_matches(name, list(known), n=n, cutoff=0.0))}"


def shortened(text: str) -> str:
    """A text of 40 characters at most: of a longer one, both ends."""
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"


def bytes_text(n_bytes: int) -> str:
    """Format a size in powers of 1000: 812 B, 7.9 MB."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def counted(number: int, what: str) -> str:
    """A number of things whose plural ends in s: 1 recording, 1,200 recordings, 3 classes."""
    ending = "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{'' if number == 1 else ending}"
