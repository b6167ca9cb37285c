"""Export a model as one ONNX file for any runtime, checked against PyTorch.

    mel (batch, 1, n_mels, n_frames) float32 ──▶ logits (batch, n_classes), embedding (batch, D)

or, with the front end in the file, for example for a browser:

    waveform (batch, n_samples) float32, 32 kHz mono ──▶ scores (batch, n_classes), logits, embedding

With frames, the last output is frame_logits (batch, n_steps, n_classes), which costs about a tenth more time
whether it is requested or not: onnxruntime computes all outputs of a graph.

Batch, frames and samples are dynamic. The file holds the weights, with every BatchNorm folded into the
convolution before it, in float32 or as `dymn_cli.export.precision` stores them. The metadata hold the entries
of `dymn_cli.store.header.ModelHeader`, and for other tools

    dymn.sha256       of the weights that the file was made from
    dymn.rate_hz      samples per second of `waveform`, or of what `mel` is made from (`dymn.front_end`)
    dymn.window_s     seconds of audio that the model was trained on
    dymn.label_names  JSON list with the name of each logit
    dymn.precision    float32, float16 or int8: how the weights are stored

The PyTorch exporters are not used. A DyMN mixes the kernels of each clip; its modules fold the batch into the
groups of one convolution, and tracing that fixes the batch at the size of the example. So
`dymn_cli.export.graph` builds the graph node by node. Before the file gets its name, its outputs are compared
with PyTorch's, and the export fails if they differ by more than `dymn_cli.export.parity` allows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import dymn_cli
from dymn_cli.demo import demo_clips
from dymn_cli.errors import BackendUnavailableError, ModelError, first_line
from dymn_cli.frontend.melbank import RATE_HZ
from dymn_cli.runtime.fold import fold
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import Weights, read_weights
from dymn_cli.values import require_choice
from dymn_cli.writers.target import open_target

try:
    import onnx
    from onnx import TensorProto, numpy_helper

    from dymn_cli.export.frontend_graph import with_front_end
    from dymn_cli.export.graph import OPSET, build_graph
    from dymn_cli.export.parity import (
        Bounds,
        ExportedFile,
        ExportTiming,
        ParityCase,
        Reference,
        ReferenceBatch,
        bounds_of,
        compare,
        measure,
        require,
    )
    from dymn_cli.export.precision import Precision, store_weights
except ImportError as exc:
    raise BackendUnavailableError(
        f"the export needs onnx, onnxruntime and PyTorch: {exc}", hint="pip install 'dymn[export]'"
    ) from exc

__all__ = [
    "ExportForm",
    "ExportOptions",
    "ExportReport",
    "TensorInfo",
    "export_onnx",
    "exportable",
    "self_contained",
]

ExportForm = Literal["any", "one"]

WINDOW_S = 10.0
MAX_BYTES = 2**31 - 2**20  # the limit of a protocol buffer is 2 GiB; the graph needs less than a MiB


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The kind of file to write.

    Args:
        form: "any" batch; or "one" clip a call, which is faster on a CPU.
        precision: how weights are stored.
        with_frontend: take samples instead of log-mels.
        frames: add the output `frame_logits`.

    Raises:
        UsageError: no such form or precision.
    """

    form: ExportForm = "any"
    precision: Precision = "float32"
    with_frontend: bool = False
    frames: bool = False

    def __post_init__(self) -> None:
        require_choice("form", self.form, ExportForm)
        require_choice("precision", self.precision, Precision)

    @property
    def is_plain(self) -> bool:
        """Whether it is the network in float32, without a front end."""
        return self.precision == "float32" and not self.with_frontend


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A float32 input or output of the file; a dimension that is a name takes any size."""

    name: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The exported file, and its differences from PyTorch.

    Args:
        name: of the model.
        options: the kind of file.
        sha256: of the file.
        size_bytes: of the file.
        float32_bytes: of the file if its weights were stored in float32.
        opset: version of the ONNX operators.
        inputs: of the file.
        outputs: of the file.
        bounds: the largest differences allowed; for log-mels, on the bundled clips.
        cases: the differences on batches of synthetic sounds, then on recordings.
        timing: its speed compared with the plain file; None for the plain file itself.
    """

    name: str
    options: ExportOptions
    sha256: str
    size_bytes: int
    float32_bytes: int
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    bounds: Bounds
    cases: tuple[ParityCase, ...]
    timing: ExportTiming | None = field(compare=False)

    @property
    def worst(self) -> float:
        """The largest of the bounded differences."""
        return max(case.worst(self.bounds.parts) for case in self.cases)

    @property
    def clips(self) -> tuple[ParityCase, ...]:
        """The recordings among the cases."""
        return tuple(case for case in self.cases if case.is_clip)

    @property
    def n_windows(self) -> int:
        """Number of windows of recordings that were compared."""
        return sum(case.n_windows for case in self.clips)

    @property
    def n_same_top(self) -> int:
        """How many of them have the same top class."""
        return sum(case.n_same_top for case in self.clips)


def exportable(model: str) -> Weights:
    """Read a model for export: by name, or from a .safetensors or .pt file.

    Raises:
        UsageError: no model of that name.
        ModelError: it is an ONNX file already, or cannot be used.
    """
    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        raise ModelError(f"{model}: already an ONNX file", hint="export the model that it came from")
    return read_weights(found)


def export_onnx(
    weights: Weights,
    out: str | Path,
    options: ExportOptions | None = None,
    *,
    clips: Sequence[str | Path] = (),
    force: bool = False,
) -> ExportReport:
    """Write a model as one ONNX file; it is written only if PyTorch gives the same results.

    Args:
        weights: the model.
        out: the file; "-" is standard output.
        options: the kind of file; by default the network in float32 for any batch.
        clips: recordings to compare on, besides the bundled clips.
        force: replace an existing file.

    Returns:
        The report: the largest differences on synthetic sounds, in batches of one and of three, and on the
        clips.

    Raises:
        OutputError: the file exists, or cannot be written.
        ModelError: the weights do not fit their config, or the results differ by more than the bounds.
        InputError: a clip cannot be read.
    """
    options = options or ExportOptions()
    target = open_target(str(out), force=force)
    reference = Reference(weights)
    sounds = tuple(reference.sounds(one_clip=options.form == "one"))
    plain = None
    if not options.is_plain:  # first compare the graph itself, then this kind of file
        plain = ExportedFile(
            _bytes(self_contained(weights, ExportOptions(options.form, frames=options.frames)))
        )
        strict = bounds_of("float32", with_frontend=False, frames=options.frames)
        list(_check_parity(plain, ([batch] for batch in sounds), strict, weights))
    model = self_contained(weights, options)
    data = _bytes(model)
    file = ExportedFile(data)
    bounds = bounds_of(
        options.precision,
        with_frontend=options.with_frontend,
        frames=options.frames,
        floored=bool(weights.header.front_end.log_floor),
    )
    scores_only = dataclasses.replace(bounds, log_mel=None)
    shipped = (reference.windows(clip.path) for clip in demo_clips())
    others = (reference.windows(Path(clip)) for clip in clips)
    cases = (
        *_check_parity(file, ([batch] for batch in sounds), scores_only, weights),
        *_check_parity(file, shipped, bounds, weights),
        *_check_parity(file, others, scores_only, weights),
    )
    report = ExportReport(
        name=weights.header.name,
        options=options,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        float32_bytes=_float32_bytes(weights, options, len(data)),
        opset=OPSET,
        inputs=tuple(_info(value) for value in model.graph.input),
        outputs=tuple(_info(value) for value in model.graph.output),
        bounds=bounds,
        cases=cases,
        timing=measure(plain, file, reference.log_mel) if plain else None,
    )
    with target:
        target.stream.write(data)
    return report


def _check_parity(
    file: ExportedFile, sounds: Iterable[Iterable[ReferenceBatch]], bounds: Bounds, weights: Weights
) -> Iterator[ParityCase]:
    for batches in sounds:
        case = compare(file, batches)
        require(case, bounds, weights.header.name)
        yield case


def self_contained(weights: Weights, options: ExportOptions | None = None) -> onnx.ModelProto:
    """Build the graph of a model, with its weights and metadata; equal models give equal bytes.

    Raises:
        ModelError: the weights do not fit their config, or are too large; the front end has no graph.
    """
    options = options or ExportOptions()
    header = weights.header
    model = store_weights(_network(weights, options), header.config, options.precision)
    given = "`mel` is the log-mel that metadata dymn.front_end describes"
    if options.with_frontend:
        model = with_front_end(model, header.front_end)
        given = (
            f"`waveform` is mono at {RATE_HZ} Hz in [-1, 1],"
            f" {header.front_end.min_samples} samples or more; `scores` are the sigmoids of `logits`"
        )
    metadata = {**_metadata(weights), "dymn.precision": options.precision}
    if options.with_frontend:
        metadata["dymn.rate_hz"] = str(RATE_HZ)  # whatever the rate of its frames
    onnx.helper.set_model_props(model, metadata)
    model.producer_version = dymn_cli.__version__
    model.doc_string = (
        f"{header.name}: {given}; `logits` are in the order of dymn.label_names, a score is the sigmoid of"
        " one; `embedding` is what the classifier reads."
    )
    if options.frames:
        model.doc_string += f" `frame_logits` has a step for each {header.step_s:g} s."
    return model


def _network(weights: Weights, options: ExportOptions) -> onnx.ModelProto:
    header = weights.header
    model = build_graph(header.config, options.form, frames=options.frames)
    graph = model.graph
    constants = [tensor for tensor in graph.initializer if tensor.data_location != TensorProto.EXTERNAL]
    values = fold(header.config, weights.tensors)
    if not options.frames:
        values = {name: value for name, value in values.items() if not name.startswith("frame_head.")}
    if sum(value.nbytes for value in values.values()) > MAX_BYTES:
        raise ModelError(f"{header.name}: too large for one ONNX file (2 GB)")
    embedded = [numpy_helper.from_array(value, name) for name, value in values.items()]
    del graph.initializer[:]
    graph.initializer.extend([*embedded, *constants])
    inputs = [value for value in graph.input if value.name not in values]
    del graph.input[:]
    graph.input.extend(inputs)
    _fix(graph.input[0], n_mels=header.front_end.n_mels)
    for output in graph.output:
        _fix(output, n_classes=header.config.n_classes)
    return model


def _bytes(model: onnx.ModelProto) -> bytes:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as exc:
        raise ModelError(f"the graph is not valid ONNX: {first_line(exc)}") from exc
    return bytes(model.SerializeToString(deterministic=True))


def _float32_bytes(weights: Weights, options: ExportOptions, size_bytes: int) -> int:
    if options.precision == "float32":
        return size_bytes
    whole = ExportOptions(options.form, with_frontend=options.with_frontend, frames=options.frames)
    return int(self_contained(weights, whole).ByteSize())


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    dims = value.type.tensor_type.shape.dim
    return TensorInfo(value.name, tuple(dim.dim_param or dim.dim_value for dim in dims))


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
    """Replace symbolic dimensions by their sizes in this model."""
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.dim_param in sizes:
            dimension.dim_value = sizes[dimension.dim_param]
