"""Finished results, of dymn or in a format that it knows, taken into a report."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

from dymn_cli.audio.discover import AUDIO_SUFFIXES
from dymn_cli.errors import InputError, UsageError
from dymn_cli.readers import open_result
from dymn_cli.readers.recognise import recognise
from dymn_cli.remote.uri import base_name, is_uri
from dymn_cli.report.gather import Gathering
from dymn_cli.report.model import Span
from dymn_cli.results import ClipResult, Failure, SourceEvents

__all__ = ["are_results", "gather_results", "is_result"]

SUFFIXES = frozenset(["csv", "tsv", "json", "jsonl", "txt", "rttm", "parquet", "srt", "vtt", "npy"])
HEAD = 1 << 16
ROWS = 10_000  # of one recording that are in memory at a time
HARMLESS = "shorter than the window"  # how warnings begin that are about no damage


def are_results(inputs: Sequence[str]) -> bool:
    """Whether the inputs are finished results instead of recordings.

    Raises:
        UsageError: some are, others are not.
        InputError: one cannot be read.
    """
    results = [is_result(name) for name in inputs]
    if any(results) and not all(results):
        raise UsageError(
            f"{inputs[results.index(False)]} is audio, {inputs[results.index(True)]} is a result",
            hint="give recordings or results, not both",
        )
    return any(results)


def is_result(name: str) -> bool:
    """Whether a file is a finished result by its suffix or, where that is unknown, by how it begins.

    Raises:
        InputError: it is something else that dymn writes, or text in another encoding.
    """
    path = base_name(name) if is_uri(name) else name
    suffix = os.path.splitext(path)[1].removeprefix(".").lower()  # noqa: PTH122 - names may be bytes
    if name == "-" or suffix in AUDIO_SUFFIXES or os.path.isdir(name):  # noqa: PTH112 - likewise
        return False
    if suffix in SUFFIXES:
        return True
    if not os.path.isfile(name):  # noqa: PTH113 - likewise; a pipe must not lose its beginning
        return False
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - likewise
            head = file.read(HEAD)
    except OSError:
        return False  # whoever reads it as a recording says what is wrong
    return bool(head) and recognise(head, name) is not None


def gather_results(paths: Sequence[str], gathering: Gathering, *, format_name: str | None = None) -> str:
    """Take all events of results, or all tags of windows.

    Args:
        paths: of the results, or their URIs.
        gathering: takes them.
        format_name: of all of them; None to find out.

    Returns:
        Who found them, where one of the results says so; else "".

    Raises:
        InputError: one cannot be read, is cut short, or holds nothing that has labels.
    """
    model = ""
    for path in paths:
        with open_result(path, format_name=format_name, chunk=ROWS) as result:
            if result.kind == "embeddings":
                raise InputError(f"{path}: embeddings have no labels to show", hint="dymn events finds some")
            if result.provenance is not None and not model:
                model = result.provenance.model.name
            for item in result:
                if isinstance(item, Failure):
                    gathering.fail(item)
                elif isinstance(item, SourceEvents | ClipResult):
                    gathering.add(
                        item.source,
                        _spans(item),
                        duration_s=_known(item.duration_s),
                        rate_hz=item.audio.rate_hz,
                        channels=item.audio.channels,
                        notes=[text for text in item.warnings if not text.startswith(HARMLESS)],
                    )
    return model


def _spans(item: SourceEvents | ClipResult) -> Iterator[Span]:
    if isinstance(item, SourceEvents):
        for event in item.events:
            score = _known(event.score)
            yield Span(event.start_s, event.end_s, event.label, event.mid, score, event.channel)
        return
    for window in item.windows:
        for tag in window.tags:
            score = _known(tag.score)
            yield Span(window.start_s, window.end_s, tag.label, tag.mid, score, item.channel)
    if not item.windows:
        for tag in item.tags:
            yield Span(
                0.0, _known(item.duration_s) or 0.0, tag.label, tag.mid, _known(tag.score), item.channel
            )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
