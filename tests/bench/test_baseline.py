"""The reference way gives the same answer, and does the work that it is said to do."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import UsageError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.frontend.melbank import FrontEndConfig, mel_bank
from dymn_cli.tagging.tagger import Tagger

pytest.importorskip("torch")

import torch

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import to_mono_32k
from dymn_cli.bench.baseline import Baseline, load, log_mel


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return Baseline("dymn04_kd", threads=1)


@pytest.mark.parametrize("form", ["wav", "mp3"])
def test_scores_are_those_of_dymn(baseline: Baseline, originals: dict[str, list[Path]], form: str) -> None:
    with Tagger(threads=1) as tagger:
        ours = tagger.tag(originals[form][0])
    scores, best = baseline(originals[form][0])
    assert np.abs(scores - ours.scores).max() < 5e-4
    assert [int(index) for index in best] == [tag.index for tag in ours.tags]


def test_loading_is_the_mean_of_the_channels_at_32_khz(originals: dict[str, list[Path]]) -> None:
    path = originals["flac"][0]
    with open_audio(path) as reader:
        ours = np.concatenate(list(to_mono_32k(reader)))
    assert np.abs(load(path, 32_000) - ours).max() < 1e-6


def test_log_mel_is_that_of_the_published_front_end() -> None:
    samples = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) / 10
    theirs = log_mel(torch.from_numpy(samples)[None], FrontEndConfig()).numpy()
    assert theirs.shape == (1, 1, 128, 100)
    assert np.abs(theirs - LogMel()(samples)).max() < 5e-5


def test_the_mel_bank_is_computed_for_every_clip(
    baseline: Baseline, originals: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    original = mel_bank.__wrapped__
    monkeypatch.setattr(mel_bank, "__wrapped__", lambda config: computed.append(1) or original(config))
    for path in originals["wav"][:2]:
        baseline(path)
    assert len(computed) == 2


def fake_torchaudio(monkeypatch: pytest.MonkeyPatch, **contents: object) -> None:
    for name in ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, value in contents.items():
        monkeypatch.setattr(sys.modules["torchaudio.compliance.kaldi"], name, value, raising=False)


def test_the_mel_bank_is_that_of_torchaudio_where_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def get_mel_banks(*args: float, **warp: float) -> tuple[torch.Tensor, None]:
        asked.append((args, warp["vtln_warp_factor"]))
        return torch.ones(128, 512), None

    fake_torchaudio(monkeypatch, get_mel_banks=get_mel_banks)
    baseline = Baseline("dymn04_kd", threads=1)
    assert baseline.note == "with torchaudio's mel bank"
    bank = baseline.bank(FrontEndConfig())
    assert asked == [((128, 1024, 32_000, 0.0, 15_000.0), 1.0)]
    assert bank.shape == (128, 513)
    assert bank[:, :512].min() == 1
    assert bank[:, 512].max() == 0


def test_where_torchaudio_does_not_load_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio.compliance.kaldi", None)
    assert "torchaudio is not installed" in Baseline("dymn04_kd", threads=1).note


@pytest.mark.parametrize("failure", [OSError("libcudart.so.13"), RuntimeError("different CUDA versions")])
def test_a_torchaudio_of_another_build_is_no_error(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    class Refusing:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name.partition(".")[0] == "torchaudio":
                raise failure

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    assert "does not load beside this PyTorch" in Baseline("dymn04_kd", threads=1).note


def test_it_needs_weights_that_pytorch_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="PyTorch"):
        Baseline(str(path), threads=1)
