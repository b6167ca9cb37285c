"""JSON as dymn writes it: an object a source, or one an embedding, a line each or in an array."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dymn_cli.errors import InputError
from dymn_cli.readers.rows import UNKNOWN_MODEL, no_values
from dymn_cli.readers.source import os_errors_of
from dymn_cli.results import AudioInfo, ClipResult, Event, Failure, ModelInfo, SourceEvents, Tag, WindowTags
from dymn_cli.small_files import LARGE, bounded_lines
from dymn_cli.values import score_of, time_of
from dymn_cli.writers.base import EmbeddingRow, Provenance

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["JsonItem", "clock_times", "item_of", "model_of", "objects_of", "provenance_of", "source_of"]

JsonItem = ClipResult | SourceEvents | EmbeddingRow | Failure
SCHEMAS = ("dymn.clip/1", "dymn.events/1", "dymn.embedding/1", "dymn.error/1")
NAN = float("nan")


def objects_of(file: TextIO, name: str, *, as_array: bool) -> Iterator[tuple[Any, str]]:
    """The objects of a json or jsonl result, and where each stands.

    Args:
        file: the text.
        name: what errors call it.
        as_array: it is one document, not a document a line.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """
    with os_errors_of(name):
        if not as_array:
            for line, text in enumerate(bounded_lines(file, name, InputError), start=1):
                if text.strip():
                    yield (
                        _parsed(text, f"{name}, line {line}", is_whole=text.endswith("\n")),
                        f"{name}, line {line}",
                    )
            return
        yield from _array(file, name)


def _array(file: TextIO, name: str) -> Iterator[tuple[Any, str]]:
    """The objects of an array; of one laid out as ours, each is read by itself."""
    number, begin = 0, 0
    lines: list[str] = []
    ours = next(bounded_lines(file, name, InputError), "").rstrip("\r\n") == "["
    line = 1
    for line, text in enumerate(bounded_lines(file, name, InputError) if ours else (), start=2):
        if not lines and text.rstrip() == "]":
            if any(rest.strip() for rest in file):
                raise InputError(f"{name}, line {line}: there is something behind the end of the array")
            return
        if not lines:
            begin = line
        lines.append(text)
        if text.rstrip() in ("  }", "  },") and lines[0].rstrip() == "  {":
            number += 1
            where = f"{name}, object {number} (line {begin})"
            yield _parsed("".join(lines).rstrip().removesuffix(","), where), where
            lines = []
        elif lines[0].rstrip() != "  {":
            break  # an array of another layout
    else:
        if ours:
            raise InputError(
                f"{name}, line {line}: not JSON: the array has no end", hint="the file may be cut short"
            )
    file.seek(0)
    text = file.read(LARGE)
    if len(text) == LARGE:
        raise InputError(f"{name}: larger than {LARGE >> 20} MB, and not laid out as dymn writes JSON")
    document = _parsed(text.removeprefix("\ufeff"), name, is_document=True)
    for n, one in enumerate(document if isinstance(document, list) else [document], start=1):
        if n > number:
            yield one, f"{name}, object {n}"


def _parsed(text: str, where: str, *, is_whole: bool = True, is_document: bool = False) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        if any("\udc80" <= char <= "\udcff" for char in text):
            raise InputError(f"{where}: not text in UTF-8") from exc
        hint = None if is_whole else "the file may be cut short"
        place = f"{where}, line {exc.lineno}" if is_document else where
        raise InputError(f"{place}: not JSON", hint=hint) from exc
    except (ValueError, RecursionError) as exc:  # an endless number, or endless brackets
        raise InputError(f"{where}: not JSON that dymn wrote") from exc


def source_of(one: dict[str, Any], where: str) -> str:
    """The source that an object of a result is about.

    Raises:
        InputError: it does not say.
    """
    try:
        if one.get("source_b64") is not None:
            return os.fsdecode(base64.b64decode(one["source_b64"], validate=True))
        source = one.get("source")
    except (TypeError, ValueError) as exc:
        raise InputError(f"{where}: a name in no base64") from exc
    if not isinstance(source, str):
        raise InputError(f"{where}: no source")
    return source


def item_of(one: Any, where: str) -> JsonItem:
    """What an object says.

    Raises:
        InputError: it is none that dymn writes, or lacks what it needs.
    """
    schema = one.get("schema") if isinstance(one, dict) else None
    if schema not in SCHEMAS:
        shown = str(schema)[:40] if schema else "an object without a schema"
        raise InputError(f"{where}: no result of dymn, but {shown}")
    source = source_of(one, where)
    try:
        if schema == "dymn.error/1":
            hint = one.get("hint")
            return Failure(
                source,
                str(one.get("error", "InputError")),
                str(one.get("message", "")),
                None if hint is None else str(hint),
                int(one.get("exit_code", 3)),
            )
        if schema == "dymn.embedding/1":
            return _embedding(one, source, where)
        return (_clip if schema == "dymn.clip/1" else _events)(one, source, where)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as exc:
        field = f": {exc.args[0]!r} is missing" if isinstance(exc, KeyError) and exc.args else ""
        raise InputError(f"{where}: not what dymn writes as {schema}{field}") from exc


def _audio(one: dict[str, Any]) -> AudioInfo:
    return AudioInfo(int(one.get("rate_hz") or 0), int(one.get("channels") or 0), None, "", "")


def _warnings(one: dict[str, Any]) -> tuple[str, ...]:
    return tuple(map(str, one.get("warnings") or ()))


def _length(one: dict[str, Any], where: str) -> float:
    return NAN if one.get("duration_s") is None else time_of(one["duration_s"], where)


def _score(one: dict[str, Any], key: str, where: str) -> float:
    return NAN if one.get(key) is None else score_of(one[key], where)


def _index(one: dict[str, Any]) -> int:
    return -1 if one.get("index") is None else int(one["index"])


def _clip(one: dict[str, Any], source: str, where: str) -> ClipResult:
    windows = tuple(
        WindowTags(
            time_of(window["start_s"], where), time_of(window["end_s"], where), _tags(window["tags"], where)
        )
        for window in one.get("windows") or ()
    )
    return ClipResult(
        source,
        str(one.get("channel", "mix")),
        _audio(one),
        _length(one, where),
        _tags(one["tags"], where),
        no_values(),
        no_values(),
        len(windows),
        windows,
        _warnings(one),
        model_of(one.get("model")),
    )


def _tags(tags: Any, where: str) -> tuple[Tag, ...]:
    return tuple(
        Tag(
            int(tag.get("rank") or n),
            _index(tag),
            str(tag["label"]),
            str(tag.get("mid") or ""),
            _score(tag, "score", where),
        )
        for n, tag in enumerate(tags, start=1)
    )


def _events(one: dict[str, Any], source: str, where: str) -> SourceEvents:
    events = tuple(
        Event(
            source,
            str(event.get("channel", "mix")),
            time_of(event["start_s"], where),
            time_of(event["end_s"], where),
            _index(event),
            str(event["label"]),
            str(event.get("mid") or ""),
            _score(event, "score", where),
            _score(event, "mean_score", where),
            int(event.get("n_windows") or 0),
        )
        for event in one["events"]
    )
    for event in events:
        if event.end_s < event.start_s:
            raise InputError(
                f"{where}: the event ends at {event.end_s:g} s, before it begins ({event.start_s:g} s)"
            )
    return SourceEvents(
        source, _audio(one), _length(one, where), events, _warnings(one), model_of(one.get("model"))
    )


def clock_times(one: dict[str, Any], item: ClipResult | SourceEvents) -> Iterator[tuple[object, float]]:
    """The clock times of an object that was read, and the seconds in the recording that each is about."""
    yield one.get("clock"), 0.0
    if isinstance(item, SourceEvents):
        yield from (
            (part.get("clock"), event.start_s) for part, event in zip(one["events"], item.events, strict=True)
        )
    else:
        parts = one.get("windows") or ()
        yield from (
            (part.get("clock"), window.start_s) for part, window in zip(parts, item.windows, strict=True)
        )


def _embedding(one: dict[str, Any], source: str, where: str) -> EmbeddingRow:
    import numpy as np

    values = np.array(one["embedding"], np.float32)
    if values.ndim != 1:
        raise ValueError("not a list of numbers")
    times = time_of(one["start_s"], where), time_of(one["end_s"], where)
    return EmbeddingRow(source, str(one.get("channel", "mix")), *times, values, _warnings(one))


def model_of(document: Any) -> ModelInfo:
    """Who answered, from its JSON; unknown where that does not say."""
    if not isinstance(document, dict):
        return UNKNOWN_MODEL
    name, sha256, backend, provider = (
        str(document.get(key, "")) for key in ("name", "sha256", "backend", "provider")
    )
    return ModelInfo(name, sha256, backend, provider, tuple(map(model_of, document.get("models") or ())))


def provenance_of(document: Any) -> Provenance | None:
    """What made a result, from an object or a file beside it; None where that does not say."""
    if not isinstance(document, dict) or document.get("dymn") is None:
        return None
    options = document.get("options")
    pairs = options.items() if isinstance(options, dict) else ()
    share = document.get("shard")
    return Provenance(
        str(document["dymn"]),
        model_of(document.get("model")),
        tuple((str(name), tuple(value) if isinstance(value, list) else value) for name, value in pairs),
        (share[0], share[1]) if isinstance(share, list) and len(share) == 2 else None,
    )
