"""Model files that ask for more than there is; what is left of them must be one of our errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing.hunt import Hunter

pytestmark = pytest.mark.fuzz

Fields = dict[str, Any]


def in_metadata(part: str, **changes: Any) -> Callable[[Fields], None]:
    """Change fields of the JSON in a part of the metadata."""

    def change(fields: Fields) -> None:
        meta = fields["__metadata__"]
        meta[part] = json.dumps(json.loads(meta[part]) | changes)

    return change


def replaced(part: str, value: Any) -> Callable[[Fields], None]:
    """Put something else into the metadata."""
    return lambda fields: fields["__metadata__"].update({part: value})


def first_tensor(**changes: Any) -> Callable[[Fields], None]:
    """Change what the header says of a tensor."""
    return lambda fields: next(entry for key, entry in fields.items() if key != "__metadata__").update(
        changes
    )


LIES = {
    "a log-mel of exabytes": (in_metadata("dymn.front_end", n_mels=1 << 62), "ModelError"),
    "a transform of gigabytes": (
        in_metadata("dymn.front_end", n_fft=1 << 40, n_window=1 << 40),
        "ModelError",
    ),
    "true mel bands": (in_metadata("dymn.front_end", n_mels=True), "ModelError"),
    "true kernels": (in_metadata("dymn.config", kernels=True), "ModelError"),
    "a hop of nothing": (in_metadata("dymn.front_end", n_hop=1), "ModelError"),
    "a trillion classes": (in_metadata("dymn.config", n_classes=10**12), "ModelError"),
    "classes beyond any float": (in_metadata("dymn.config", n_classes=10**400), "ModelError"),
    "a width beyond any float": (in_metadata("dymn.config", width=10**400), "ModelError"),
    "a billion kernels": (in_metadata("dymn.config", family="dymn", kernels=10**9), "ModelError"),
    "a wide network": (in_metadata("dymn.config", width=16.0), "ModelError"),
    "an endless context": (in_metadata("dymn.config", family="dymn", context_max=10**400), "ModelError"),
    "deep JSON": (replaced("dymn.config", "[" * 200_000), "ModelError"),
    "deep labels": (replaced("dymn.labels", "[" * 200_000), "ModelError"),
    "a number of many digits": (replaced("dymn.config", '{"width": ' + "1" * 5_000 + "}"), "ModelError"),
    "no text": (replaced("dymn.name", 7), "UnsafeWeightsError"),
    "offsets beyond the end": (first_tensor(data_offsets=[0, 1 << 62]), "UnsafeWeightsError"),
    "offsets backwards": (first_tensor(data_offsets=[8, 0]), "UnsafeWeightsError"),
    "a shape that overflows": (first_tensor(shape=[1 << 40, 1 << 40]), "UnsafeWeightsError"),
    "a negative shape": (first_tensor(shape=[-1]), "UnsafeWeightsError"),
}


@pytest.fixture
def small_hunter(seeds: Path):
    with Hunter(seeds, limit_mib=64.0) as hunter:
        hunter.try_one({"target": "safetensors", "path": str(seeds / "models" / "tiny.safetensors")})
        yield hunter


def test_lies_in_the_header(small_hunter: Hunter, seeds: Path, tmp_path: Path) -> None:
    seed = (seeds / "models" / "tiny.safetensors").read_bytes()
    length = int.from_bytes(seed[:8], "little")
    path = tmp_path / "model"
    wrong = []
    for name, (lie, expected) in LIES.items():
        fields = json.loads(seed[8 : 8 + length])
        lie(fields)
        header = json.dumps(fields).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + seed[8 + length :])
        verdict = small_hunter.try_one({"target": "safetensors", "path": str(path)})
        if verdict.outcome != expected:
            wrong.append(f"{name}: {verdict.outcome}: {verdict.problem}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        (1 << 63).to_bytes(8, "little"),
        ((1 << 64) - 1).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (600_000).to_bytes(8, "little") + b'{"a":' * 120_000,
        (4).to_bytes(8, "little") + b"\xff\xfe{}",
        b"PK\3\4" + bytes(1_000),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_no_header_at_all(small_hunter: Hunter, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(data)
    verdict = small_hunter.try_one({"target": "safetensors", "path": str(path)})
    assert verdict.outcome in ("UnsafeWeightsError", "ModelError"), verdict.problem


def test_an_onnx_file_whose_names_are_no_text(small_hunter: Hunter, seeds: Path, tmp_path: Path) -> None:
    """onnxruntime would announce on standard output that it tries again, which it does in vain."""
    pytest.importorskip("onnx")
    seed = (seeds / "models" / "tiny.onnx").read_bytes()
    path = tmp_path / "model"
    for name in (b"logits", b"mel", b"dymn.config", b"tiny"):
        path.write_bytes(seed.replace(name, b"\xff" * len(name)))
        verdict = small_hunter.try_one({"target": "onnx", "path": str(path)})
        assert verdict.outcome == "ModelError", verdict.problem
