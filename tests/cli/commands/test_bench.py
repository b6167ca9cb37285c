"""`dymn bench`: that it measures what it promises and says so; how fast is for the benchmark to say."""

from __future__ import annotations

import importlib.util
import json
import platform

import pytest

HAS_TORCH = importlib.util.find_spec("torch") is not None
TINY = ("bench", "--rounds", 1, "--seconds", 0.05, "-j", 2)
FORMATS = {"wav", "flac", "mp3", "ogg"}


@pytest.mark.slow
def test_measures_every_part(dymn):
    """One tiny run, all of it: real clips, real workers, real processes."""
    ran = dymn(*TINY, *(["--baseline"] if HAS_TORCH else []), "-f", "json", timeout=180)
    assert ran.returncode == 0, ran.err
    document = json.loads(ran.out)
    assert document["schema"] == "dymn.bench/1"
    assert document["model"]["name"] == "dymn04_kd"
    assert document["settings"]["jobs"] == 2
    assert document["machine"]["cores"] >= 1
    assert platform.node() not in ran.out

    figures = document["figures"]
    parts = {figure["part"] for figure in figures}
    assert parts == {"start", "memory", "stages", "speed", "length"} | ({"baseline"} if HAS_TORCH else set())
    assert all(figure["median"] > 0 for figure in figures if figure["what"] != "rest")
    assert all(figure["low"] <= figure["median"] <= figure["high"] for figure in figures)

    def forms(part: str, what: str, workers: int | None) -> set[str | None]:
        key = (part, what, workers)
        return {f["format"] for f in figures if (f["part"], f["what"], f["workers"]) == key}

    assert forms("stages", "decode", 1) == forms("stages", "rest", 1) == FORMATS
    for stage in ("resample", "log-mel", "model", "write"):
        assert forms("stages", stage, 1) == {None}
    for workers in (1, 2):
        assert forms("speed", "clips", workers) == forms("speed", "realtime", workers) == FORMATS
    assert forms("speed", "gain", 2) == FORMATS
    assert {figure["what"] for figure in figures if figure["part"] == "start"} == {"help", "tag"}
    assert forms("length", "1 min : clips", 2) == {"mp3"}
    if HAS_TORCH:
        assert forms("baseline", "dymn : reference", 2) == {"wav", "mp3"}
        assert "torch" in document["machine"]["libraries"]
    memory = {figure["what"]: figure["median"] for figure in figures if figure["part"] == "memory"}
    assert {"clip", "folder", "1 min"} <= set(memory)
    assert all(10 < megabytes < 2000 for megabytes in memory.values())
    assert "measuring" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--rounds", 0], "--rounds"),
        (["--seconds", "nan"], "--seconds"),
        (["-j", 0], "--jobs"),
        (["--long", -1], "--long"),
        (["-f", "xml"], "unknown format 'xml'"),
        (["-m", "dymn05_kd"], "no model is called 'dymn05_kd'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(dymn, arguments, complaint):
    ran = dymn("bench", *arguments)
    assert ran.returncode == 2
    assert ran.stdout == b""
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1


def test_baseline_without_torch_says_what_to_install(dymn, tmp_path):
    (tmp_path / "cwd" / "torch.py").write_text("raise ImportError('No module named torch')\n")
    ran = dymn("bench", "--baseline", env={"PYTHONPATH": f"{tmp_path / 'cwd'}:{dymn.env['PYTHONPATH']}"})
    assert ran.returncode == 4
    assert "pip install 'dymn[torch]'" in ran.err
