"""Counts of parameters and multiply-accumulates: the paper's figures, and torch's own counting."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dymn_cli.errors import UsageError
from dymn_cli.model.complexity import complexity
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig

# Table II: millions of parameters, multiply-accumulates to three digits.
SIZES = {
    "DyMN-S": (ModelConfig(width=0.4), 1.96, 117),
    "DyMN-M": (ModelConfig(width=1.0), 10.55, 582),
    "DyMN-L": (ModelConfig(width=2.0), 39.97, 2220),
    "MN 0.4": (ModelConfig(family="mn", width=0.4), 0.98, 111),
    "MN 1.0": (ModelConfig(family="mn", width=1.0), 4.88, 541),
    "MN 2.0": (ModelConfig(family="mn", width=2.0), 17.91, 2060),
    "MN 3.0": (ModelConfig(family="mn", width=3.0), 39.09, 4550),
    "MN 4.0": (ModelConfig(family="mn", width=4.0), 68.43, 8030),
}

# The studies of DyMN-M: millions of parameters. Every published figure is met.
VARIANTS = {
    "-Dy-Conv": (ModelConfig(dy_conv=()), 6.69),
    "-Dy-ReLU": (ModelConfig(dy_relu=()), 8.40),
    "-CA": (ModelConfig(coordinate_attention="none"), 9.47),
    "-Dy-Conv -Dy-ReLU": (ModelConfig(dy_conv=(), dy_relu=()), 4.54),
    "-Dy-Conv -CA": (ModelConfig(dy_conv=(), coordinate_attention="none"), 5.62),
    "-Dy-ReLU -CA": (ModelConfig(dy_relu=(), coordinate_attention="none"), 7.32),
    "first 5 dynamic": (ModelConfig(dynamic_blocks=BLOCK_MASKS["first-5"]), 3.52),
    "mid 5 dynamic": (ModelConfig(dynamic_blocks=BLOCK_MASKS["mid-5"]), 4.09),
    "last 5 dynamic": (ModelConfig(dynamic_blocks=BLOCK_MASKS["last-5"]), 9.67),
    "replace SE": (ModelConfig(dynamic_blocks=BLOCK_MASKS["replace-se"]), 9.83),
    "K = 2": (ModelConfig(kernels=2), 7.98),
    "K = 6": (ModelConfig(kernels=6), 13.12),
    "M = 1": (ModelConfig(mappings=1), 9.47),
    "M = 3": (ModelConfig(mappings=3), 11.62),
    "r = 8": (ModelConfig(context_ratio=8), 9.85),
    "r = 16": (ModelConfig(context_ratio=16), 8.69),
    "H_min = 16": (ModelConfig(context_min=16), 10.53),
    "H_min = 64": (ModelConfig(context_min=64), 10.70),
    "H_max = 64": (ModelConfig(context_max=64), 9.09),
    "H_max = 256": (ModelConfig(context_max=256), 12.21),
    "Dy-Conv at position 2": (ModelConfig(dy_conv=("depthwise",)), 6.97),
    "Dy-ReLU at positions 1 and 2": (ModelConfig(dy_relu=("expand", "depthwise")), 12.70),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_table_ii(name: str) -> None:
    config, millions, mega_macs = SIZES[name]
    counted = complexity(config)
    assert round(counted.parameters / 1e6, 2) == millions
    assert float(f"{counted.macs / 1e6:.3g}") == mega_macs


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_dymn_m_have_the_published_parameters(name: str) -> None:
    config, millions = VARIANTS[name]
    assert round(complexity(config).parameters / 1e6, 2) == millions


def test_exact_counts_of_the_shipped_size() -> None:
    counted = complexity(ModelConfig(width=0.4))
    assert counted.parameters == 1_961_239
    assert round(counted.macs / 1e6, 1) == 117.4


def test_a_shorter_clip_costs_less_in_maps_but_not_in_kernels() -> None:
    whole, tenth = complexity(ModelConfig()), complexity(ModelConfig(), n_frames=100)
    assert tenth.parameters == whole.parameters
    assert whole.macs / 10 < tenth.macs < whole.macs / 7


def test_a_frame_head_counts_at_every_step() -> None:
    plain, framed = ModelConfig(width=0.4), ModelConfig(width=0.4, frame_head=True)
    layers = 384 * 512 + 512 * 527
    assert complexity(framed).parameters - complexity(plain).parameters == layers + 512 + 527
    assert complexity(framed).macs - complexity(plain).macs == 32 * layers  # 1,000 frames
    assert complexity(framed, n_frames=33).macs - complexity(plain, n_frames=33).macs == 2 * layers


def test_rows_say_where_the_cost_is() -> None:
    rows = {row.name: row for row in complexity(ModelConfig(width=0.4)).rows}
    assert rows["in_c.0"].macs == 9 * 8 * 64 * 500
    assert rows["layers.0.depth_conv"].parameters == 4 * 8 * 9 + 16 * 4 + 4
    assert rows["layers.0.depth_act"].parameters == (16 + 1) * 2 * 2 * 8
    assert rows["classifier.5"].parameters == 512 * 527 + 527
    assert rows["out_c.1"].macs == 0


@pytest.mark.parametrize(("n_mels", "n_frames"), [(0, 1000), (128, 0)])
def test_an_empty_log_mel_is_refused(n_mels: int, n_frames: int) -> None:
    with pytest.raises(UsageError, match="at least one"):
        complexity(ModelConfig(), n_mels=n_mels, n_frames=n_frames)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_counts_are_those_of_the_torch_modules(
    configs: st.SearchStrategy[ModelConfig], data: st.DataObject
) -> None:
    torch = pytest.importorskip("torch")
    from dymn_cli.model.build import build

    config = data.draw(configs)
    with torch.device("meta"):
        model = build(config)
    assert complexity(config).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(data=st.data(), n_mels=st.sampled_from([40, 64, 128]), n_frames=st.integers(1, 1100))
def test_multiply_accumulates_are_those_that_torch_counts(
    configs: st.SearchStrategy[ModelConfig], data: st.DataObject, n_mels: int, n_frames: int
) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from dymn_cli.model.build import build

    config = data.draw(configs)
    with torch.device("meta"):
        model = build(config).eval()
        mel = torch.empty(1, 1, n_mels, n_frames)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = model.forward_features(mel)
        model.forward_head(features)
        if config.frame_head:
            model.forward_frames(features)
    assert complexity(config, n_mels=n_mels, n_frames=n_frames).macs == counter.get_total_flops() // 2
