"""What the JSON that dymn writes looks like: JSON Schemas of draft 2020-12, each complete in itself.

    clip        a source that was tagged            dymn tag -f jsonl|json
    events      a source with its events            dymn events -f jsonl|json
    embedding   a stretch of a source               dymn embed -f jsonl
    error       a source that gave nothing          each of these commands, and dymn info
    info        what a source says of itself        dymn info -f jsonl|json
    search      a query with what is like it        dymn search -f jsonl|json
    duplicates  groups of near-duplicates           dymn duplicates -f json
    meta        what made a file                    NAME.meta.json beside csv, tsv, npy and parquet files

A field that is required is always there. Changes within the number of a schema only add fields, so readers
must let fields pass that they do not know; for that reason the schemas do not forbid any. What an analysis
writes has no null but where it failed or the header is silent; in what `dymn convert` writes, null stands for
what the result that was read does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["SCHEMAS"]

JsonObject = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _text(description: str, **more: Any) -> JsonObject:
    return {"type": "string", "description": description, **more}


def _number(description: str, low: float | None = 0, high: float | None = None) -> JsonObject:
    limits = {"minimum": low, "maximum": high}
    return {
        "type": "number",
        "description": description,
        **{name: value for name, value in limits.items() if value is not None},
    }


def _whole(description: str, low: int = 0) -> JsonObject:
    return {"type": "integer", "description": description, "minimum": low}


def _or_null(schema: JsonObject) -> JsonObject:
    return {**schema, "type": [schema["type"], "null"]}


def _known(schema: JsonObject) -> JsonObject:
    """Null in what `dymn convert` made of a result that does not say it."""
    return _or_null(schema)


def _list(description: str, items: JsonObject) -> JsonObject:
    return {"type": "array", "description": description, "items": items}


def _object(fields: JsonObject, *optional: str, **more: Any) -> JsonObject:
    """An object of these fields, all of which are required but for the optional ones."""
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": fields, "required": required, **more}


def _schema(name: str, title: str, fields: JsonObject, *optional: str, **more: Any) -> JsonObject:
    number = f"dymn.{name}/1"
    head = {"schema": {"const": number, "description": "What this object is."}}
    return {
        "$schema": DIALECT,
        "$id": f"urn:dymn:schema:{name}:1",
        "title": number,
        "description": title,
        **_object(head | fields, *optional, **more),
    }


CLOCK = _known(
    _text("Only with --clock: when it began, in ISO 8601; with an offset from UTC where it is known.")
)
SOURCE: JsonObject = {
    "source": _text("The name as it was given; readable, also where the name is not UTF-8."),
    "source_b64": _text(
        "The bytes of such a name; absent where `source` says it all.", contentEncoding="base64"
    ),
}
CHANNEL = _text('"mix" for the mean of the channels, or the number of one, from 0.', pattern=r"^(mix|\d+)$")
START, END = _number("Seconds from the start of the source."), _number("Likewise, where it ends.")
RATE = _known(_whole("Samples per second of the source.", 1))
CHANNELS = _known(_whole("Channels of the source.", 1))
DURATION = _known(_number("Seconds that were decoded."))
WARNINGS = _list("What is worth knowing, a line each.", {"type": "string"})
LABEL: JsonObject = {
    "label": _text("Name of the class."),
    "mid": _text("Its AudioSet id; empty where the class has none."),
    "index": _known(_whole("Its place among the outputs of the model.")),
}
SCORE = _known(_number("How sure the model is; not a calibrated probability.", 0, 1))
TAGS = _list(
    "The labels that are kept, best first.",
    _object({"rank": _whole("From 1, the best.", 1), **LABEL, "score": SCORE}),
)
MODEL_FIELDS: JsonObject = {
    "name": _text("Of the model; of an ensemble, the names of all."),
    "sha256": _text("Of the weights.", pattern="^[0-9a-f]{64}$"),
    "backend": _text("Runtime that computed: onnx or torch."),
    "provider": _text("Where it computed."),
}
MODEL = _object(
    {**MODEL_FIELDS, "models": _list("The members of an ensemble.", _object(dict(MODEL_FIELDS)))},
    "models",
    description="Who answered.",
)
LIVE_EVENT = ("channel", "number", "start_s", *LABEL, "score", "clock")
SIMILARITY = _number("0 as two random recordings of the library, 1 the same.", 0, 1)
MADE_BY: JsonObject = {
    "model": _known(MODEL),
    "options": {
        "type": "object",
        "description": "Every option that changes the result, by name.",
        "additionalProperties": {
            "type": ["string", "number", "boolean", "null", "array"],
            "items": {"type": "string"},
        },
    },
    "dymn": _known(_text("Version that made it.")),
}

_ALL = (
    _schema(
        "clip",
        "A source, or one channel of it, that was tagged.",
        {
            **SOURCE,
            "channel": CHANNEL,
            "duration_s": DURATION,
            "rate_hz": RATE,
            "channels": CHANNELS,
            "clock": CLOCK,
            "tags": TAGS,
            "windows": _list(
                "The tags of each window; only with --windows.",
                _object({"start_s": START, "end_s": END, "tags": TAGS, "clock": CLOCK}, "clock"),
            ),
            "warnings": WARNINGS,
            **MADE_BY,
        },
        "source_b64",
        "windows",
        "clock",
    ),
    _schema(
        "events",
        "A source with the sounds that were found in it; none is an empty list.",
        {
            **SOURCE,
            "duration_s": DURATION,
            "rate_hz": RATE,
            "channels": CHANNELS,
            "clock": CLOCK,
            "events": _list(
                "In the order in which they begin.",
                _object(
                    {
                        "channel": CHANNEL,
                        "start_s": START,
                        "end_s": END,
                        **LABEL,
                        "score": SCORE,
                        "mean_score": _known(
                            _number("Mean over the event of the mean of the windows there.", 0, 1)
                        ),
                        "n_windows": _known(_whole("Windows that look at it.", 1)),
                        "clock": CLOCK,
                    },
                    "clock",
                ),
            ),
            "warnings": WARNINGS,
            **MADE_BY,
        },
        "source_b64",
        "clock",
    ),
    _schema(
        "embedding",
        "The embedding of a clip, a window or a frame.",
        {
            **SOURCE,
            "channel": CHANNEL,
            "start_s": START,
            "end_s": END,
            "embedding": _list("Its values, exact to float32.", {"type": "number"}),
            "warnings": WARNINGS,
            **MADE_BY,
        },
        "source_b64",
    ),
    _schema(
        "error",
        "A source that gave nothing.",
        {
            **SOURCE,
            "error": _text("Class of the error, such as CorruptAudioError."),
            "message": _text("What happened, in one line."),
            "hint": _or_null(_text("What can be done about it.")),
            "exit_code": _whole("Of a run that fails for this reason alone.", 1),
        },
        "source_b64",
    ),
    _schema(
        "info",
        "What the header of a source says and, with --decode, what is really there.",
        {
            **SOURCE,
            "container": _text("Format of the file."),
            "codec": _text("How samples are stored in it."),
            "rate_hz": RATE,
            "channels": CHANNELS,
            "duration_s": _or_null(_number("Seconds that the header claims; null where it does not say.")),
            "size_bytes": _or_null(_whole("Of the file; null for a pipe.")),
            "decoded_s": _number("Seconds that were decoded; only with --decode."),
            "warnings": WARNINGS,
        },
        "source_b64",
        "decoded_s",
        "warnings",
    ),
    _schema(
        "live",
        "A line of dymn listen: an event that begins or ends, the tags of a window, or a break in the sound.",
        {
            "type": {
                "enum": ["begin", "end", "tags", "dropout"],
                "description": "What it is; which fields there are depends on it.",
            },
            **SOURCE,
            "channel": CHANNEL,
            "number": _whole("Of the event, the same when it begins and when it ends.", 1),
            "start_s": _number("Seconds of sound since listening began."),
            "end_s": _number("Likewise, where it ends."),
            **LABEL,
            "score": SCORE,
            "clock": _text("When it began, in ISO 8601, UTC."),
            "file": _text("Only with --save: the sound of the event; empty where it could not be kept."),
            "tags": TAGS,
            "at_s": _number("Seconds of sound since listening began, at the break."),
            "reason": _text("Of the break."),
        },
        *("source_b64", "channel", "number", "start_s", "end_s", *LABEL, "score", "clock", "file", "tags"),
        *("at_s", "reason"),
        oneOf=[
            {"properties": {"type": {"const": kind}}, "required": required}
            for kind, required in (
                ("begin", [*LIVE_EVENT]),
                ("end", [*LIVE_EVENT, "end_s"]),
                ("tags", ["channel", "start_s", "end_s", "clock", "tags"]),
                ("dropout", ["at_s", "reason"]),
            )
        ],
    ),
    _schema(
        "search",
        "A query and the rows of a library that are most like it; none is an empty list.",
        {
            "query": _text("The name of the recording, or the examples; readable."),
            "matches": _list(
                "The most similar first.",
                _object(
                    {
                        "rank": _whole("From 1, the most similar.", 1),
                        "similarity": SIMILARITY,
                        **SOURCE,
                        "channel": CHANNEL,
                        "start_s": START,
                        "end_s": END,
                    },
                    "source_b64",
                ),
            ),
            **MADE_BY,
        },
    ),
    _schema(
        "duplicates",
        "Groups of near-duplicates of a library.",
        {
            "threshold": _number("Every two of a group are so similar or more, or the same sound.", 0, 1),
            "duplicates": _list(
                "Those of a group follow each other.",
                _object(
                    {
                        "group": _whole("From 1.", 1),
                        "similarity": _number("To the first of the group.", 0, 1),
                        **SOURCE,
                        "seconds": _number("Length of what was compared."),
                        "format": _or_null(_text("Container and codec; null where the file is missing.")),
                        "rate_hz": _or_null(_whole("Samples per second.", 1)),
                        "channels": _or_null(_whole("Their number.", 1)),
                        "bytes": _or_null(_whole("Size of the file.")),
                        "same_sound": {
                            "type": ["boolean", "null"],
                            "description": "Whether it is the first of the group moment by moment;"
                            " null for the first, and where that is unknown.",
                        },
                    },
                    "source_b64",
                ),
            ),
            **MADE_BY,
        },
    ),
    _schema(
        "meta",
        "What made the file that this one lies beside; formats add what they know, such as a shape.",
        MADE_BY,
    ),
)
SCHEMAS: Mapping[str, JsonObject] = {
    schema["title"].removeprefix("dymn.").removesuffix("/1"): schema for schema in _ALL
}
"""The schemas by name."""
