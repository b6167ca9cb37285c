"""A model as one ONNX file for any runtime, and the proof that it computes what PyTorch computes.

    mel (batch, 1, n_mels, n_frames) float32 ──▶ logits (batch, n_classes), embedding (batch, D)

Batch and frames are dynamic. The weights lie in the file with every BatchNorm folded into the convolution
before it. The metadata hold what `dymn_cli.store.weights.ModelHeader` writes, and for other tools

    dymn.sha256       of the weights that the file was made from
    dymn.rate_hz      samples per second of the front end (all of it: `dymn.front_end`)
    dymn.window_s     seconds of audio that the model was trained on
    dymn.label_names  JSON list with the name of each logit

The PyTorch exporters have no part in this. A DyMN mixes the kernels of each clip; its modules do that with
the batch folded into the groups of one convolution, and tracing that freezes the batch at the size of
the example. So the graph is built by hand (`dymn_cli.export.graph`), and nobody has to take its
word: the bytes are run in onnxruntime against the PyTorch model before the file gets its name, and the
export fails where they differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

import dymn_cli
from dymn_cli.errors import BackendUnavailableError, ModelError, UsageError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.runtime.base import Answer
from dymn_cli.runtime.fold import fold
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import Weights, read_weights
from dymn_cli.tagging.aggregate import sigmoid
from dymn_cli.writers.target import open_target

try:
    import onnx
    import onnxruntime as ort
    import torch
    from onnx import TensorProto, numpy_helper

    from dymn_cli.export.graph import OPSET, build_graph
    from dymn_cli.model.build import restore
except ImportError as exc:
    raise BackendUnavailableError(
        f"the export needs onnx, onnxruntime and PyTorch: {exc}", hint="pip install 'dymn[export]'"
    ) from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.melbank import FrontEndConfig

__all__ = [
    "TOLERANCE",
    "ExportForm",
    "ExportReport",
    "ParityCase",
    "export_onnx",
    "exportable",
    "self_contained",
]

ExportForm = Literal["any", "one"]

TOLERANCE = 1e-4
WINDOW_S = 10.0
MIN_EMBEDDING = 1e-3
MAX_BYTES = 2**31 - 2**20  # a protocol buffer ends at 2 GiB; the graph itself needs less than a MiB
LENGTHS = (1000, 437, 63)  # frames: the usual window, and odd ones that every stride rounds up
CASES = (("noise",), ("chirp",), ("clicks",), ("silence",), ("noise", "chirp", "clicks"))


@dataclass(frozen=True, slots=True)
class ParityCase:
    """The largest differences between the written file and PyTorch on one batch.

    Args:
        signals: what was heard, one name for each clip of the batch.
        n_frames: frames of each clip.
        logit: largest |Δ| of a logit.
        score: largest |Δ| of a score, after the sigmoid.
        embedding: largest |Δ| of an embedding, relative to its largest absolute value (or to 0.001, where
            all of it is smaller: a network that was never trained answers with next to nothing).
    """

    signals: tuple[str, ...]
    n_frames: int
    logit: float
    score: float
    embedding: float

    @property
    def worst(self) -> float:
        """The largest of the three; NaN where one is."""
        return float(np.max([self.logit, self.score, self.embedding]))


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how far it is from PyTorch.

    Args:
        name: of the model.
        form: "any" batch, or "one" clip a call.
        sha256: of the file.
        size_bytes: of the file.
        opset: version of the ONNX operators.
        tolerance: what no difference exceeds.
        cases: the differences, one row for each batch that was tried.
    """

    name: str
    form: ExportForm
    sha256: str
    size_bytes: int
    opset: int
    tolerance: float
    cases: tuple[ParityCase, ...]

    @property
    def worst(self) -> ParityCase:
        """The case with the largest difference."""
        return max(self.cases, key=lambda case: case.worst)


def exportable(model: str) -> Weights:
    """Read a model that can be exported: by name, or from a .safetensors file.

    Raises:
        UsageError: no model of that name.
        ModelError: an ONNX file already, or no usable model.
    """
    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        raise ModelError(
            f"{model}: an ONNX file already",
            hint="export the .safetensors file or the name that it came from",
        )
    return read_weights(found)


def export_onnx(
    weights: Weights, out: str | Path, *, form: ExportForm = "any", force: bool = False
) -> ExportReport:
    """Write a model as one ONNX file, and prove it: the file appears only if PyTorch gives the same answers.

    Args:
        weights: the model.
        out: the file; "-" is standard output.
        form: "any" batch; or "one" clip a call, which a CPU computes faster.
        force: replace a file that exists.

    Returns:
        The report: the largest differences on synthetic sounds, in batches of one and of three.

    Raises:
        OutputError: the file exists, or cannot be written.
        ModelError: the weights do not fit their config, or the answers differ by more than `TOLERANCE`.
        UsageError: no such form.
    """
    target = open_target(str(out), force=force)
    model = self_contained(weights, form)
    _check(model)
    data = model.SerializeToString(deterministic=True)
    cases = tuple(_parity(data, weights, form))
    report = ExportReport(
        weights.header.name, form, hashlib.sha256(data).hexdigest(), len(data), OPSET, TOLERANCE, cases
    )
    _require_parity(report)
    with target:
        target.stream.write(data)
    return report


def self_contained(weights: Weights, form: ExportForm = "any") -> onnx.ModelProto:
    """Make the graph of a model with its weights and metadata in it; equal models give equal bytes.

    Raises:
        ModelError: the weights do not fit their config, or are too large.
        UsageError: no such form.
    """
    if form not in get_args(ExportForm):
        raise UsageError(f"no form {form!r}", hint=f"one of {', '.join(get_args(ExportForm))}")
    header = weights.header
    model = build_graph(header.config, form)
    graph = model.graph
    constants = [tensor for tensor in graph.initializer if tensor.data_location != TensorProto.EXTERNAL]
    values = fold(header.config, weights.tensors)
    if sum(value.nbytes for value in values.values()) > MAX_BYTES:
        raise ModelError(f"{header.name}: too large for one ONNX file, which ends at 2 GB")
    embedded = [numpy_helper.from_array(value, name) for name, value in values.items()]
    del graph.initializer[:]
    graph.initializer.extend([*embedded, *constants])
    inputs = [value for value in graph.input if value.name not in values]
    del graph.input[:]
    graph.input.extend(inputs)
    _fix(graph.input[0], n_mels=header.front_end.n_mels)
    _fix(graph.output[0], n_classes=header.config.n_classes)
    onnx.helper.set_model_props(model, _metadata(weights))
    model.producer_version = dymn_cli.__version__
    model.doc_string = (
        f"{header.name}: `mel` is the log-mel that metadata dymn.front_end describes; `logits` are in the"
        " order of dymn.label_names, a score is the sigmoid of one; `embedding` is what the classifier reads."
    )
    return model


def _metadata(weights: Weights) -> dict[str, str]:
    header = weights.header
    return {
        **header.to_metadata(),
        "dymn.sha256": weights.sha256,
        "dymn.rate_hz": str(header.front_end.rate_hz),
        "dymn.window_s": f"{WINDOW_S:g}",
        "dymn.label_names": json.dumps(header.vocabulary.names, ensure_ascii=False),
    }


def _fix(value: onnx.ValueInfoProto, **sizes: int) -> None:
    """Give symbolic dimensions the size that they have in this model."""
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.dim_param in sizes:
            dimension.dim_value = sizes[dimension.dim_param]


def _check(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ModelError(f"the graph is no valid ONNX: {reason}") from exc


# ---------------------------------------------------------------------- parity


def _parity(data: bytes, weights: Weights, form: ExportForm) -> Iterator[ParityCase]:
    session = _session(data)
    tensors = {key: torch.from_numpy(value) for key, value in weights.tensors.items()}
    module = restore(tensors, weights.header.config)
    log_mel = LogMel(weights.header.front_end)
    for n_frames in LENGTHS:
        sounds = _sounds(weights.header.front_end, n_frames)
        for signals in CASES:
            if form == "one" and len(signals) > 1:
                continue
            mels = log_mel(np.stack([sounds[name] for name in signals]))
            with torch.inference_mode():
                expected = Answer(*(part.numpy() for part in module(torch.from_numpy(mels))))
            got = Answer(*session.run(list(Answer._fields), {"mel": mels}))
            yield _compare(signals, n_frames, got, expected)


def _session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: they come back as exceptions as well
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's own exceptions have no common base but Exception
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ModelError(f"onnxruntime cannot load the exported model: {reason}") from exc


def _compare(signals: tuple[str, ...], n_frames: int, got: Answer, expected: Answer) -> ParityCase:
    if [part.shape for part in got] != [part.shape for part in expected]:
        raise ModelError("the exported model gives answers of another shape than PyTorch")
    scale = max(_largest(expected.embedding), MIN_EMBEDDING)
    return ParityCase(
        signals=signals,
        n_frames=n_frames,
        logit=_largest(got.logits - expected.logits),
        score=_largest(sigmoid(got.logits) - sigmoid(expected.logits)),
        embedding=_largest(got.embedding - expected.embedding) / scale,
    )


def _largest(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max())


def _require_parity(report: ExportReport) -> None:
    for case in report.cases:
        if not case.worst <= report.tolerance:  # so put, NaN fails
            raise ModelError(
                f"{report.name}: as ONNX it differs from PyTorch by {case.worst:.1e} on"
                f" {', '.join(case.signals)} of {case.n_frames} frames, more than {report.tolerance:g};"
                " nothing was written",
                hint="the model still runs with --backend torch; please report this",
            )


def _sounds(front_end: FrontEndConfig, n_frames: int) -> dict[str, NDArray[np.float32]]:
    """Sounds that leave no part of the network idle, each of `n_frames` frames; always the same."""
    n_samples = max(n_frames * front_end.n_hop, front_end.min_samples)
    time_s = np.arange(n_samples) / front_end.rate_hz
    duration_s = n_samples / front_end.rate_hz
    clicks = np.zeros(n_samples)
    clicks[:: front_end.rate_hz // 8] = 0.9
    sounds = {
        "noise": np.random.default_rng(0).normal(0.0, 0.1, n_samples),
        "chirp": 0.5 * np.sin(np.pi * front_end.fmax_hz / duration_s * time_s**2),
        "clicks": clicks,
        "silence": np.zeros(n_samples),
    }
    return {name: samples.astype(np.float32) for name, samples in sounds.items()}
