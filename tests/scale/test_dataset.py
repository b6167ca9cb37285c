"""The actor behind `tag_dataset`, without a cluster: a table of recordings in, a table of tags out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dymn_cli import Tagger, TagOptions
from dymn_cli.batch.job import Job
from dymn_cli.errors import BackendUnavailableError, UsageError
from dymn_cli.scale import tag_dataset
from dymn_cli.scale.dataset import TagActor

pa = pytest.importorskip("pyarrow", reason="the extra `parquet`")

OPTIONS = TagOptions(window_s=0.5, top=2, channel="each", windows=True)
Take = Callable[..., Path]


@pytest.fixture(scope="module")
def actor() -> Iterator[TagActor]:
    job = Job(("dymn04_kd",), "auto", "cpu", None, OPTIONS, keep_embedding=True)
    made = TagActor(job, ("path", "bytes"), 1, None)
    yield made
    if made._opened is not None:
        made._opened.close()


def test_rows_have_what_the_tagger_says_by_path_and_by_bytes(actor: TagActor, take: Take) -> None:
    mono, stereo = take("mono.wav", 0.8), take("stereo.flac", 1.2, channels=2, seed=1)
    names = [str(mono), str(stereo)]
    opened = actor(pa.table({"path": names, "site": ["a", "b"]})).to_pylist()
    data = [mono.read_bytes(), stereo.read_bytes()]
    given = actor(pa.table({"bytes": data, "path": ["x", "x"], "site": ["a", "b"]})).to_pylist()
    assert [(row["site"], row["channel"]) for row in opened] == [("a", "0"), ("b", "0"), ("b", "1")]
    assert [row["path"] for row in given] == ["x"] * 3  # one name, and each its own bytes
    with Tagger(options=OPTIONS) as tagger:
        clips = [clip for name in names for clip in tagger.tag_channels(name)]
    for rows in (opened, given):
        for row, clip in zip(rows, clips, strict=True):
            assert "bytes" not in row
            assert (row["duration_s"], row["error"], row["message"]) == (clip.duration_s, None, None)
            tags = [(tag.rank, tag.label, tag.mid, tag.index, tag.score) for tag in clip.tags]
            assert [tuple(tag.values()) for tag in row["tags"]] == tags
            assert row["embedding"] == clip.embedding.tolist()
            assert [window["start_s"] for window in row["windows"]] == [w.start_s for w in clip.windows]
            assert row["warnings"] == list(clip.warnings)


def test_a_row_that_cannot_be_used_says_why_and_costs_no_other(
    actor: TagActor, take: Take, tmp_path: Path
) -> None:
    good = str(take("good.wav", 0.5))
    table = actor(pa.table({"path": [good, str(tmp_path / "none.wav"), None, good]}))
    rows = table.to_pylist()
    assert [row["error"] for row in rows] == [None, "AudioNotFoundError", "InputError", None]
    assert rows[1]["message"] == f"{tmp_path / 'none.wav'}: no such file"
    assert (rows[1]["tags"], rows[1]["embedding"], rows[1]["warnings"]) == (None, None, None)
    assert rows[0]["tags"] == rows[3]["tags"]
    one = actor(pa.table({"path": [good]}))
    assert one.schema == table.schema  # blocks of a dataset go together, whatever failed in them


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"name": ["a"]}, "neither a column 'path'"), ({"path": ["a"], "tags": [1]}, "'tags'")],
)
def test_columns_that_do_not_fit_are_named(actor: TagActor, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        actor(pa.table(columns))


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailableError, match="Ray Data") as caught:
        tag_dataset(None)  # type: ignore[arg-type]
    assert caught.value.hint == "pip install 'dymn[ray]'"
