"""ONNX files that do harm: refused in one line, within seconds, and no other file is read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import ModelError, UnsafeWeightsError
from dymn_cli.runtime import onnx as backend_module
from dymn_cli.runtime import onnx_safety
from dymn_cli.runtime.onnx import OnnxFileBackend
from dymn_cli.runtime.onnx_safety import require_plain, run_apart
from dymn_cli.store.weights import Weights

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 -- needs onnx

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
OPSET = [helper.make_opsetid("", 18)]

Make = Callable[..., bytes]


@pytest.fixture
def make(shipped: Weights) -> Make:
    """An ONNX file that says that it is a model of ours: nodes before the answers, and initialisers."""
    metadata = shipped.header.to_metadata()

    def build(*nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = (), **more: object) -> bytes:
        rest = [
            helper.make_node("ReduceMean", ["mel", "axes"], ["one"], keepdims=0),
            helper.make_node("Unsqueeze", ["one", "last"], ["column"]),
            helper.make_node("Mul", ["column", "ones527"], ["logits"]),
            helper.make_node("Mul", ["column", "ones384"], ["embedding"]),
        ]
        constants = [
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
            numpy_helper.from_array(np.array([1]), "last"),
            numpy_helper.from_array(np.ones(527, np.float32), "ones527"),
            numpy_helper.from_array(np.ones(384, np.float32), "ones384"),
        ]
        mel = helper.make_tensor_value_info("mel", FLOAT, ["batch", 1, 128, "n_frames"])
        answers = [
            helper.make_tensor_value_info(name, FLOAT, ["batch", size])
            for name, size in (("logits", 527), ("embedding", 384))
        ]
        graph = helper.make_graph([*nodes, *rest], "g", [mel], answers, [*constants, *weights])
        model = helper.make_model(graph, opset_imports=OPSET, ir_version=9, **more)
        helper.set_model_props(model, metadata)
        return model.SerializeToString()

    return build


def scalar(value: object, name: str, kind: type = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, kind), name)


def endless_loop() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("n", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", FLOAT, []),
        ],
    )
    loop = helper.make_node("Loop", ["most", "yes", "zero"], ["sum"], body=body)
    weights = [scalar(2**62, "most"), scalar(True, "yes", np.bool_), scalar(0, "zero", np.float32)]
    return [loop], weights


def external(name: str = "w", location: str = "secret.bin") -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def huge(n: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Sums 4·n bytes of ones, which are nowhere in the file."""
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["many"], value=scalar([1], "v", np.float32)),
        helper.make_node("ReduceSum", ["many"], ["all"], keepdims=0),
    ]
    return nodes, [scalar([n], "n")]


def test_a_plain_model_is_taken(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    path.write_bytes(make())
    answer = OnnxFileBackend(path).run(np.full((2, 1, 128, 50), 3, np.float32))
    np.testing.assert_allclose(answer.logits, np.full((2, 527), 3), rtol=1e-6)


def test_what_dymn_export_writes_is_taken(shipped: Weights) -> None:
    from dymn_cli.export.onnx_file import self_contained

    require_plain(self_contained(shipped).SerializeToString(), "export.onnx")


@pytest.mark.parametrize("kind", ["Loop", "If", "Scan", "in a function", "graphs"])
def test_loops_and_branches_are_refused_before_they_run(make: Make, tmp_path: Path, kind: str) -> None:
    nodes, weights = endless_loop()
    more: dict[str, object] = {}
    if kind in ("If", "Scan"):
        (loop,) = nodes
        (body,) = loop.attribute
        names = ("then_branch", "else_branch") if kind == "If" else ("body",)
        nodes = [helper.make_node(kind, ["yes"], ["out"], **dict.fromkeys(names, body.g))]
    elif kind == "in a function":
        more["functions"] = [helper.make_function("", "Twice", ["a"], ["b"], nodes, OPSET)]
        nodes = []
    elif kind == "graphs":
        nodes = [helper.make_node("Constant", [], ["c"], graphs=[nodes[0].attribute[0].g])]
    path = tmp_path / "endless.onnx"
    path.write_bytes(make(*nodes, weights=tuple(weights), **more))
    began = time.monotonic()
    with pytest.raises(UnsafeWeightsError, match=r"endless\.onnx: (has loops or branches|defines functions)"):
        OnnxFileBackend(path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("where", ["initializer", "constant", "sparse", "location alone"])
def test_weights_in_other_files_are_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    nodes, weights = [], []
    if where == "initializer":
        weights = [external()]
    elif where == "constant":
        nodes = [helper.make_node("Constant", [], ["w"], value=external())]
    elif where == "sparse":
        sparse = onnx.SparseTensorProto(values=external(), dims=[8])
        nodes = [helper.make_node("Constant", [], ["w"], sparse_value=sparse)]
    else:  # no data_location; onnxruntime might take it for external all the same
        tensor = external()
        tensor.ClearField("data_location")
        weights = [tensor]
    path = tmp_path / "two.onnx"
    path.write_bytes(make(*nodes, weights=tuple(weights)))
    with pytest.raises(UnsafeWeightsError, match="stores its weights in other files"):
        OnnxFileBackend(path)


def test_operators_of_others_are_refused(make: Make, tmp_path: Path) -> None:
    node = helper.make_node(
        "EPContext", ["mel"], ["c"], domain="com.microsoft", ep_cache_context="/etc/passwd"
    )
    path = tmp_path / "context.onnx"
    path.write_bytes(make(node))
    with pytest.raises(UnsafeWeightsError, match=r"operators \(domain 'com\.microsoft'\)"):
        OnnxFileBackend(path)


def test_gigabytes_that_are_not_in_the_file_are_refused(make: Make, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux keeps a process to its address space")
    nodes, weights = huge(1 << 32)
    path = tmp_path / "huge.onnx"
    path.write_bytes(make(*nodes, weights=tuple(weights)))
    with pytest.raises(ModelError, match=r"huge\.onnx") as caught:
        OnnxFileBackend(path)
    assert "\n" not in caught.value.message


@pytest.mark.process
def test_a_file_that_takes_too_long_is_given_up(make: Make) -> None:
    n = scalar([3000, 3000], "shape")
    nodes = [helper.make_node("RandomUniform", [], ["m0"], shape=[3000, 3000])]
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(300)]
    nodes.append(helper.make_node("ReduceMax", ["m300"], ["used"], keepdims=0))
    data = onnx.ModelProto.FromString(make(*nodes, weights=(n,)))
    data.graph.output.append(helper.make_tensor_value_info("used", FLOAT, []))
    began = time.monotonic()
    with pytest.raises(ModelError, match="did not answer within 2 s"):
        run_apart(data.SerializeToString(), "slow.onnx", limit_s=2)
    assert time.monotonic() - began < 20


@pytest.mark.process
def test_a_process_that_is_told_to_end_ends(make: Make, tmp_path: Path) -> None:
    """While the file is tried, as while anything else is done."""
    nodes = [helper.make_node("RandomUniform", [], ["m0"], shape=[3000, 3000])]
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(300)]
    model = onnx.ModelProto.FromString(make(*nodes))
    model.graph.output.append(helper.make_tensor_value_info("m300", FLOAT, [3000, 3000]))
    path = tmp_path / "slow.onnx"
    path.write_bytes(model.SerializeToString())
    code = f"""
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
from dymn_cli.runtime.onnx import OnnxFileBackend
from pathlib import Path
print("ready", flush=True)
OnnxFileBackend(Path({str(path)!r}))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143


def test_a_file_that_is_found_sound_is_tried_once(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    monkeypatch.setattr(backend_module, "run_apart", lambda data, what: tried.append(what))
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(make(helper.make_node("Relu", ["mel"], [f"{os.getpid()}"])))
        OnnxFileBackend(tmp_path / name)
    assert len(tried) == 1


def test_a_file_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "MAX_BYTES", 1 << 20)
    with pytest.raises(ModelError, match="/dev/zero: a device"):
        OnnxFileBackend(Path("/dev/zero"))


# ---------------------------------------------------------------------- the walk through the file


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x3a", "in the middle of a number"),
        (b"\x3a\x05\x0a", "in the middle of a field"),
        (b"\x0d\x00\x00", "in the middle of a field"),
        (b"\x3b\x3c", "wire type 3"),  # a group
        (b"\x3e", "wire type 6"),
        (b"\x02\x00", "field number 0"),
        (b"\xff" * 11, "in the middle of a number"),
        (b"\xf8\xff\xff\xff\xff\xff\xff\xff\x7f\x00", "field number"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "in the middle of a field"),
    ],
)
def test_bytes_that_are_no_protocol_buffer(data: bytes, reason: str) -> None:
    with pytest.raises(ModelError, match=f"x.onnx: not an ONNX file: .*{reason}"):
        require_plain(data, "x.onnx")


def test_a_part_given_twice_is_looked_at_twice(make: Make) -> None:
    """Protocol buffers merge them, so a harmless graph may be followed by another one."""
    nodes, weights = endless_loop()
    second = helper.make_graph(nodes, "second", [], [], weights)
    more = onnx.ModelProto(graph=second).SerializeToString()
    with pytest.raises(UnsafeWeightsError):
        require_plain(make() + more, "x.onnx")


def test_a_long_spelling_of_a_number_is_read(make: Make) -> None:
    nodes, weights = endless_loop()
    graph = helper.make_graph(nodes, "g", [], [], weights).SerializeToString()
    size = len(graph)
    spelled = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, 0x80, 0x80, 0x00])
    assert onnx.ModelProto.FromString(b"\xba\x80\x00" + spelled + graph).graph.node
    with pytest.raises(UnsafeWeightsError):
        require_plain(b"\xba\x80\x00" + spelled + graph, "x.onnx")


def test_too_many_fields_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_safety, "MAX_FIELDS", 1000)
    with pytest.raises(ModelError, match="more than 1,000 fields"):
        require_plain(b"\x3a\x00" * 1001, "x.onnx")


def test_any_bytes_are_judged_without_another_exception() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        data = rng.integers(0, 256, rng.integers(0, 60), dtype=np.uint8).tobytes()
        try:
            require_plain(b"\x3a" + data, "x.onnx")
        except ModelError as error:
            assert error.message.startswith("x.onnx: ")


def test_every_damage_of_a_real_file_is_judged(make: Make) -> None:
    rng = np.random.default_rng(1)
    data = make()
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            require_plain(bytes(damaged[: rng.integers(1, len(damaged))]), "x.onnx")
        except ModelError as error:
            assert "\n" not in error.message


def test_bytes_that_another_format_claims_are_read_as_onnx(make: Make, tmp_path: Path) -> None:
    """onnxruntime takes a file with ORTM at byte 4 for one of its own format, which is not looked through."""
    path = tmp_path / "two.onnx"
    path.write_bytes(b"\x12\x06..ORTM" + make())
    assert path.read_bytes()[4:8] == b"ORTM"
    answer = OnnxFileBackend(path).run(np.ones((1, 1, 128, 20), np.float32))
    np.testing.assert_allclose(answer.logits, 1, rtol=1e-6)
