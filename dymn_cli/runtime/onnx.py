"""Inference with onnxruntime: weightless graphs from the package, weights from memory.

The package ships a graph without weights for each published architecture, in the forms of
`dymn_cli.export.forms`. A session combines a graph, the folded weights of a model and the size of its input.
The graphs lack their input `mel`: appending to a protocol buffer extends it, so the input is appended in the
size that the session is for. With a fixed size a session starts in a third of the time, because onnxruntime
need not invent a symbol for every unknown dimension.

onnxruntime computes every output of a graph, requested or not. So the graphs have no frame logits; if they
are wanted, their nodes (`frames.onnx`) are appended as well, in a separate session. Only those of an FMN have
them in any case: its logits come from them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import BackendUnavailableError, ModelError, WeightsMissingError
from dymn_cli.model.config import architecture_of
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer
from dymn_cli.runtime.blocked import lay_out
from dymn_cli.runtime.devices import PROVIDERS, Device, how_to_get, parse_device, why_not_onnx
from dymn_cli.runtime.fold import fold
from dymn_cli.runtime.onnx_safety import MAX_BYTES, require_plain, run_apart
from dymn_cli.runtime.ort import ort, ort_error_text, session_options
from dymn_cli.small_files import read_small
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.registry import weights_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig
    from dymn_cli.store.weights import Weights

__all__ = [
    "OnnxBackend",
    "OnnxFileBackend",
    "block_size",
    "graph_path",
    "mel_input",
    "providers",
]

OUTPUTS = ["logits", "embedding"]
FRAME_LOGITS = "frame_logits"


def graph_path(config: ModelConfig, form: str) -> Path:
    """The path of an architecture's graph.

    Raises:
        BackendUnavailableError: the package ships none for this config.
    """
    name = architecture_of(config)
    path = weights_folder() / "graphs" / f"{name}.{form}.onnx"
    if name is None or not path.is_file():
        raise BackendUnavailableError(
            "dymn ships no onnxruntime graph for this architecture",
            hint="use the backend torch, or export the model: dymn export MODEL -o model.onnx",
        )
    return path


class OnnxBackend:
    """A model on onnxruntime.

    Args:
        weights: the model.
        device: as `dymn_cli.runtime.devices` spells them.
        threads: for one window; the caller may run several windows in threads of its own.
        n_frames: frames of the usual window, which gets a session of fixed size; other lengths share one of
            dynamic size, made when it is needed.
        frames: open the session for frame logits now, not when they are first requested.

    Attributes:
        form: the form of the graph, as `dymn_cli.export.graph` names them.

    Raises:
        BackendUnavailableError: no graph for the architecture, or no such device.
        ModelError: the weights do not fit their architecture.
    """

    has_frames = True  # a model without a frame head uses its classifier

    def __init__(
        self,
        weights: Weights,
        *,
        device: str = "cpu",
        threads: int = 1,
        n_frames: int | None = None,
        frames: bool = False,
    ) -> None:
        self.header = weights.header
        self._device = _offered(device)
        self._threads = threads
        config = weights.header.config
        self.form = self._choose_form()
        folded = fold(config, weights.tensors)
        if self.form.startswith("one-blocked"):
            folded = lay_out(config, folded, block_size())
        heads = {name: value for name, value in folded.items() if name.startswith(("head.", "frame_head."))}
        self._head = {name: value for name, value in heads.items() if name.startswith("head.")}
        stand_in = {f"frame_{name}": value for name, value in self._head.items()}
        self._heads = heads if config.is_framewise else {**stand_in, **heads}  # for frames
        self._weights = {
            name: ort.OrtValue.ortvalue_from_numpy(value)
            for name, value in folded.items()
            if name not in heads
        }
        self._sessions: dict[tuple[int | None, bool], ort.InferenceSession] = {}
        self._lock = threading.Lock()
        self._turn = _turn(self._device)
        self._fixed = n_frames
        provider = self._session(n_frames, frames=frames).get_providers()[0]
        self.info = ModelInfo(weights.header.name, weights.sha256, "onnx", provider)
        self.on_cpu = provider == PROVIDERS["cpu"]

    def run(self, mels: NDArray[np.float32], *, frames: bool = False) -> Answer:
        """Run the network on log-mels (n, 1, n_mels, n_frames)."""
        n_frames = mels.shape[-1]
        session = self._session(n_frames if n_frames == self._fixed else None, frames=frames)
        head = self._heads if frames else self._head
        with self._turn:
            return _answer(session, mels, head, frames=frames, one_a_call=self.on_cpu)

    def _choose_form(self) -> str:
        if not self.header.config.is_dynamic or self._device.kind != "cpu":
            return "any"
        size = block_size()
        return f"one-blocked-{size}" if size else "one"

    def _session(self, n_frames: int | None, *, frames: bool) -> ort.InferenceSession:
        frames = frames and not self.header.config.is_framewise  # whose graph has them already
        with self._lock:
            if (n_frames, frames) not in self._sessions:
                self._sessions[n_frames, frames] = self._open(n_frames, frames=frames)
            return self._sessions[n_frames, frames]

    def _open(self, n_frames: int | None, *, frames: bool) -> ort.InferenceSession:
        path = graph_path(self.header.config, self.form)
        graph = path.read_bytes()
        if frames:
            graph += path.with_name("frames.onnx").read_bytes()
        batch = None if self.form == "any" else 1
        graph += mel_input(batch, self.header.front_end.n_mels if n_frames else None, n_frames)
        options = session_options(self._threads)
        options.add_external_initializers(list(self._weights), list(self._weights.values()))
        return _open(graph, options, self._device)


class OnnxFileBackend:
    """A self-contained ONNX file in the format of `dymn export`.

    It is first checked, and tried in a separate process: see `dymn_cli.runtime.onnx_safety`.

    Raises:
        WeightsMissingError: it cannot be read.
        UnsafeWeightsError: it holds something that `dymn export` never writes.
        ModelError: it is not such a file.
        BackendUnavailableError: no such device.
    """

    def __init__(self, path: Path, *, device: str = "cpu", threads: int = 1) -> None:
        data = read_small(path, WeightsMissingError, max_bytes=MAX_BYTES)
        sha256 = hashlib.sha256(data).hexdigest()
        place = _offered(device)
        if sha256 not in _tried:
            require_plain(data, str(path))
            run_apart(data, str(path))
            _tried.add(sha256)
        self._turn = _turn(place)
        self._session = _open(data, session_options(threads), place, str(path))
        try:
            meta = self._session.get_modelmeta().custom_metadata_map
            inputs = [given.name for given in self._session.get_inputs()]
            sizes = {output.name: output.shape[-1] for output in self._session.get_outputs() if output.shape}
        except UnicodeDecodeError as exc:
            raise ModelError(f"{path}: holds names that are not UTF-8") from exc
        self.header = ModelHeader.from_metadata(meta, str(path))
        config = self.header.config
        expected = dict(zip(OUTPUTS, (config.n_classes, config.embedding_size), strict=True))
        self.has_frames = FRAME_LOGITS in sizes
        if self.has_frames:
            expected[FRAME_LOGITS] = config.n_classes
        if inputs == ["waveform"]:
            raise ModelError(
                f"{path}: contains a front end, so it is for other runtimes",
                hint="use the model by its name, or a file exported without --with-frontend",
            )
        if sizes != expected or inputs != ["mel"]:
            raise ModelError(f"{path}: its inputs and outputs do not match its metadata")
        self.info = ModelInfo(self.header.name, sha256, "onnx", self._session.get_providers()[0])
        self.on_cpu = self.info.provider == PROVIDERS["cpu"]
        self._one_a_call = self.on_cpu or self._session.get_inputs()[0].shape[0] == 1

    def run(self, mels: NDArray[np.float32], *, frames: bool = False) -> Answer:
        """Run the network on log-mels (n, 1, n_mels, n_frames)."""
        with self._turn:
            return _answer(self._session, mels, {}, frames=frames, one_a_call=self._one_a_call)


_tried: set[str] = set()  # SHA-256 of the files that this process has tried


def _turn(device: Device) -> contextlib.AbstractContextManager[object]:
    """One call at a time, except on the CPU: some providers allow no more, and none gains by it."""
    return contextlib.nullcontext() if device.kind == "cpu" else threading.Lock()


def _answer(
    session: ort.InferenceSession,
    mels: NDArray[np.float32],
    head: Mapping[str, NDArray[np.float32]],
    *,
    frames: bool,
    one_a_call: bool,
) -> Answer:
    """Run a batch; `one_a_call` is fastest on a CPU, and makes answers independent of the batch."""
    batches = [mels[n : n + 1] for n in range(len(mels))] if one_a_call else [mels]
    outputs = [*OUTPUTS, FRAME_LOGITS] if frames else OUTPUTS
    try:
        answers = [session.run(outputs, {"mel": batch, **head}) for batch in batches]
    except Exception as exc:  # onnxruntime's own exceptions have no common base but Exception
        raise ModelError(f"onnxruntime cannot run the model: {ort_error_text(exc)}") from exc
    return Answer(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))


def _open(
    graph: bytes, options: ort.SessionOptions, device: Device, what: str = "the model"
) -> ort.InferenceSession:
    provider = PROVIDERS[device.kind]
    if device.kind in ("cuda", "tensorrt"):
        _find_cuda_libraries()
    if device.kind == "directml":
        options.enable_mem_pattern = False  # not supported
    try:
        # The fallback to other providers prints to standard output.
        session = ort.InferenceSession(
            graph, options, providers=[(provider, device.provider_options)], enable_fallback=0
        )
    except Exception as exc:  # onnxruntime's own exceptions have no common base but Exception
        raise ModelError(f"onnxruntime cannot load {what}: {ort_error_text(exc)}") from exc
    if session.get_providers()[0] != provider:  # it falls back to the CPU silently
        raise BackendUnavailableError(
            f"onnxruntime could not start {provider}",
            hint="check the driver and the libraries it needs; the device cpu works everywhere",
        )
    return session


def _find_cuda_libraries() -> None:
    """Load CUDA's libraries from where pip installs them, if it did."""
    preload = getattr(ort, "preload_dlls", None)  # from 1.21
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            preload()


def providers() -> tuple[str, ...]:
    """The providers of this onnxruntime, by its own names, best first."""
    return tuple(ort.get_available_providers())


def _offered(name: str) -> Device:
    device = parse_device(name)
    reason = why_not_onnx(device.kind, providers())
    if reason is not None:
        raise BackendUnavailableError(
            f"onnxruntime has no device {name!r} here: {reason}", hint=how_to_get(device.kind)
        )
    return device


# ---------------------------------------------------------------------- the size of the input


def mel_input(batch: int | None, n_mels: int | None, n_frames: int | None) -> bytes:
    """The declaration of the input `mel`, to be appended to a graph that lacks it.

    In the protocol-buffer encoding, two messages of one type in a row are the union of both, and repeated
    fields are concatenated. So this is a ModelProto (field 7, graph) whose GraphProto
    (field 11, input) holds one ValueInfoProto; field numbers as in onnx.proto of the ONNX specification.

    Args:
        batch: clips a call, or None for any number.
        n_mels: mel bands, or None for any number.
        n_frames: frames, or None for any number.
    """
    names = (("batch", batch), ("channel", 1), ("n_mels", n_mels), ("n_frames", n_frames))
    dims = b"".join(
        _message(1, _message(2, name.encode()) if size is None else b"\x08" + _varint(size))
        for name, size in names
    )
    tensor = b"\x08\x01" + _message(2, dims)  # elem_type = FLOAT, shape
    value_info = _message(1, b"mel") + _message(2, _message(1, tensor))
    return _message(7, _message(11, value_info))


def _message(field: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---------------------------------------------------------------------- the layout of channels


@cache
def block_size() -> int:
    """The number of channels that onnxruntime keeps in a block on this processor: 16, 8, or 0 for none.

    This is found by trying: a small graph that uses the layout in every way that ours do must give known
    results. If it does not (no such operators, another layout), the plain form is used.
    """
    return next((size for size in (16, 8) if _blocked_works(size)), 0)


def _blocked_works(size: int) -> bool:
    graph = weights_folder() / "graphs" / f"probe.one-blocked-{size}.onnx"
    rng = np.random.default_rng(0)
    few = size // 2
    shapes = {"expand": (size, few), "depthwise": (size, 3, 3), "project": (few, size)}
    kernels = {name: rng.integers(-4, 4, shape).astype(np.float32) for name, shape in shapes.items()}
    lines = rng.integers(-4, 4, (2, 2, size, 1, 1)).astype(np.float32)
    x = rng.integers(-4, 4, (few, 4, 5)).astype(np.float32)
    rows = {name: kernel.reshape(len(kernel), -1) for name, kernel in kernels.items()}
    rows["project"] = np.pad(rows["project"], ((0, size - few), (0, 0)))
    given = {name: kernel.T.reshape(1, -1) for name, kernel in rows.items()}  # one block: its channels last
    try:
        session = ort.InferenceSession(
            graph.read_bytes(), session_options(), providers=["CPUExecutionProvider"]
        )
        (got,) = session.run(None, {"x": x[np.newaxis], "lines": lines.reshape(1, -1), **given})
    except Exception:  # any refusal means that this machine does not have the layout
        return False
    expanded = np.maximum(np.tensordot(kernels["expand"], x, 1), 0)
    padded = np.pad(expanded, ((0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    filtered = np.einsum("cftij,cij->cft", patches, kernels["depthwise"])
    slopes, intercepts = lines
    highest = (slopes * filtered + intercepts).max(axis=0)
    return bool(np.array_equal(got[0], np.tensordot(kernels["project"], highest, 1)))
