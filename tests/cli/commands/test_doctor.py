"""`dymn doctor`: what it finds sound, and what it must not."""

from __future__ import annotations

import json
import os
import re
import tomllib
from importlib import metadata

import pytest
import soundfile
import sounds

from dymn_cli.cli.app import run
from dymn_cli.datasets.audio_cache import open_cache
from dymn_cli.datasets.recordings import Recording
from dymn_cli.doctor import checks as parts
from dymn_cli.doctor import self_test
from dymn_cli.frontend import FrontEndConfig
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import read_weights

ALL_EXTRAS = parts.EXTRAS


@pytest.fixture
def checks(monkeypatch, capsysbinary):
    """Runs it in this process, without the extras: gives the exit code and name → (state, detail, hint)."""
    monkeypatch.setattr(parts, "EXTRAS", {})
    for name in [name for name in os.environ if name.startswith("DYMN_")]:
        monkeypatch.delenv(name)

    def examine(*arguments: str) -> tuple[int, dict[str, tuple[str, str, str]]]:
        code = run(["doctor", *arguments])
        lines = capsysbinary.readouterr().out.decode().splitlines()
        cells = [line.split("\t") for line in lines]
        return code, {name: (state, detail, hint) for name, state, detail, hint in cells}

    return examine


def test_a_sound_installation(dymn):
    ran = dymn("doctor")
    assert (ran.returncode, ran.stderr) == (0, b"")
    found = {row[0]: row[1:] for row in ran.rows}
    for name in ("python", "numpy", "soundfile", "soxr", "onnxruntime", "weights", "runtime", "self-test"):
        assert found[name][0] == "ok"
    assert metadata.version("numpy") in found["numpy"][1]
    assert "libsndfile 1." in found["soundfile"][1]
    assert "CPUExecutionProvider" in found["onnxruntime"][1]
    assert "Siren" in found["self-test"][1]
    for stage in ("decode", "log-mel", "model"):
        assert stage in found["self-test"][1]


def test_json_for_bug_reports(monkeypatch, capsysbinary):
    monkeypatch.setattr(parts, "EXTRAS", {})
    assert run(["doctor", "-f", "json"]) == 0
    document = json.loads(capsysbinary.readouterr().out)
    assert document["schema"] == "dymn.doctor/1"
    assert {self_test["state"] for self_test in document["checks"]} <= {"ok", "absent", "warn"}
    assert all(document["times_ms"][stage] > 0 for stage in ("decode_ms", "log_mel_ms", "model_ms"))


@pytest.mark.process
def test_a_terminal_gets_a_line_a_check_within_80_columns(dymn):
    ran = dymn.terminal("doctor", columns=80, streams="out err", env={"NO_COLOR": "1"})
    assert ran.returncode == 0
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(re.match("ok +self-test +hears", line) for line in lines)
    assert ran.err == "dymn: all is well\n"


def test_an_extra_that_cannot_be_loaded_is_a_warning_that_says_why(monkeypatch, checks, tmp_path):
    """As an extension beside a PyTorch that it was not built for."""
    (tmp_path / "strangeaudio-9.9.dist-info").mkdir()
    (tmp_path / "strangeaudio-9.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: strangeaudio\nVersion: 9.9\n"
    )
    (tmp_path / "strangeaudio.py").write_text("raise OSError('libstrangeaudio.so: undefined symbol: x')\n")
    monkeypatch.setattr(parts, "EXTRAS", {"strangeaudio": "nothing but this test"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, found = checks()
    assert code == 0
    state, detail, hint = found["strangeaudio"]
    assert state == "warn"
    assert detail == "9.9 cannot be loaded: OSError: libstrangeaudio.so: undefined symbol: x"
    assert hint == "only needed for nothing but this test; reinstall it: pip install strangeaudio"


def test_it_says_which_devices_are_there_and_why_others_are_not(monkeypatch, checks):
    pytest.importorskip("torch")
    monkeypatch.setattr(parts, "EXTRAS", {"torch": ALL_EXTRAS["torch"]})
    _, found = checks()
    state, detail, _ = found["cuda"]
    assert state == "ok" or "PyTorch" in detail
    assert metadata.version("torch") in found["torch"][1]


def test_a_device_is_held_to_the_answers_of_the_cpu(monkeypatch, checks):
    """What runs on a GPU, on this machine's CPU."""
    pytest.importorskip("torch")
    from dymn_cli.runtime.torch import TorchGpuBackend

    real = self_test.open_backend

    def open_backend(model, *, device="auto", **options):
        if device == "auto":
            return real(model, **options)
        return TorchGpuBackend(read_weights(resolve(model)), device="cpu")

    monkeypatch.setattr(self_test, "open_backend", open_backend)
    code, found = checks("--device", "cuda")
    assert code == 0
    runtime = ("ok", "torch on cpu float16, which also resamples and computes log-mels", "")
    assert found["runtime"] == runtime
    state, detail, _ = found["agreement"]
    assert (state, detail.startswith("scores differ from the CPU's by at most 0.0")) == ("ok", True)
    monkeypatch.setattr(self_test, "DEVICE_TOLERANCE", 0.0)
    code, found = checks("--device", "cuda")
    assert (code, found["agreement"][0]) == (0, "warn")


def test_an_extra_that_is_not_there_says_what_brings_it(monkeypatch, capsysbinary):
    monkeypatch.setattr(parts, "EXTRAS", {"no-such-package": "nothing"})
    assert run(["doctor"]) == 0
    assert (
        b"no-such-package\tabsent\tnot installed; for nothing\tpip install" in capsysbinary.readouterr().out
    )


def test_the_extra_that_brings_a_package_is_named_as_dymn_asks_for_it(monkeypatch):
    wanted = [
        "numpy>=2",
        "av>=14; extra == 'media'",
        'torch-scatter; extra == "odd"',
        "torch; extra == 'torch'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    assert parts._how_to_get("av") == "pip install 'dymn[media]'"
    assert parts._how_to_get("torch") == "pip install 'dymn[torch]'"
    assert parts._how_to_get("other") == "pip install other"


def test_of_several_extras_it_is_the_one_for_that_package(monkeypatch):
    """As the metadata of the package has them: by name."""
    wanted = [
        "torch==2; extra == 'dev'",
        "torch>=2; extra == 'export'",
        "onnx; extra == 'export'",
        "torch>=2; extra == 'torch'",
        "torchaudio; extra == 'torch'",
        "h5py; extra == 'train'",
        "torchaudio; extra == 'dev'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    for package, extra in (
        ("torch", "torch"),
        ("torchaudio", "torch"),
        ("onnx", "export"),
        ("h5py", "train"),
    ):
        assert parts._how_to_get(package) == f"pip install 'dymn[{extra}]'"


def test_the_packages_of_all_extras_are_looked_at(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    required = {re.split(r"[^\w-]", package)[0] for package in project["dependencies"]}
    assert required == set(parts.REQUIRED)
    extras = {name: packages for name, packages in project["optional-dependencies"].items() if name != "dev"}
    wanted = {re.split(r"[^\w-]", package)[0] for packages in extras.values() for package in packages}
    # torchaudio only comes along for one figure of `dymn bench`, which says itself where it is missing.
    assert wanted - {"dymn", "torchaudio"} == set(parts.EXTRAS)


def test_it_says_where_decoded_audio_lies_and_how_much_there_is(monkeypatch, checks, tmp_path):
    monkeypatch.setenv("DYMN_HOME", str(tmp_path))
    state, detail, _ = checks()[1]["audio cache"]
    assert (state, detail) == ("ok", f"{tmp_path / 'clips'}: empty; at most 20.0 GB (DYMN_CACHE_GB)")
    soundfile.write(tmp_path / "noise.wav", sounds.noise(32_000), 32_000)
    recordings = [Recording("noise", str(tmp_path / "noise.wav"), "")]
    open_cache(recordings, tmp_path / "clips", kind="samples", front_end=FrontEndConfig())
    monkeypatch.setenv("DYMN_CACHE_GB", "1.5")
    assert re.search(
        r"clips: 1 decoded recordings?, 64\.\d kB; at most 1\.5 GB", checks()[1]["audio cache"][1]
    )
    monkeypatch.setenv("DYMN_CACHE_GB", "x")
    assert checks()[1]["audio cache"][:2] == ("fail", "DYMN_CACHE_GB=x is not a number of gigabytes")


def test_a_part_that_is_missing_fails(monkeypatch, checks):
    real = metadata.version

    def version(name: str) -> str:
        if name == "soxr":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    code, found = checks()
    assert code == 1
    assert found["soxr"] == ("fail", "not installed", "pip install soxr")
    assert found["self-test"][0] == "ok"


@pytest.mark.slow
def test_a_part_that_cannot_be_loaded_fails_and_the_rest_is_told(dymn, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "soundfile.py").write_text("raise OSError('cannot load libsndfile.so')\n")
    ran = dymn("doctor", env={"PYTHONPATH": f"{tmp_path / 'broken'}:{dymn.env['PYTHONPATH']}"})
    assert (ran.returncode, ran.stderr) == (1, b"")
    found = {row[0]: row[1:] for row in ran.rows}
    assert found["soundfile"][:2] == ["fail", "OSError: cannot load libsndfile.so"]
    assert found["self-test"][0] == "fail"
    assert found["onnxruntime"][0] == found["weights"][0] == "ok"


def test_a_model_that_hears_something_else_fails(monkeypatch, checks):
    real = self_test.try_clip

    def deaf(*arguments, **rest):
        import dataclasses

        trial = real(*arguments, **rest)
        return dataclasses.replace(trial, labels=trial.labels[::-1])

    monkeypatch.setattr(self_test, "try_clip", deaf)
    code, found = checks()
    assert code == 1
    assert found["self-test"][0] == "fail"
    assert "not Siren" in found["self-test"][1]
    assert "verify" in found["self-test"][2]


@pytest.mark.parametrize("arguments", [("-m", "nope"), ("--backend", "nope"), ("--device", "cuda:99")])
def test_what_cannot_run_fails_with_the_reason(checks, arguments):
    code, found = checks(*arguments)
    assert code == 1
    assert found["self-test"][0] == "fail"
    assert arguments[1] in found["self-test"][1]
    assert found["self-test"][2]


def test_variables_are_shown_and_a_misspelt_one_is_a_warning(monkeypatch, checks):
    monkeypatch.setenv("DYMN_JOBS", "3")
    monkeypatch.setenv("DYMN_MODLE", "x")
    code, found = checks()
    assert code == 0
    assert found["environment"][:2] == ("ok", "DYMN_JOBS=3")
    assert found["DYMN_MODLE"] == ("warn", "not a variable that dymn knows", "nearest: DYMN_MODEL")


def test_the_cache_is_where_dymn_home_says_and_must_be_a_folder(monkeypatch, checks, tmp_path):
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "new"))
    assert checks()[1]["cache"] == ("ok", f"{tmp_path / 'new'}, not created yet", "")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "file"))
    code, found = checks()
    assert code == 0
    assert (found["cache"][0], found["audio cache"][0]) == ("warn", "warn")
    assert "DYMN_HOME" in found["cache"][2]
