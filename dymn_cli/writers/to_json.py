"""One JSON object a source, and none left out: a source that failed is an object too.

    jsonl   an object a line
    json    one array of them: an object over several lines, its tags and windows one a line

`schema` says what an object is: "dymn.clip/1", "dymn.events/1", "dymn.embedding/1", "dymn.error/1". Changes
within a number only add fields. The bytes are always valid UTF-8: where a file name is not, `source` is a
readable stand-in and `source_b64` has the bytes. Scores are rounded, times are whole milliseconds, NaN does
not occur.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

from dymn_cli.results import ClipResult, Event, Failure, ModelInfo, SourceEvents, Tag, WindowTags
from dymn_cli.writers.base import (
    EmbeddingOptions,
    EmbeddingRow,
    Provenance,
    Writer,
    WriterOptions,
)
from dymn_cli.writers.meta import model_object
from dymn_cli.writers.spelling import readable, seconds, stand_in

__all__ = [
    "JsonTags",
    "JsonlEmbeddings",
    "JsonlTags",
    "error_object",
    "json_array",
    "json_document",
    "json_lines",
    "json_text",
    "provenance_fields",
    "source_fields",
    "tag_objects",
]

CLIP_SCHEMA = "dymn.clip/1"
EVENTS_SCHEMA = "dymn.events/1"
EMBEDDING_SCHEMA = "dymn.embedding/1"
ERROR_SCHEMA = "dymn.error/1"

JsonObject = dict[str, Any]
T_contra = TypeVar("T_contra", contravariant=True)


def clip_object(result: ClipResult, options: WriterOptions) -> JsonObject:
    """A source that was tagged."""
    clock = options.clock_cells(result.source)
    clip: JsonObject = {
        "schema": CLIP_SCHEMA,
        **source_fields(result.source),
        "channel": result.channel,
        **_audio_fields(result),
        **_clock_field(clock, 0.0),
        "tags": tag_objects(result.tags, options.precision),
    }
    if options.windows:
        clip["windows"] = [
            _window_object(window, options.precision) | _clock_field(clock, window.start_s)
            for window in result.windows
        ]
    clip["warnings"] = [readable(line) for line in result.warnings]
    return clip | provenance_fields(options.provenance, result.model)


def events_object(result: SourceEvents, options: WriterOptions) -> JsonObject:
    """A source with its events; where there are none, an empty list of them."""
    clock = options.clock_cells(result.source)
    return {
        "schema": EVENTS_SCHEMA,
        **source_fields(result.source),
        **_audio_fields(result),
        **_clock_field(clock, 0.0),
        "events": [
            _event_object(event, options.precision) | _clock_field(clock, event.start_s)
            for event in result.events
        ],
        "warnings": [readable(line) for line in result.warnings],
        **provenance_fields(options.provenance, result.model),
    }


def embedding_object(row: EmbeddingRow, options: EmbeddingOptions) -> JsonObject:
    """A stretch of a source, with its embedding in the shortest form that reads back as the same float32."""
    return {
        "schema": EMBEDDING_SCHEMA,
        **source_fields(row.source),
        "channel": row.channel,
        "start_s": seconds(row.start_s),
        "end_s": seconds(row.end_s),
        "embedding": [float(str(value)) for value in row.embedding],
        "warnings": [readable(line) for line in row.warnings],
        **provenance_fields(options.provenance),
    }


def error_object(failure: Failure) -> JsonObject:
    """A source that gave nothing."""
    return {
        "schema": ERROR_SCHEMA,
        **source_fields(failure.source),
        "error": failure.error,
        "message": readable(failure.message),
        "hint": None if failure.hint is None else readable(failure.hint),
        "exit_code": failure.exit_code,
    }


def source_fields(source: str) -> JsonObject:
    """The name of a source as valid Unicode, and its bytes where that says less than they do."""
    shown, encoded = stand_in(source)
    return {"source": shown} if encoded is None else {"source": shown, "source_b64": encoded}


def _audio_fields(result: ClipResult | SourceEvents) -> JsonObject:
    """What is known of the recording: null for what a converted result did not say."""
    return {
        "duration_s": None if math.isnan(result.duration_s) else seconds(result.duration_s),
        "rate_hz": result.audio.rate_hz or None,
        "channels": result.audio.channels or None,
    }


def _clock_field(clock: Callable[[float], tuple[str, ...]], start_s: float) -> JsonObject:
    """When it was, in ISO 8601: null where nothing tells; no field where nobody asks."""
    cells = clock(start_s)
    return {"clock": cells[0] or None} if cells else {}


def _rounded(score: float, precision: int) -> float | None:
    return None if math.isnan(score) else round(float(score), precision)


def _index(index: int) -> int | None:
    return None if index < 0 else index


def tag_objects(tags: Sequence[Tag], precision: int) -> list[JsonObject]:
    """Tags with their scores rounded to so many decimals."""
    return [
        {
            "rank": tag.rank,
            "label": tag.label,
            "mid": tag.mid,
            "index": _index(tag.index),
            "score": _rounded(tag.score, precision),
        }
        for tag in tags
    ]


def _window_object(window: WindowTags, precision: int) -> JsonObject:
    return {
        "start_s": seconds(window.start_s),
        "end_s": seconds(window.end_s),
        "tags": tag_objects(window.tags, precision),
    }


def _event_object(event: Event, precision: int) -> JsonObject:
    return {
        "channel": event.channel,
        "start_s": seconds(event.start_s),
        "end_s": seconds(event.end_s),
        "label": event.label,
        "mid": event.mid,
        "index": _index(event.index),
        "score": _rounded(event.score, precision),
        "mean_score": _rounded(event.mean_score, precision),
        "n_windows": event.n_windows or None,
    }


def provenance_fields(provenance: Provenance | None, model: ModelInfo | None = None) -> JsonObject:
    """What made a result: `model`, `options` and `dymn`; null where nothing says so."""
    if model is None and provenance is not None:
        model = provenance.model
    return {
        "model": None if model is None or not model.name else model_object(model),
        "options": {} if provenance is None else dict(provenance.options),
        "dymn": None if provenance is None else provenance.version,
    }


def json_text(value: object) -> str:
    """A value in one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _indented(document: Mapping[str, Any], indent: str = "") -> str:
    """The object over several lines; each item of a list of objects on its own line."""
    fields = ",\n".join(
        f"{indent}  {json_text(key)}: {_field(value, indent)}" for key, value in document.items()
    )
    return f"{indent}{{\n{fields}\n{indent}}}"


def _field(value: object, indent: str) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        items = ",\n".join(f"{indent}    {json_text(item)}" for item in value)
        return f"[\n{items}\n{indent}  ]"
    return json_text(value)


def json_lines(documents: Iterable[JsonObject]) -> bytes:
    """An object a line."""
    return "".join(f"{json_text(document)}\n" for document in documents).encode()


def json_array(documents: Iterable[JsonObject]) -> bytes:
    """One array: each object over several lines."""
    inner = ",\n".join(_indented(document, "  ") for document in documents)
    return f"[\n{inner}\n]\n".encode() if inner else b"[]\n"


def json_document(document: Mapping[str, Any]) -> bytes:
    """One object over several lines."""
    return f"{_indented(document)}\n".encode()


class _Jsonl(Writer[T_contra]):
    """An object a line."""

    def fail(self, failure: Failure) -> None:
        """Write the object of a failure."""
        self._put(error_object(failure))

    def _put(self, *documents: JsonObject) -> None:
        self.hand_over(json_lines(documents))


class JsonlTags(_Jsonl[ClipResult | SourceEvents]):
    """An object a line: the tags of a clip, or the events of a source."""

    def __init__(self, stream: BinaryIO, options: WriterOptions) -> None:
        super().__init__(stream)
        self._options = options

    def write(self, result: ClipResult | SourceEvents) -> None:
        """Write the object of a clip, or of a source with its events."""
        if isinstance(result, SourceEvents):
            self._put(events_object(result, self._options))
        else:
            self._put(clip_object(result, self._options))


class JsonTags(JsonlTags):
    """One array, written as the sources come; without any, an empty one."""

    _is_empty = True

    def begin(self) -> None:
        """Open the array."""
        self.stream.write(b"[")

    def _put(self, *documents: JsonObject) -> None:
        for document in documents:
            separator = "\n" if self._is_empty else ",\n"
            self._is_empty = False
            self.hand_over(f"{separator}{_indented(document, '  ')}".encode())

    def end(self) -> None:
        """Close the array."""
        self.hand_over(b"]\n" if self._is_empty else b"\n]\n")


class JsonlEmbeddings(_Jsonl[Sequence[EmbeddingRow]]):
    """An object a line, one an embedding."""

    def __init__(self, stream: BinaryIO, options: EmbeddingOptions) -> None:
        super().__init__(stream)
        self._options = options

    def write(self, result: Sequence[EmbeddingRow]) -> None:
        """Write the lines of one source."""
        self._put(*(embedding_object(row, self._options) for row in result))
