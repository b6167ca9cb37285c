"""`dymn export`: the file, the report, and what is refused before anything is written."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from dymn_cli.cli.app import run
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ModelConfig
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.registry import DEFAULT_MODEL
from dymn_cli.store.weights import save_weights

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A file of a model that was never trained, and answers fast."""
    from dymn_cli.model.build import build

    config = ModelConfig("mn", 0.1, n_classes=3)
    state = build(config, generator=torch.Generator().manual_seed(1)).state_dict()
    tensors = {key: tensor.numpy().astype(np.float32) for key, tensor in state.items()}
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    header = ModelHeader("tiny", config, FrontEndConfig(), Vocabulary.from_names(["a", "b", "c"]))
    save_weights(path, header, tensors)
    return str(path)


def test_the_file_answers_as_the_model_and_the_report_says_so(dymn, in_process):
    ran = dymn("export", DEFAULT_MODEL, "-o", "m.onnx", "--header")
    assert ran.returncode == 0
    header, *cases = ran.rows
    assert header == [
        "signals",
        "n_frames",
        "logit",
        "score",
        "embedding",
        "log_mel",
        "n_windows",
        "n_same_top",
        "frame_logit",
        "frame_score",
    ]
    assert {len(case[0].split()) for case in cases} == {1, 3}  # batches of one and of three
    assert len({case[1] for case in cases}) > 1
    assert all(0 <= float(value) <= 1e-4 for case in cases for value in case[2:5])
    assert any(float(value) > 0 for case in cases for value in case[2:5])
    assert {case[5] for case in cases} == {""}
    assert [case[0] for case in cases][-3:] == ["guitar.flac", "birdsong.flac", "siren.flac"]
    assert b"m.onnx" in ran.stderr
    assert "opset 18" in ran.err
    assert "mel (batch, 1, 128, n_frames) -> logits (batch, 527), embedding (batch, 384)" in ran.err

    siren = in_process("demo", "--path").out.splitlines()[-1]
    by_name, by_file = (in_process("tag", siren, "-m", model).rows for model in (DEFAULT_MODEL, "m.onnx"))
    assert [row[5] for row in by_file] == [row[5] for row in by_name]
    for one, other in zip(by_file, by_name, strict=True):
        assert float(one[6]) == pytest.approx(float(other[6]), abs=2e-4)


def test_the_report_as_json_describes_the_file(tiny, tmp_path, capsysbinary):
    out = tmp_path / "m.onnx"
    assert run(["export", tiny, "-o", str(out), "--batch", "one", "-f", "json"]) == 0
    document = json.loads(capsysbinary.readouterr().out)
    assert document["schema"] == "dymn.export/1"
    assert document["model"] == "tiny"
    assert (document["file"], document["batch"]) == ("m.onnx", "one")
    assert (document["precision"], document["with_frontend"]) == ("float32", False)
    assert document["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert document["size_bytes"] == document["float32_bytes"] == out.stat().st_size
    assert document["worst"] <= document["tolerance"] == 1e-4
    assert document["tolerance_of"] == ["logit", "score", "embedding"]
    assert document["inputs"] == [{"name": "mel", "type": "float32", "shape": [1, 1, 128, "n_frames"]}]
    assert document["timing"] is None


def test_a_file_with_frames_says_so(tiny, tmp_path, capsysbinary):
    out = tmp_path / "m.onnx"
    assert run(["export", tiny, "-o", str(out), "--frames", "-f", "json"]) == 0
    document = json.loads(capsysbinary.readouterr().out)
    assert document["frames"] is True
    assert document["tolerance_of"][-2:] == ["frame_logit", "frame_score"]
    assert {output["name"]: output["shape"] for output in document["outputs"]}["frame_logits"] == [
        "batch",
        "n_steps",
        3,
    ]
    for part in ("frame_logit", "frame_score"):
        assert all(0 <= case[part] <= 1e-4 for case in document["cases"])


def test_standard_output_gets_the_file_and_nothing_else(tiny, capsysbinary):
    import onnx

    assert run(["export", tiny, "-o", "-"]) == 0
    model = onnx.load_from_string(capsysbinary.readouterr().out)
    assert [value.name for value in model.graph.output] == ["logits", "embedding"]


def test_a_worse_parity_is_exit_code_4_and_leaves_no_file(tiny, tmp_path, monkeypatch, capsysbinary):
    from dymn_cli.export import parity

    monkeypatch.setattr(parity, "TOLERANCE", 1e-12)
    out = tmp_path / "m.onnx"
    assert run(["export", tiny, "-o", str(out)]) == 4
    assert not out.exists()
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- other files


@pytest.mark.slow
def test_a_web_page_gets_one_file_from_samples_to_scores(in_process, record):
    clip = record("take [1].wav", (81, 12), rate_hz=16_000)
    ran = in_process("export", DEFAULT_MODEL, clip, "-o", "w.onnx", "--with-frontend", "--int8", "-f", "json")
    assert ran.returncode == 0
    document = json.loads(ran.out)
    assert document["inputs"] == [{"name": "waveform", "type": "float32", "shape": ["batch", "n_samples"]}]
    assert [output["name"] for output in document["outputs"]] == ["scores", "logits", "embedding"]
    assert (document["precision"], document["tolerance"], document["tolerance_log_mel"]) == (
        "int8",
        0.05,
        5e-5,
    )
    assert document["size_bytes"] < 0.37 * document["float32_bytes"]
    assert document["timing"]["file_ms"] > 0
    mine = document["cases"][-1]
    assert (mine["signals"], mine["is_clip"], mine["n_windows"]) == (["take [1].wav"], True, 2)
    assert 0 < mine["log_mel"] <= 3e-4  # a pure tone, which float32 does not do better
    assert all(case["log_mel"] <= 5e-5 for case in document["cases"] if case["is_clip"] and case is not mine)
    assert document["n_windows"] == document["n_same_top"] == 5
    assert "in float32" in ran.err and "times as fast" in ran.err

    import onnxruntime
    import soundfile

    siren = in_process("demo", "--path").out.splitlines()[-1]
    samples = np.resize(soundfile.read(siren, dtype="float32")[0], 320_000)
    session = onnxruntime.InferenceSession(in_process.cwd / "w.onnx", providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"waveform": samples[np.newaxis]})[0][0]
    names = json.loads(session.get_modelmeta().custom_metadata_map["dymn.label_names"])
    tagged = in_process("tag", siren, "-k", 1).rows[0]
    assert names[scores.argmax()] == tagged[5]
    assert scores.max() == pytest.approx(float(tagged[6]), abs=0.05)

    refused = in_process("tag", siren, "-m", "w.onnx")
    assert (refused.returncode, refused.stdout) == (4, b"")
    assert len(refused.err.splitlines()) == 1
    assert "front end" in refused.err


@pytest.mark.slow
def test_dymn_tags_with_a_file_of_fewer_bits(in_process):
    assert in_process("export", DEFAULT_MODEL, "-o", "half.onnx", "--fp16").returncode == 0
    siren = in_process("demo", "--path").out.splitlines()[-1]
    by_name, by_file = (in_process("tag", siren, "-k", 3, "-m", m).rows for m in (DEFAULT_MODEL, "half.onnx"))
    assert [row[5] for row in by_file] == [row[5] for row in by_name]
    for one, other in zip(by_file, by_name, strict=True):
        assert float(one[6]) == pytest.approx(float(other[6]), abs=5e-3)


def test_a_broken_quantisation_is_exit_code_4_and_keeps_what_was_there(
    tiny, tmp_path, monkeypatch, capsysbinary
):
    from dymn_cli.export import parity

    monkeypatch.setattr(parity, "INT8_TOLERANCE", -1.0)
    out = tmp_path / "m.onnx"
    out.write_bytes(b"mine")
    assert run(["export", tiny, "-o", str(out), "--int8", "--force"]) == 4
    assert out.read_bytes() == b"mine"
    said = capsysbinary.readouterr()
    assert said.out == b""
    assert b"nothing was written" in said.err and len(said.err.splitlines()) == 1


def test_missing_extras_are_one_line_with_the_command_that_brings_them(dymn, tmp_path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "onnx.py").write_text("raise ImportError('no module called onnx')\n")
    paths = f"{tmp_path / 'without'}:{dymn.env['PYTHONPATH']}"
    ran = dymn("export", DEFAULT_MODEL, "-o", "m.onnx", env={"PYTHONPATH": paths})
    assert (ran.returncode, ran.stdout) == (4, b"")
    assert len(ran.err.splitlines()) == 1
    assert "pip install 'dymn[export]'" in ran.err


@pytest.mark.slow
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
        ((DEFAULT_MODEL, "-o", "m.onnx", "--int8", "--fp16"), 2),
        ((DEFAULT_MODEL, "gone.wav", "-o", "m.onnx"), 3),
        ((DEFAULT_MODEL, "there.onnx", "-o", "m.onnx"), 3),
    ],
)
def test_what_cannot_be_is_said_at_once(in_process, arguments, code):
    (in_process.cwd / "there.onnx").write_text("mine")
    ran = in_process("export", *arguments)
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert len(ran.err.splitlines()) == 1
    assert (in_process.cwd / "there.onnx").read_text() == "mine"
    assert not (in_process.cwd / "m.onnx").exists()


def test_an_onnx_file_does_not_go_to_a_terminal(dymn):
    ran = dymn.terminal("export", DEFAULT_MODEL, "-o", "-")
    assert (ran.returncode, ran.stdout) == (2, b"")


@pytest.mark.parametrize(
    ("options", "columns"), [((), []), (("--with-frontend",), ["log-mel"])], ids=["plain", "with frontend"]
)
def test_the_report_as_a_table(options, columns, tiny, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["export", tiny, "-o", str(tmp_path / "m.onnx"), "-f", "table", *options]) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[0].split() == ["sounds", "frames", "logits", "scores", "embedding", *columns, "same", "top"]
    assert lines[1].startswith("noise ")
    assert len({len(line) for line in lines}) == 1
