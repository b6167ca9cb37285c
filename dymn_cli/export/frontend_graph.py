"""The log-mel front end as ONNX nodes, so that a file takes samples.

    waveform            (batch, n_samples), 32 kHz
    every other sample, if frames are of 16 kHz
    pre-emphasis, mirrored at both ends
    frames, Hann        (batch, 4, n_frames, n_fft / 4)
    DFT, power          (batch, 2, n_frames, n_bins / 2)
    mel bank            (batch, n_frames, n_mels)
    ln, shift, scale    (batch, 1, n_mels, n_frames), which is `mel`

It computes what `dymn_cli.frontend.logmel` computes, with operators that every runtime has. The operator
STFT is not one of them, and in onnxruntime it is slower and less exact than this: matrix products with tables
of cosines, after folding the frame twice. With θ = 2πkm/N and y[m] the windowed samples at m = ±½, ±1½, ...
from the middle of a frame of N,

    X[k] = Σ (y[m] + y[−m]) cos θ − i Σ (y[m] − y[−m]) sin θ         over m from ½ to (N − 1)/2
    cos 2πk(N/2 − m)/N = (−1)^k cos θ,   sin 2πk(N/2 − m)/N = −(−1)^k sin θ

so even and odd bins each need a quarter of the products. The four quarters of a frame are gathered as four
channels, two of them reversed, and a 1×1 convolution forms their four sums and differences. Short sums also
round less: log-mels of recordings agree with the NumPy front end within 5e-5.

The tables are looked up in one period of a cosine, at constant indices: a runtime evaluates them when it
loads the file, which makes the file a megabyte smaller.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from dymn_cli.errors import ModelError
from dymn_cli.export.nodes import Nodes
from dymn_cli.frontend.halving import REACH, pair_taps
from dymn_cli.frontend.melbank import hann_window, mel_bank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.melbank import FrontEndConfig

__all__ = ["OUTPUTS", "build_front_end", "with_front_end"]

OUTPUTS = ("scores", "logits", "embedding")
MAX_N_FFT = 8192  # the tables grow with its square; the published models have 1,024
LAST = 2**31 - 1  # the end of a slice that goes to the end
# Rows: the sums for cosines and sines, of even bins, then of odd bins. Columns: the quarters right and left
# of the middle, and the outer quarters that are folded onto them: left, then right.
FOLD = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))


def with_front_end(model: onnx.ModelProto, config: FrontEndConfig) -> onnx.ModelProto:
    """Add the front end before a network, and the sigmoid behind it.

    Args:
        model: of `dymn_cli.export.onnx_file.self_contained`: input `mel`, outputs `logits`, `embedding`, and
            perhaps `frame_logits`.
        config: the front end that the network was trained with.

    Returns:
        The same model with the input `waveform` (batch, n_samples) float32, and the output `scores`
        (batch, n_classes) before the others; the batch is 1 if the network's is.

    Raises:
        ModelError: no graph for such a front end, see `build_front_end`.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    front = build_front_end(config)
    names = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for name, tensor in front.constants.items() if name not in names)
    network = [*graph.node, helper.make_node("Sigmoid", ["logits"], ["scores"], name="scores")]
    del graph.node[:]
    graph.node.extend([*front.nodes, *network])
    shape = [batch.dim_param or batch.dim_value, "n_samples"]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("waveform", TensorProto.FLOAT, shape))
    outputs = {value.name: value for value in graph.output}
    scores = onnx.ValueInfoProto()
    scores.CopyFrom(outputs["logits"])
    scores.name = "scores"
    del graph.output[:]
    graph.output.extend([scores, *outputs.values()])
    joined = onnx.ModelProto()
    joined.CopyFrom(model)
    joined.graph.CopyFrom(graph)
    return joined


def build_front_end(config: FrontEndConfig) -> Nodes:
    """Build the nodes from `waveform` (batch, n_samples) to `mel` (batch, 1, n_mels, n_frames), both float32.

    Raises:
        ModelError: n_fft is not a multiple of 4, or too large for tables.
    """
    if config.n_fft % 4 or config.n_fft > MAX_N_FFT:
        raise ModelError(
            f"cannot export a front end with n_fft {config.n_fft}: only multiples of 4 up to {MAX_N_FFT}",
            hint="export without --with-frontend, and compute the log-mel outside the file",
        )
    front = _FrontEnd(config)
    front.log(front.mel_power(front.folded(front.frames(front.mirrored()))))
    return front


class _FrontEnd(Nodes):
    """The steps of the module docstring, one method each."""

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.quarter = config.n_fft // 4
        self.signal = self.halved() if config.halves else "waveform"
        # Bins by parity: (even, odd), the same number of each; the mel bank does not use the others.
        used = np.flatnonzero(mel_bank(config).any(axis=0))
        first, end = (int(used[0]) // 2 * 2, int(used[-1]) + 1) if used.size else (0, 2)
        self.bins = np.arange(first, end + (end - first) % 2).reshape(-1, 2).T

    def add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        return self.node(op, inputs, f"front_end.{output}", **attributes)

    def number(self, name: str, value: float) -> str:
        return self.constant(f"front_end.{name}.value", np.array(value, np.float32))

    def array(self, name: str, values: NDArray[np.float64]) -> str:
        return self.constant(f"front_end.{name}.values", values.astype(np.float32))

    def whole(self, name: str, values: NDArray[np.int64]) -> str:
        return self.constant(f"front_end.{name}.values", values.astype(np.int64))

    def halved(self) -> str:
        """(batch, (n_samples + 1) // 2): see `dymn_cli.frontend.halving`."""
        kernel = np.zeros(2 * REACH + 1)
        kernel[REACH] = 0.5
        kernel[REACH + 1 :: 2] = pair_taps()
        kernel[REACH - 1 :: -2] = pair_taps()
        x = self.add("Unsqueeze", ["waveform", self.ints(1)], "one_channel")
        taps = self.array("half_band", kernel.reshape(1, 1, -1))
        geometry = {"kernel_shape": [len(kernel)], "strides": [2], "pads": [REACH, REACH]}
        return self.add(
            "Squeeze", [self.add("Conv", [x, taps], "filtered", **geometry), self.ints(1)], "halved"
        )

    def mirrored(self) -> str:
        """(batch, n_samples − 1 + n_fft): y[n] = x[n+1] − a·x[n], mirrored at both ends."""
        here = self.add("Slice", [self.signal, self.ints(0), self.ints(-1), self.ints(1)], "here")
        after = self.add("Slice", [self.signal, self.ints(1), self.ints(LAST), self.ints(1)], "after")
        weighted = self.add("Mul", [here, self.number("preemphasis", self.config.preemphasis)], "weighted")
        emphasised = self.add("Sub", [after, weighted], "emphasised")
        half = self.config.n_fft // 2
        return self.add("Pad", [emphasised, self.ints(0, half, 0, half)], "mirrored", mode="reflect")

    def frames(self, mirrored: str) -> str:
        """(batch, 4, n_frames, n_fft / 4): windowed quarters of frames, from the middle outwards.

        They are gathered from the signal, followed by the reversed signal. Both are cut into blocks that make
        up all quarters of all frames, which is much faster than gathering single samples.
        """
        n_fft, hop = self.config.n_fft, self.config.n_hop
        block = math.gcd(hop, self.quarter)
        starts, ends = self.starts()  # of frames; where the last one ends
        forwards = self.add("Slice", [mirrored, self.ints(0), ends, self.ints(1)], "forwards")
        last = self.add("Sub", [ends, self.ints(1)], "last")
        backwards = [mirrored, last, self.ints(-LAST), self.ints(1), self.ints(-1)]
        both = self.add("Concat", [forwards, self.add("Slice", backwards, "backwards")], "both", axis=1)
        blocks = self.add("Reshape", [both, self.ints(0, -1, block)], "blocks")

        steps = np.arange(self.quarter // block)
        offsets = np.stack([steps + where // block for where in (n_fft // 2, -n_fft // 2, 0, -n_fft)])
        direction = self.whole("direction", np.array([1, -1, 1, -1]).reshape(4, 1, 1))
        turns = self.whole("turns", np.array([0, 2, 0, 2]).reshape(4, 1, 1))
        index = self.add("Div", [starts, self.ints(block)], "first_block")
        index = self.add(
            "Mul", [self.add("Unsqueeze", [index, self.ints(1)], "column"), direction], "onwards"
        )
        index = self.add("Add", [index, self.whole("offsets", offsets[:, np.newaxis])], "from_there")
        n_blocks = self.add("Div", [ends, self.ints(block)], "n_blocks")
        index = self.add("Add", [index, self.add("Mul", [n_blocks, turns], "from_behind")], "index")
        frames = self.add("Gather", [blocks, index], "frames_in_blocks", axis=1)
        frames = self.add("Reshape", [frames, self.ints(0, 4, -1, self.quarter)], "frames")

        before = (n_fft - self.config.n_window) // 2
        window = np.zeros(n_fft)
        window[before : before + self.config.n_window] = hann_window(self.config)
        near, far = window[n_fft // 2 :], window[: n_fft // 2]
        quarters = [near[: self.quarter], far[: self.quarter - 1 : -1], far[: self.quarter]]
        quarters.append(near[: self.quarter - 1 : -1])
        return self.add("Mul", [frames, self.array("window", np.stack(quarters)[:, np.newaxis])], "windowed")

    def starts(self) -> tuple[str, str]:
        """The starts of the 1 + (n_samples − 1) // hop frames, and the end of the last one."""
        n_samples = self.add(
            "Squeeze", [self.add("Shape", [self.signal], "shape", start=1, end=2)], "n_samples"
        )
        zero = self.constant("front_end.zero.value", np.array(0, np.int64))
        hop = self.constant("front_end.hop.value", np.array(self.config.n_hop, np.int64))
        starts = self.add("Range", [zero, n_samples, hop], "starts")
        latest = self.add("Gather", [starts, self.ints(-1)], "latest")
        return starts, self.add("Add", [latest, self.ints(self.config.n_fft)], "end")

    def folded(self, frames: str) -> str:
        """The four sums and differences of quarters, in the order of `FOLD`."""
        signs = np.array(FOLD, np.float64)[:, :, np.newaxis, np.newaxis]
        return self.add("Conv", [frames, self.array("fold", signs)], "folded", kernel_shape=[1, 1])

    def mel_power(self, folded: str) -> str:
        """(batch, n_frames, n_mels)."""
        n_bins = self.bins.shape[1]
        parts = self.add("MatMul", [folded, self.tables()], "parts")  # real and imaginary, by parity
        squares = self.add("Mul", [parts, parts], "squares")
        squares = self.add("Reshape", [squares, self.ints(0, 2, 2, -1, n_bins)], "pairs")
        power = self.add("ReduceSum", [squares, self.ints(2)], "power", keepdims=0)
        bank = np.zeros((*self.bins.shape, self.config.n_mels))
        there = self.bins < self.config.n_bins
        bank[there] = mel_bank(self.config).T[self.bins[there]]
        mel = self.add("MatMul", [power, self.array("mel_bank", bank)], "mel_by_parity")
        return self.add("ReduceSum", [mel, self.ints(1)], "mel_power", keepdims=0)

    def tables(self) -> str:
        """(4, n_fft / 4, n_bins / 2): cosines and sines of 2πkm/N, looked up in a period of 2N steps."""
        period = 2 * self.config.n_fft
        angles = 2 * np.pi * np.arange(period) / period
        steps = self.whole("half_steps", 2 * np.arange(self.quarter)[:, np.newaxis] + 1)  # 2m
        bins = self.whole("bins", self.bins.repeat(2, axis=0)[:, np.newaxis])
        # A sine is a cosine a quarter of a period earlier.
        shifts = self.whole("shifts", np.array([0, -period // 4] * 2).reshape(4, 1, 1))
        index = self.add("Add", [self.add("Mul", [steps, bins], "unshifted"), shifts], "shifted")
        whole_turn = self.constant("front_end.period.value", np.array(period, np.int64))
        index = self.add("Mod", [index, whole_turn], "phase")
        return self.add("Gather", [self.array("cosine", np.cos(angles)), index], "tables")

    def log(self, mel_power: str) -> str:
        """The log-mel for the network."""
        config = self.config
        x = mel_power
        if config.log_offset:
            x = self.add("Add", [x, self.number("offset", config.log_offset)], "above_zero")
        if config.log_floor:
            x = self.add("Max", [x, self.number("floor", config.log_floor)], "from_the_floor")
        x = self.add("Log", [x], "log")
        x = self.add("Add", [x, self.number("shift", config.shift)], "log_shifted")
        x = self.add("Mul", [x, self.number("scale", 1.0 / config.scale)], "log_scaled")
        x = self.add("Transpose", [x], "by_band", perm=[0, 2, 1])
        return self.node("Unsqueeze", [x, self.ints(1)], "mel")
