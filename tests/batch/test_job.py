"""What is kept of a source comes back as what the tagger said of it, byte for byte."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import sounds

from dymn_cli.batch.job import ROWS_IN_A_PART, Job, ModelDescription, Reader, decode, encode
from dymn_cli.batch.journal import Journal, Place, Stamp
from dymn_cli.errors import InputError, OutputError
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

STAMP = Stamp(1, 2)
CUT = {"window_s": 1.0, "hop_s": 0.5}


@pytest.fixture(scope="module")
def tagger() -> Iterator[Tagger]:
    with Tagger(options=TagOptions(**CUT), threads=2) as tagger:  # type: ignore[arg-type]
        yield tagger


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four seconds of two channels that differ."""
    left = sounds.sweep(200, 400, 4, 16_000, level=0.4)
    right = sounds.noise(len(left))
    path = tmp_path_factory.mktemp("work") / "clip.wav"
    sf.write(path, np.stack([left, right], axis=1), 16_000)
    return str(path)


def done(name: str, job: Job, journal: Journal) -> Reader:
    parts: list[Place] = []

    def emit(part: bytes) -> None:
        parts.append(journal.add_part(name, part))

    with job.open_tagger(threads=2) as tagger:
        body, _ = job.run(tagger, name, emit, lambda *_: None)
    journal.add_done(name, STAMP, parts, body)
    return Reader(journal, job, ModelDescription.of(tagger))


def job_for(options: TagOptions, **kept: bool) -> Job:
    return Job("dymn04_kd", "auto", "cpu", None, options, **kept)


@pytest.mark.parametrize("channel", ["mix", "1", "each"])
@pytest.mark.parametrize("windows", [False, True])
def test_clips_are_what_the_tagger_says(tagger: Tagger, clip: str, channel: str, windows: bool) -> None:
    options = TagOptions(**CUT, channel=channel, windows=windows, top=7, min_score=0.001)  # type: ignore[arg-type]
    expected = tagger.tag_channels(clip, channel=channel, windows=windows, top=7, min_score=0.001)
    with Journal.temporary() as journal:
        reader = done(clip, job_for(options, keep_scores=True, keep_embedding=True), journal)
        found = list(reader.clips(clip))
        assert [c.channel for c in found] == [c.channel for c in expected]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.tags == theirs.tags
            np.testing.assert_array_equal(ours.scores, theirs.scores)
            np.testing.assert_array_equal(ours.embedding, theirs.embedding)
            assert list(ours.windows) == list(theirs.windows)
            assert ours.windows[-1:] == theirs.windows[-1:]
            assert len(ours.windows) == (7 if windows else 0)
            assert (ours.duration_s, ours.audio, ours.warnings) == (
                theirs.duration_s, theirs.audio, theirs.warnings
            )  # fmt: skip
            assert ours.n_windows == theirs.n_windows == 7


def test_embeddings_of_windows_come_back_in_order_over_many_parts(
    tagger: Tagger, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dymn_cli.batch.job.ROWS_IN_A_PART", 3)
    with tagger.analyse(clip, channel="each") as analysis:
        expected = list(analysis)
    with Journal.temporary() as journal:
        options = TagOptions(**CUT, channel="each")  # type: ignore[arg-type]
        reader = done(clip, job_for(options, keep_window_embeddings=True), journal)
        assert len(journal.result(clip)[1]) == 5  # 14 rows
        rows = [row for some in reader.embedding_rows(clip) for row in some]
    assert [(r.channel, r.start_s, r.end_s) for r in rows] == [
        (channel, window.start_s, window.end_s) for channel, window in expected
    ]
    for row, (_, window) in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(row.embedding, window.embedding)


def test_tags_and_embeddings_of_windows_share_their_parts(tagger: Tagger, clip: str) -> None:
    options = TagOptions(**CUT, windows=True)  # type: ignore[arg-type]
    with Journal.temporary() as journal:
        reader = done(clip, job_for(options, keep_window_embeddings=True), journal)
        (found,) = reader.clips(clip)
        (rows,) = reader.embedding_rows(clip)
        expected = tagger.tag(clip, windows=True)
        assert list(found.windows) == list(expected.windows)
        assert [row.start_s for row in rows] == [window.start_s for window in expected.windows]


def test_the_size_of_a_body_does_not_grow_with_the_length_of_the_source(tagger: Tagger) -> None:
    sizes = []
    for seconds in (2, 30):
        samples = sounds.noise(seconds * 8_000, seed=seconds)
        parts: list[bytes] = []
        job = job_for(TagOptions(**CUT, windows=True))  # type: ignore[arg-type]
        body, summary = job.run(Given(tagger, samples), "array", parts.append, lambda *_: None)  # type: ignore[arg-type]
        sizes.append(len(body))
        assert summary.seconds == seconds
    assert abs(sizes[1] - sizes[0]) < 100
    assert ROWS_IN_A_PART == 256


class Given:
    """A tagger whose source is an array whatever its name."""

    def __init__(self, tagger: Tagger, samples: np.ndarray) -> None:
        self._tagger = tagger
        self._samples = samples

    def __getattr__(self, name: str) -> object:
        return getattr(self._tagger, name)

    def analyse(self, source: object, *, name: str) -> object:
        return self._tagger.analyse((self._samples, 8_000), name=name)


def test_progress_says_how_much_of_how_much(tagger: Tagger, clip: str) -> None:
    told: list[tuple[float, float | None]] = []
    job = job_for(TagOptions(**CUT))  # type: ignore[arg-type]
    job.run(tagger, clip, lambda _: None, lambda seconds, of_s: told.append((seconds, of_s)))
    assert told == [(1.0 + 0.5 * n, 4.0) for n in range(7)]


@pytest.mark.parametrize("content", [b"", b"RIFF\x24\x00\x00\x00WAVEfmt ", b"no audio at all"])
def test_what_cannot_be_read_is_an_input_error(tagger: Tagger, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        job_for(TagOptions()).run(tagger, str(path), lambda _: None, lambda *_: None)


# ---------------------------------------------------------------------- damage, and what others have written


def test_what_could_not_be_decoded_is_known_and_a_repeated_clip_is_none(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.wav", tmp_path / "cut.wav"
    sf.write(whole, sounds.noise(4_000), 8_000)
    data = bytearray(whole.read_bytes())
    cut.write_bytes(data[:-2_000])
    with Journal.temporary() as journal:
        for path in (whole, cut):
            reader = done(str(path), job_for(TagOptions(**CUT)), journal)  # type: ignore[arg-type]
            (clip,) = reader.clips(str(path))
            assert any("shorter than the window" in text for text in clip.warnings)
        assert list(reader.damage) == [str(cut)]
        assert reader.damage[str(cut)] == tuple(text for text in clip.warnings if "window" not in text)
        assert len(reader.damage[str(cut)]) == 1


def _drop(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda header: header.pop(key)


def _set(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda header: header.update({key: value})


FORGED = {
    "no warnings": _drop("warnings"),
    "no damage": _drop("damage"),
    "warnings are a number": _set("warnings", 7),
    "a warning is a number": _set("warnings", [7]),
    "a duration in words": _set("duration_s", "ten"),
    "an endless duration": _set("duration_s", float("inf")),
    "audio is short": _set("audio", [1, 2]),
    "audio of minus one channel": _set("audio", [16_000, -1, 5, "WAV", "PCM_16"]),
    "a label that there is not": _set("clips", [["mix", 1, [[527, 0.5]]]]),
    "a label counted from the end": _set("clips", [["mix", 1, [[-1, 0.5]]]]),
    "a score that is none": _set("clips", [["mix", 1, [[0, float("nan")]]]]),
    "a score in words": _set("clips", [["mix", 1, [[0, "much"]]]]),
    "a clip that is a number": _set("clips", [7]),
    "more clips than scores": _set("clips", [["0", 1, []], ["1", 1, []]]),
    "windows in words": _set("clips", [["mix", "many", []]]),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_body_is_refused_in_a_line(tagger: Tagger, clip: str, forge: Callable[..., object]) -> None:
    job = job_for(TagOptions(**CUT), keep_scores=True)  # type: ignore[arg-type]
    with Journal.temporary() as journal:
        reader = done(clip, job, journal)
        header, values = decode(journal.result(clip)[0], 1)
        forge(header)
        journal.add_done(clip, STAMP, [], encode(header, [values]))
        with pytest.raises(OutputError, match=r"what it holds of .* is damaged"):
            list(reader.clips(clip))


BROKEN = [b"", b"\xff\xff\xff\xff", b"\2\0\0\0\xff\xff", b"\1\0\0\0" + b"7", b"\3\0\0\0[7]"]


@pytest.mark.parametrize("part", BROKEN)
def test_a_forged_part_is_refused_in_a_line(tagger: Tagger, clip: str, part: bytes) -> None:
    job = job_for(TagOptions(**CUT, windows=True), keep_window_embeddings=True)  # type: ignore[arg-type]
    with Journal.temporary() as journal:
        reader = done(clip, job, journal)
        body, _ = journal.result(clip)
        journal.add_done(clip, STAMP, [journal.add_part(clip, part)], body)
        with pytest.raises(OutputError, match="is damaged"):
            list(next(iter(reader.clips(clip))).windows)
        with pytest.raises(OutputError, match="is damaged"):
            list(reader.embedding_rows(clip))


@pytest.mark.parametrize("body", [*BROKEN, b"\2\0\0\0{}", b"\2\0\0\0[]"])
def test_a_body_that_is_none_is_refused_in_a_line(tagger: Tagger, clip: str, body: bytes) -> None:
    job = job_for(TagOptions(**CUT, windows=True), keep_window_embeddings=True)  # type: ignore[arg-type]
    with Journal.temporary() as journal:
        reader = done(clip, job, journal)
        journal.add_done(clip, STAMP, [], body)
        for read in (reader.clips, reader.embedding_rows, reader.events):
            with pytest.raises(OutputError, match="is damaged"):
                list(read(clip))  # type: ignore[call-overload]


@pytest.mark.parametrize(("mark", "is_copied"), [(0xFFFF_FFFF, False), (None, True)])
def test_wav_of_unknown_length_on_standard_input_is_not_copied(
    tagger: Tagger, clip: str, monkeypatch: pytest.MonkeyPatch, mark: int | None, is_copied: bool
) -> None:
    plain = sounds.encoded(*sf.read(clip), codec="PCM_16")
    data = bytearray(plain)
    if mark is not None:
        struct.pack_into("<I", data, data.index(b"data") + 4, mark)
    expected = tagger.tag(io.BytesIO(plain))
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as end:
            end.write(data)

    writer = Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe))
        with job_for(TagOptions()).source("-") as source:
            assert source.seekable() == is_copied  # type: ignore[union-attr]
            assert tagger.tag(source).tags == expected.tags
    writer.join()


class Broken(io.RawIOBase):
    """A stream whose device has gone."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("stream", "max_input", "message"),
    [
        (Broken(), None, "standard input: cannot be read: input/output error"),
        (io.BytesIO(b"RIFF and more"), 5, "standard input: the stream has more than 5 bytes"),
    ],
)
def test_an_error_at_the_start_of_standard_input_names_it(
    monkeypatch: pytest.MonkeyPatch, stream: Any, max_input: int | None, message: str
) -> None:
    monkeypatch.setattr(stream, "seekable", lambda: False, raising=False)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stream))
    job = replace(job_for(TagOptions()), max_input=max_input)
    with pytest.raises(InputError, match=f"^{message}$"), job.source("-"):
        pass
