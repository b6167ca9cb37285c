"""`dymn export`: the file, the report, and what is refused before anything is written."""

from __future__ import annotations

import hashlib
import json

import pytest

from dymn_cli.cli.app import run
from dymn_cli.store.registry import DEFAULT_MODEL

pytest.importorskip("onnx")
pytest.importorskip("torch")


def test_the_file_answers_as_the_model_and_the_report_says_so(dymn):
    ran = dymn("export", DEFAULT_MODEL, "-o", "m.onnx", "--header")
    assert ran.returncode == 0
    header, *cases = ran.rows
    assert header == ["signals", "n_frames", "logit", "score", "embedding"]
    assert {len(case[0].split()) for case in cases} == {1, 3}  # batches of one and of three
    assert len({case[1] for case in cases}) > 1
    assert all(0 <= float(value) <= 1e-4 for case in cases for value in case[2:])
    assert any(float(value) > 0 for case in cases for value in case[2:])
    assert b"m.onnx" in ran.stderr

    siren = dymn("demo", "--path").out.splitlines()[-1]
    by_name, by_file = (dymn("tag", siren, "-m", model).rows for model in (DEFAULT_MODEL, "m.onnx"))
    assert [row[5] for row in by_file] == [row[5] for row in by_name]
    for one, other in zip(by_file, by_name, strict=True):
        assert float(one[6]) == pytest.approx(float(other[6]), abs=2e-4)


def test_the_report_as_json_describes_the_file(tmp_path, capsysbinary):
    out = tmp_path / "m.onnx"
    assert run(["export", DEFAULT_MODEL, "-o", str(out), "--batch", "one", "-f", "json"]) == 0
    document = json.loads(capsysbinary.readouterr().out)
    assert document["schema"] == "dymn.export/1"
    assert document["model"] == DEFAULT_MODEL
    assert (document["file"], document["batch"]) == ("m.onnx", "one")
    assert document["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert document["size_bytes"] == out.stat().st_size
    assert document["worst"] <= document["tolerance"] == 1e-4


def test_standard_output_gets_the_file_and_nothing_else(capsysbinary):
    import onnx

    assert run(["export", DEFAULT_MODEL, "-o", "-"]) == 0
    model = onnx.load_from_string(capsysbinary.readouterr().out)
    assert [value.name for value in model.graph.output] == ["logits", "embedding"]


def test_a_worse_parity_is_exit_code_4_and_leaves_no_file(tmp_path, monkeypatch, capsysbinary):
    from dymn_cli.export import onnx_file

    monkeypatch.setattr(onnx_file, "TOLERANCE", 1e-12)
    out = tmp_path / "m.onnx"
    assert run(["export", DEFAULT_MODEL, "-o", str(out)]) == 4
    assert not out.exists()
    assert list(tmp_path.iterdir()) == []


def test_missing_extras_are_one_line_with_the_command_that_brings_them(dymn, tmp_path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "onnx.py").write_text("raise ImportError('no module called onnx')\n")
    paths = f"{tmp_path / 'without'}:{dymn.env['PYTHONPATH']}"
    ran = dymn("export", DEFAULT_MODEL, "-o", "m.onnx", env={"PYTHONPATH": paths})
    assert (ran.returncode, ran.stdout) == (4, b"")
    assert len(ran.err.splitlines()) == 1
    assert "pip install 'dymn[export]'" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nope", "-o", "m.onnx"), 2),
        ((DEFAULT_MODEL,), 2),
        ((DEFAULT_MODEL, "-o", "m.onnx", "--batch", "two"), 2),
        ((DEFAULT_MODEL, "-o", "m.onnx", "-f", "yaml"), 2),
        ((DEFAULT_MODEL, "-o", "there.onnx"), 5),
        ((DEFAULT_MODEL, "-o", "no/such/folder/m.onnx"), 5),
        (("gone.safetensors", "-o", "m.onnx"), 4),
    ],
)
def test_what_cannot_be_is_said_at_once(dymn, arguments, code):
    (dymn.cwd / "there.onnx").write_text("mine")
    ran = dymn("export", *arguments, timeout=10)
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert len(ran.err.splitlines()) == 1
    assert (dymn.cwd / "there.onnx").read_text() == "mine"
    assert not (dymn.cwd / "m.onnx").exists()


def test_an_onnx_file_does_not_go_to_a_terminal(dymn):
    ran = dymn.terminal("export", DEFAULT_MODEL, "-o", "-")
    assert (ran.returncode, ran.stdout) == (2, b"")


def test_the_report_as_a_table(tmp_path, monkeypatch, capsysbinary):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["export", DEFAULT_MODEL, "-o", str(tmp_path / "m.onnx"), "-f", "table"]) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[0].split() == ["sounds", "frames", "logits", "scores", "embedding"]
    assert lines[1].startswith("noise ")
    assert len({len(line) for line in lines}) == 1
