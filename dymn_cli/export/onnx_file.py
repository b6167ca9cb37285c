"""A model as one ONNX file for any runtime, and the proof that it computes what PyTorch computes.

    mel (batch, 1, n_mels, n_frames) float32 ──▶ logits (batch, n_classes), embedding (batch, D)

or, with the front end in the file, for whoever has nothing but samples, a browser for instance:

    waveform (batch, n_samples) float32, 32 kHz mono ──▶ scores (batch, n_classes), logits, embedding

With frames, there is a last output frame_logits (batch, n_steps, n_classes), which costs about a tenth more
time whether it is asked for or not: onnxruntime computes all outputs of a graph.

Batch, frames and samples are dynamic. The weights lie in the file with every BatchNorm folded into the
convolution before it, in float32 or as `dymn_cli.export.precision` stores them. The metadata hold what
`dymn_cli.store.header.ModelHeader` writes, and for other tools

    dymn.sha256       of the weights that the file was made from
    dymn.rate_hz      samples per second of the front end (all of it: `dymn.front_end`)
    dymn.window_s     seconds of audio that the model was trained on
    dymn.label_names  JSON list with the name of each logit
    dymn.precision    float32, float16 or int8: how the weights are stored

The PyTorch exporters have no part in this. A DyMN mixes the kernels of each clip; its modules do that with
the batch folded into the groups of one convolution, and tracing that freezes the batch at the size of
the example. So the graph is built by hand (`dymn_cli.export.graph`), and nobody has to take its
word: the bytes are run in onnxruntime against the PyTorch model before the file gets its name, and the
export fails where they differ (`dymn_cli.export.parity` says by how much).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import dymn_cli
from dymn_cli.demo import demo_clips
from dymn_cli.errors import BackendUnavailableError, ModelError, UsageError
from dymn_cli.runtime.fold import fold
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import Weights, read_weights
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
        Heard,
        ParityCase,
        Reference,
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
MAX_BYTES = 2**31 - 2**20  # a protocol buffer ends at 2 GiB; the graph itself needs less than a MiB


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What kind of file.

    Args:
        form: "any" batch; or "one" clip a call, which a CPU computes faster.
        precision: how weights are stored.
        with_frontend: whether it takes samples instead of log-mels.
        frames: whether it has the output `frame_logits`.

    Raises:
        UsageError: no such form or precision.
    """

    form: ExportForm = "any"
    precision: Precision = "float32"
    with_frontend: bool = False
    frames: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (
            ("form", self.form, get_args(ExportForm)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in known:
                raise UsageError(f"no {what} {value!r}", hint=f"one of {', '.join(known)}")

    @property
    def is_plain(self) -> bool:
        """Whether it is the network in float32, without a front end."""
        return self.precision == "float32" and not self.with_frontend


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of the file, float32; a dimension that is a name takes any size."""

    name: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how far it is from PyTorch.

    Args:
        name: of the model.
        options: the kind of file.
        sha256: of the file.
        size_bytes: of the file.
        float32_bytes: of the file if its weights were stored in float32.
        opset: version of the ONNX operators.
        inputs: what it takes.
        outputs: what it answers.
        bounds: what no case exceeds; that of log-mels is for the clips that ship.
        cases: the differences: batches of synthetic sounds, then recordings.
        timing: how fast it is beside the plain file, or None for that one.
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
        """The largest difference of what the bounds are about."""
        return max(case.worst(self.bounds.parts) for case in self.cases)

    @property
    def clips(self) -> tuple[ParityCase, ...]:
        """The recordings among the cases."""
        return tuple(case for case in self.cases if case.is_clip)

    @property
    def n_windows(self) -> int:
        """Windows of recordings that were compared."""
        return sum(case.n_windows for case in self.clips)

    @property
    def n_same_top(self) -> int:
        """Those of them on whose highest class both agree."""
        return sum(case.n_same_top for case in self.clips)


def exportable(model: str) -> Weights:
    """Read a model that can be exported: by name, or from a .safetensors or .pt file.

    Raises:
        UsageError: no model of that name.
        ModelError: an ONNX file already, or no usable model.
    """
    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        raise ModelError(
            f"{model}: an ONNX file already",
            hint="export the model that it came from",
        )
    return read_weights(found)


def export_onnx(
    weights: Weights,
    out: str | Path,
    options: ExportOptions | None = None,
    *,
    clips: Sequence[str | Path] = (),
    force: bool = False,
) -> ExportReport:
    """Write a model as one ONNX file, and prove it: the file appears only if PyTorch gives the same answers.

    Args:
        weights: the model.
        out: the file; "-" is standard output.
        options: the kind of file; by default the network in float32 for any batch.
        clips: recordings to compare on, besides those that ship with the package.
        force: replace a file that exists.

    Returns:
        The report: the largest differences on synthetic sounds, in batches of one and of three, and on the
        clips.

    Raises:
        OutputError: the file exists, or cannot be written.
        ModelError: the weights do not fit their config, or the answers differ by more than the bounds.
        InputError: a clip cannot be read.
    """
    options = options or ExportOptions()
    target = open_target(str(out), force=force)
    reference = Reference(weights)
    sounds = tuple(reference.sounds(one_clip=options.form == "one"))
    plain = None
    if not options.is_plain:  # first the graph as such, then what is special of this file
        plain = ExportedFile(
            _bytes(self_contained(weights, ExportOptions(options.form, frames=options.frames)))
        )
        strict = bounds_of("float32", with_frontend=False, frames=options.frames)
        _prove(plain, ([heard] for heard in sounds), strict, weights)
    model = self_contained(weights, options)
    data = _bytes(model)
    file = ExportedFile(data)
    bounds = bounds_of(options.precision, with_frontend=options.with_frontend, frames=options.frames)
    scores_only = dataclasses.replace(bounds, log_mel=None)
    shipped = (reference.windows(clip.path) for clip in demo_clips())
    others = (reference.windows(Path(clip)) for clip in clips)
    cases = (
        *_prove(file, ([heard] for heard in sounds), scores_only, weights),
        *_prove(file, shipped, bounds, weights),
        *_prove(file, others, scores_only, weights),
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


def _prove(
    file: ExportedFile, heard: Iterable[Iterable[Heard]], bounds: Bounds, weights: Weights
) -> tuple[ParityCase, ...]:
    cases = []
    for every in heard:
        cases.append(compare(file, every))
        require(cases[-1], bounds, weights.header.name)
    return tuple(cases)


def self_contained(weights: Weights, options: ExportOptions | None = None) -> onnx.ModelProto:
    """Make the graph of a model with its weights and metadata in it; equal models give equal bytes.

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
            f"`waveform` is mono at {header.front_end.rate_hz} Hz in [-1, 1],"
            f" {header.front_end.min_samples} samples or more; `scores` are the sigmoids of `logits`"
        )
    onnx.helper.set_model_props(model, {**_metadata(weights), "dymn.precision": options.precision})
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
        raise ModelError(f"{header.name}: too large for one ONNX file, which ends at 2 GB")
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
    _check(model)
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
