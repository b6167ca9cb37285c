"""`dymn demo` on the real process, with the model that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dymn_cli.demo import demo_clips

CLIPS = demo_clips()


def test_each_clip_is_tagged_as_what_it_is(dymn):
    ran = dymn("demo")
    assert ran.returncode == 0
    assert [row[0] for row in ran.rows] == [clip.path.name for clip in CLIPS for _ in range(3)]
    for clip in CLIPS:
        (best,) = [row for row in ran.rows if row[0] == clip.path.name and row[4] == "1"]
        assert best[5] in clip.labels


def test_stderr_says_what_each_clip_is_unless_it_is_to_be_quiet(in_process):
    told = in_process("demo", "-k", 1).err.splitlines()
    assert told == [f"dymn: {clip.path.name}: {clip.description}" for clip in CLIPS]
    assert in_process("demo", "-q").stderr == b""


def test_the_number_of_tags_is_an_option(in_process):
    assert len(in_process("demo", "-k", 1, "-q").rows) == len(CLIPS)
    assert len(in_process("demo", "-k", 0, "-q").rows) == len(CLIPS) * 527


def test_the_formats_are_those_of_tag(in_process):
    objects = [json.loads(line) for line in in_process("demo", "-f", "jsonl").out.splitlines()]
    assert [clip["schema"] for clip in objects] == ["dymn.clip/1"] * len(CLIPS)
    assert in_process("demo", "-f", "csv").out.startswith(
        "source,channel,start_s,end_s,rank,label,mid,score\n"
    )
    assert in_process("demo", "-f", "npy").returncode == 2


def test_the_clips_can_be_found_to_listen_to_them(in_process):
    paths = [Path(line) for line in in_process("demo", "--path").out.splitlines()]
    assert all(path.is_absolute() for path in paths)
    assert [path.read_bytes()[:4] for path in paths] == [b"fLaC"] * len(CLIPS)


def test_tag_says_the_same_of_them(in_process):
    tagged = in_process("tag", *in_process("demo", "--path").out.splitlines(), "-k", 3).rows
    assert len(tagged) == 3 * len(CLIPS)
    assert [row[4:] for row in in_process("demo", "-q").rows] == [row[4:] for row in tagged]


@pytest.mark.parametrize("columns", [80, 50])
def test_a_terminal_shows_what_each_clip_is_and_what_to_do_next(dymn, columns):
    ran = dymn.terminal("demo", columns=columns, env={"NO_COLOR": "1"})
    assert ran.returncode == 0
    blocks = ran.out.rstrip("\n").split("\n\n")
    assert len(blocks) == len(CLIPS)
    for clip, block in zip(CLIPS, blocks, strict=True):
        assert block.startswith(clip.path.name)
        assert clip.description in " ".join(block.split())
        assert clip.labels[0].split(",")[0] in block
        assert "shorter than the window" not in block
        assert max(map(len, block.splitlines())) <= columns
    assert "dymn tag FILE" in ran.err


def test_a_reader_that_goes_away_is_no_error(dymn):
    ran = dymn.shell("dymn demo -q | head -1")
    assert (ran.returncode, ran.stderr) == (0, b"")
