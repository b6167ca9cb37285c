"""The process that tries an untrusted ONNX file: it loads the file and runs it once on silence.

    stdin   the file
    stdout  {"error": "..."} if it cannot be loaded or run; the exit code is then 1, and 0 otherwise

Only `dymn_cli.runtime.onnx_safety.run_apart` starts it.
"""

from __future__ import annotations

import contextlib
import json
import sys

import numpy as np

from dymn_cli.runtime.ort import ort, ort_error_text, session_options

__all__ = ["main"]

MEMORY_LIMIT = 4 << 30  # bytes of address space, beside what the weights take
CPU_LIMIT_S = 120  # in case the parent process is gone and cannot kill it
USUAL = (1, 1, 128, 1000)  # batch, channel, mel bands, frames: for dimensions that the file leaves open


def main() -> None:
    """Try the file on standard input."""
    data = sys.stdin.buffer.read()
    _limit_this_process(4 * len(data))
    try:
        _try(data)
    except BaseException as exc:  # whatever it is, the parent must learn of it
        sys.stdout.write(json.dumps({"error": ort_error_text(exc)}))
        sys.exit(1)


def _try(data: bytes) -> None:
    session = ort.InferenceSession(data, session_options(), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if [given.name for given in inputs] == ["mel"] and len(inputs[0].shape) == len(USUAL):
        sizes = zip(inputs[0].shape, USUAL, strict=True)
        shape = [size if isinstance(size, int) else usual for size, usual in sizes]
        session.run(None, {"mel": np.zeros(shape, np.float32)})


def _limit_this_process(n_bytes: int) -> None:
    """Limit time, and memory to `n_bytes` more than usual, as far as the platform can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT + n_bytes, MEMORY_LIMIT + n_bytes))
