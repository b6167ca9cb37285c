from __future__ import annotations

import dataclasses
import gc
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dymn_cli.errors import OutputError
from dymn_cli.labels import Vocabulary
from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers import to_parquet
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.formats import tag_writer
from dymn_cli.writers.output import open_events, open_tags

pq = pytest.importorskip("pyarrow.parquet")

Options = Callable[..., WriterOptions]


def tags_file(path: Path, options: WriterOptions, *clips: ClipResult) -> Path:
    with open_tags(str(path), "parquet", options) as writer:
        for clip in clips:
            writer.write(clip)
    return path


def test_tags_in_a_data_frame(clip: ClipResult, options: Options, tmp_path: Path) -> None:
    path = tags_file(tmp_path / "tags.parquet", options(), clip)
    frame = pd.read_parquet(path)
    assert list(frame.columns) == [
        "source", "source_b64", "channel", "start_s", "end_s", "rank", "label", "mid", "index", "score",
    ]  # fmt: skip
    assert frame["label"].tolist() == ["Train", "Subway, metro, underground"]
    assert frame["end_s"].tolist() == [10.3, 10.3]
    assert frame["index"].dtype == np.int32
    np.testing.assert_array_equal(frame["score"], np.array([0.747149, 0.59906], np.float32))
    assert frame["source_b64"].isna().all()
    assert [path.name for path in tmp_path.iterdir()] == ["tags.parquet"], "what made it is inside"


def test_tags_of_windows(clip: ClipResult, options: Options, tmp_path: Path) -> None:
    frame = pd.read_parquet(tags_file(tmp_path / "w.parquet", options(windows=True), clip))
    assert frame[["start_s", "end_s", "rank"]].to_numpy().tolist() == [[0.0, 10.0, 1], [0.3, 10.3, 1]]


def test_a_matrix_holds_the_scores_to_the_last_bit(
    clip: ClipResult, options: Options, tmp_path: Path
) -> None:
    scores = np.random.default_rng(0).random((3, 527), np.float32)
    clips = [dataclasses.replace(clip, source=f"{n}.wav", scores=row) for n, row in enumerate(scores)]
    labels = Vocabulary.audioset().labels
    path = tags_file(tmp_path / "m.parquet", options(layout="matrix", labels=labels), *clips)
    frame = pd.read_parquet(path)
    assert list(frame.columns[5:]) == list(Vocabulary.audioset().names)
    np.testing.assert_array_equal(frame.iloc[:, 5:].to_numpy(), scores)
    assert frame["source"].tolist() == ["0.wav", "1.wav", "2.wav"]


def test_events(found: SourceEvents, options: Options, tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    with open_events(str(path), "parquet", options()) as writer:
        writer.write(found)
    frame = pd.read_parquet(path)
    assert frame.drop(columns=["source_b64", "score", "mean_score"]).to_dict("records")[1] == {
        "source": "farm.flac", "channel": "mix", "start_s": 3723.0, "end_s": 3725.5, "label": "Dog",
        "mid": "/m/0bt9lr", "index": 74, "n_windows": 7,
    }  # fmt: skip
    assert frame["mean_score"].tolist() == pytest.approx([0.4, 0.61234])


def test_what_made_it_is_in_the_metadata(clip: ClipResult, options: Options, tmp_path: Path) -> None:
    schema = pq.read_schema(tags_file(tmp_path / "t.parquet", options(), clip))
    meta = json.loads(schema.metadata[b"dymn"])
    assert (meta["schema"], meta["model"]["sha256"]) == ("dymn.meta/1", "ab" * 32)


def test_names_are_readable_and_their_bytes_not_lost(
    clip: ClipResult, awkward_names: list[str], options: Options, tmp_path: Path
) -> None:
    clips = [dataclasses.replace(clip, source=name, tags=clip.tags[:1]) for name in awkward_names]
    table = pq.read_table(tags_file(tmp_path / "n.parquet", options(), *clips)).to_pylist()
    bad = "na\udcefve.wav"
    for row, name in zip(table, awkward_names, strict=True):
        assert row["source"] == (name if name != bad else "na\ufffdve.wav")
        assert row["source_b64"] == (None if name != bad else "bmHvdmUud2F2")


def test_rows_leave_memory_in_groups(
    clip: ClipResult, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_parquet, "CELLS_IN_A_GROUP", 40)  # four rows of ten cells
    path = tags_file(tmp_path / "g.parquet", options(), *[clip] * 5)
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4, 4, 2]
    assert pd.read_parquet(path)["rank"].tolist() == [1, 2] * 5


def test_no_source_is_a_file_too(options: Options, tmp_path: Path) -> None:
    assert pd.read_parquet(tags_file(tmp_path / "none.parquet", options())).shape == (0, 10)


def test_equal_runs_give_equal_bytes(clip: ClipResult, options: Options, tmp_path: Path) -> None:
    one, two = (tags_file(tmp_path / name, options(), clip).read_bytes() for name in ("a", "b"))
    assert one == two


class Pipe(io.RawIOBase):
    """What only takes bytes, as standard output does when it is a pipe."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.taken += bytes(data)  # type: ignore[call-overload]
        return len(data)  # type: ignore[arg-type]


def test_through_a_pipe(clip: ClipResult, options: Options) -> None:
    pipe = Pipe()
    stream = io.BufferedWriter(pipe)
    writer = tag_writer("parquet", stream, options())
    writer.begin()
    writer.write(clip)
    writer.end()
    assert pd.read_parquet(io.BytesIO(pipe.taken))["rank"].tolist() == [1, 2]


def test_a_run_that_breaks_leaves_neither_a_file_nor_a_complaint(
    clip: ClipResult, options: Options, tmp_path: Path
) -> None:
    """Without care the dropped writer tries to complete its file, and Python tells of it on stderr."""

    def broken() -> None:
        with open_tags(str(tmp_path / "x"), "parquet", options()) as writer:
            writer.write(clip)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")  # noqa: PTH110
def test_a_full_disk_is_our_error(clip: ClipResult, options: Options) -> None:
    with pytest.raises(OutputError, match="/dev/full: no space left"):
        tags_file(Path("/dev/full"), options(), *[clip] * 50_000)
    gc.collect()


def test_without_pyarrow_it_says_what_to_install(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OutputError, match="parquet needs pyarrow") as caught:
        tag_writer("parquet", io.BytesIO(), options())
    assert caught.value.hint == "pip install 'dymn[parquet]'"
