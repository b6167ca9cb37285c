"""Check an untrusted ONNX file before onnxruntime loads it.

An ONNX file is a program. `dymn export` writes only programs that end, hold all their weights, and consist of
operators of the ONNX standard. Everything else is refused here, by walking through the protocol buffer (field
numbers as in onnx.proto of the ONNX specification):

    ModelProto ── 7 graph ── 1 node ── 5 attribute ── 5, 10 tensor(s) ── 13, 14 location of the values
                          ├─ 5 initializer             ├─ 22, 23 sparse tensor(s)
                          └─ 15 sparse initializer     └─ 6, 11 graph(s): bodies of Loop, Scan, If: refused

A file that passes ends, but may still take all memory or hours: so it is then loaded and run once in a
separate process, which has limits and can be killed (`run_apart`).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from dymn_cli.errors import ModelError, UnsafeWeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_BYTES", "require_plain", "run_apart"]

MAX_BYTES = 1 << 30  # the largest published architecture has 273 MB of weights
MAX_FIELDS = 1_000_000  # a model of width 2 has 14,000
LIMIT_S = 60.0
STANDARD = ("", "ai.onnx")

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10

# Message type → field → type of the message in it.
PARTS = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
INNER_GRAPH = "has loops or branches (Loop, Scan, If), which may never end"
FUNCTIONS = "defines functions or training steps"
OTHER_FILES = "stores its weights in other files"
REFUSED = {
    ("model", 20): FUNCTIONS,
    ("model", 25): FUNCTIONS,
    ("attribute", 6): INNER_GRAPH,
    ("attribute", 11): INNER_GRAPH,
    ("tensor", 13): OTHER_FILES,
}
DOMAIN, DATA_LOCATION, EXTERNAL = ("node", 7), ("tensor", 14), 1
HINT = "it must be a single file with all its weights, as dymn export writes it"


def require_plain(data: bytes, what: str) -> None:
    """Refuse a file that is more than a chain of standard operators with their weights.

    Args:
        data: the file.
        what: its name, for messages.

    Raises:
        UnsafeWeightsError: it has loops, branches, functions or non-standard operators, or needs other files.
        ModelError: it is not an ONNX file, or has too many fields.
    """
    try:
        for kind, number, value in _walk(data):
            reason = REFUSED.get((kind, number))
            if (kind, number) == DATA_LOCATION and value == EXTERNAL:
                reason = OTHER_FILES
            elif (kind, number) == DOMAIN and isinstance(value, memoryview):
                domain = bytes(value[:100]).decode("utf-8", "backslashreplace")
                reason = None if domain in STANDARD else f"has non-standard operators (domain {domain!r})"
            if reason is not None:
                raise UnsafeWeightsError(f"{what}: {reason}", hint=HINT)
    except ValueError as exc:
        raise ModelError(f"{what}: not an ONNX file: {exc}", hint=HINT) from exc


def _walk(data: bytes) -> Iterator[tuple[str, int, int | memoryview]]:
    """All fields of the message types in `PARTS`, as (message type, field number, value).

    Raises:
        ValueError: it is not a protocol buffer, or has too many fields.
    """
    waiting = [("model", memoryview(data))]
    n_fields = 0
    while waiting:
        kind, message = waiting.pop()
        parts = PARTS[kind]
        for number, value in _fields(message):
            n_fields += 1
            if n_fields > MAX_FIELDS:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            yield kind, number, value
            if number in parts and isinstance(value, memoryview):
                waiting.append((parts[number], value))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message; fixed-size values as bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise ValueError(f"field number {number}")
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == DELIMITED:
            size, at = _varint(message, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:  # groups, which ONNX does not use, or invalid
            raise ValueError(f"wire type {wire}")
        if size > len(message) - at:
            raise ValueError("it ends in the middle of a field")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the position behind it."""
    value = 0
    for shift, byte in enumerate(message[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    raise ValueError("it ends in the middle of a number")


# ---------------------------------------------------------------------- in a separate process

START = "import sys; sys.path[:] = sys.argv[1:]; from dymn_cli.runtime.onnx_trial import main; main()"


def run_apart(data: bytes, what: str, *, limit_s: float = LIMIT_S) -> None:
    """Load a file and run it once on silence, in a process with limited time and, on Unix, memory.

    Args:
        data: the file.
        what: its name, for messages.
        limit_s: seconds after which the process is killed.

    Raises:
        ModelError: it cannot be loaded or run, or not within the limits.
    """
    import subprocess  # slow to import

    command = [sys.executable, "-P", "-c", START, *sys.path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        try:
            said, _ = process.communicate(data, timeout=limit_s)
        except subprocess.TimeoutExpired as exc:
            raise ModelError(f"{what}: did not answer within {limit_s:g} s", hint=HINT) from exc
        finally:
            process.kill()
    if process.returncode == 0:
        return
    try:
        reason = str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        raise ModelError(
            f"{what}: crashed the process that tried it, or needs more memory than a model should",
            hint=HINT,
        ) from None
    raise ModelError(f"onnxruntime cannot load {what}: {reason}")
