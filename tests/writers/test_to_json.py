from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from written import written

from dymn_cli.results import ClipResult, Failure, SourceEvents, Tag
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, WriterOptions
from dymn_cli.writers.to_json import JsonlEmbeddings, JsonlTags, JsonTags

Options = Callable[..., WriterOptions]

MODEL = (
    b'"model": {"name": "dymn04_kd", "sha256": "' + b"ab" * 32 + b'", "backend": "onnx", '
    b'"provider": "CPUExecutionProvider"}'
)
PROVENANCE = (
    MODEL + b', "options": {"window_s": 10.0, "hop_s": 10.0, "pad": "repeat", '
    b'"labels": ["Owl", "Train"]}, "dymn": "0.1.0"}\n'
)
ERROR = (
    '{"schema": "dymn.error/1", "source": "br\ufffdken.wav", "source_b64": "YnL2a2VuLndhdg==", '
    '"error": "CorruptAudioError", "message": "br\ufffdken.wav: cut short", "hint": "decode it again", '
    '"exit_code": 3}'
).encode()
TRAIN = b'{"rank": 1, "label": "Train", "mid": "/m/07jdr", "index": 325, "score": 0.7471}'
SUBWAY = b'"label": "Subway, metro, underground", "mid": "/m/0195fx", "index": 330, "score": 0.5991}'


def test_a_line_a_source(clip: ClipResult, failure: Failure, options: Options) -> None:
    tired = dataclasses.replace(clip, warnings=("müde",))
    lines = written(JsonlTags(io.BytesIO(), options()), tired, failure)
    clip_line, error_line = lines.splitlines(keepends=True)
    assert clip_line == (
        b'{"schema": "dymn.clip/1", "source": "metro.wav", "channel": "mix", "duration_s": 10.3, '
        b'"rate_hz": 44100, "channels": 2, "tags": [' + TRAIN + b', {"rank": 2, ' + SUBWAY + b"], "
        b'"warnings": ["m\xc3\xbcde"], ' + PROVENANCE
    )
    assert error_line == ERROR + b"\n"


def test_a_line_of_events(found: SourceEvents, failure: Failure, options: Options) -> None:
    out = io.BytesIO()
    writer = JsonlTags(out, options())
    writer.write(found)
    writer.write(dataclasses.replace(found, source="quiet.wav", events=()))
    writer.fail(failure)
    heard, quiet, error = out.getvalue().splitlines(keepends=True)
    assert heard == (
        b'{"schema": "dymn.events/1", "source": "farm.flac", "duration_s": 5400.0, "rate_hz": 22050, '
        b'"channels": 1, "events": [{"channel": "mix", "start_s": 0.3, "end_s": 5400.0, '
        b'"label": "Subway, metro, underground", "mid": "/m/0195fx", "index": 72, "score": 0.5991, '
        b'"mean_score": 0.4, "n_windows": 5396}, {"channel": "mix", "start_s": 3723.0, "end_s": 3725.5, '
        b'"label": "Dog", "mid": "/m/0bt9lr", "index": 74, "score": 0.7471, "mean_score": 0.6123, '
        b'"n_windows": 7}], "warnings": [], ' + PROVENANCE
    )
    assert json.loads(quiet)["events"] == []
    assert error == ERROR + b"\n"


def test_windows_beside_the_tags_of_the_clip(clip: ClipResult, options: Options) -> None:
    out = io.BytesIO()
    JsonlTags(out, options(windows=True)).write(clip)
    assert (
        b'], "windows": [{"start_s": 0.0, "end_s": 10.0, "tags": [' + TRAIN + b']}, '
        b'{"start_s": 0.3, "end_s": 10.3, "tags": [{"rank": 1, ' + SUBWAY + b']}], "warnings": [], '
    ) in out.getvalue()  # fmt: skip
    assert len(json.loads(out.getvalue())["tags"]) == 2


def test_one_document(clip: ClipResult, failure: Failure, options: Options) -> None:
    assert written(JsonTags(io.BytesIO(), options()), clip, failure) == (
        b"[\n"
        b"  {\n"
        b'    "schema": "dymn.clip/1",\n'
        b'    "source": "metro.wav",\n'
        b'    "channel": "mix",\n'
        b'    "duration_s": 10.3,\n'
        b'    "rate_hz": 44100,\n'
        b'    "channels": 2,\n'
        b'    "tags": [\n'
        b"      " + TRAIN + b",\n"
        b'      {"rank": 2, ' + SUBWAY + b"\n"
        b"    ],\n"
        b'    "warnings": [],\n'
        b"    " + MODEL + b",\n"
        b'    "options": {"window_s": 10.0, "hop_s": 10.0, "pad": "repeat", "labels": ["Owl", "Train"]},\n'
        b'    "dymn": "0.1.0"\n'
        b"  },\n"
        b"  {\n"
        b'    "schema": "dymn.error/1",\n'
        b'    "source": "br\xef\xbf\xbdken.wav",\n'
        b'    "source_b64": "YnL2a2VuLndhdg==",\n'
        b'    "error": "CorruptAudioError",\n'
        b'    "message": "br\xef\xbf\xbdken.wav: cut short",\n'
        b'    "hint": "decode it again",\n'
        b'    "exit_code": 3\n'
        b"  }\n"
        b"]\n"
    )


@pytest.mark.parametrize("n_clips", [0, 1, 2])
@pytest.mark.parametrize("n_failures", [0, 1, 2])
def test_the_document_is_valid_whatever_it_holds(
    n_clips: int, n_failures: int, clip: ClipResult, failure: Failure, options: Options
) -> None:
    bare = dataclasses.replace(failure, hint=None)
    out = io.BytesIO()
    writer = JsonTags(out, options(windows=True))
    writer.begin()
    for _ in range(n_clips):
        writer.write(clip)
    for _ in range(n_failures):
        writer.fail(bare)
    writer.end()
    schemas = [item["schema"] for item in json.loads(out.getvalue())]
    assert schemas == ["dymn.clip/1"] * n_clips + ["dymn.error/1"] * n_failures
    assert out.getvalue().endswith(b"]\n")


def test_both_forms_say_the_same(clip: ClipResult, options: Options) -> None:
    lines, document = io.BytesIO(), io.BytesIO()
    JsonlTags(lines, options(windows=True)).write(clip)
    writer = JsonTags(document, options(windows=True))
    writer.begin()
    writer.write(clip)
    writer.end()
    assert [json.loads(lines.getvalue())] == json.loads(document.getvalue())


@pytest.mark.parametrize("form", [JsonlTags, JsonTags])
def test_names_are_readable_and_their_bytes_not_lost(
    form: type[JsonlTags], awkward_name: str, clip: ClipResult, options: Options
) -> None:
    awkward = dataclasses.replace(clip, source=awkward_name, warnings=(f"{awkward_name}: short",))
    data = written(form(io.BytesIO(), options()), awkward)
    parsed = json.loads(data.decode("utf-8", "strict"))
    (read,) = parsed if isinstance(parsed, list) else [parsed]
    if "source_b64" in read:
        assert base64.b64decode(read["source_b64"]) == awkward_name.encode("utf-8", "surrogateescape")
        assert read["source"] == "na\ufffdve.wav"
    else:
        assert read["source"] == awkward_name
    assert (form is JsonTags) or data.count(b"\n") == 1


def test_scores_are_rounded_numbers(clip: ClipResult, rail_tag: Tag, options: Options) -> None:
    faint = dataclasses.replace(rail_tag, score=np.float32(0.1))
    out = io.BytesIO()
    JsonlTags(out, options()).write(dataclasses.replace(clip, tags=(rail_tag, faint)))
    assert [tag["score"] for tag in json.loads(out.getvalue())["tags"]] == [0.0, 0.1]


def test_not_a_number_never_leaves(clip: ClipResult, rail_tag: Tag, options: Options) -> None:
    out = io.BytesIO()
    broken = dataclasses.replace(rail_tag, score=math.inf)
    with pytest.raises(ValueError, match="JSON"):
        JsonlTags(out, options()).write(dataclasses.replace(clip, tags=(broken,)))
    assert out.getvalue() == b""
    unknown = dataclasses.replace(rail_tag, score=math.nan, index=-1)
    JsonlTags(out, options()).write(dataclasses.replace(clip, tags=(unknown,), duration_s=math.nan))
    document = json.loads(out.getvalue())
    assert (document["duration_s"], document["tags"][0]["score"], document["tags"][0]["index"]) == (None,) * 3


def test_embeddings(
    rows: list[EmbeddingRow], failure: Failure, embedding_options: Callable[..., EmbeddingOptions]
) -> None:
    data = written(JsonlEmbeddings(io.BytesIO(), embedding_options()), rows, failure)
    assert data == (
        b'{"schema": "dymn.embedding/1", "source": "metro.wav", "channel": "mix", "start_s": 0.0, '
        b'"end_s": 10.3, "embedding": [0.1, -2.5, 1e-07], "warnings": [], ' + PROVENANCE
        + b'{"schema": "dymn.embedding/1", "source": "a,b.wav", "channel": "1", "start_s": 0.3, '
        b'"end_s": 10.3, "embedding": [1.0, 2.0, 3.0], "warnings": ["m\xc3\xbcde"], ' + PROVENANCE
        + ERROR + b"\n"
    )  # fmt: skip
    first = np.array(json.loads(data.splitlines()[0])["embedding"], np.float32)
    np.testing.assert_array_equal(first, rows[0].embedding)
