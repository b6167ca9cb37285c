"""The process that tries a foreign ONNX file: loads it, runs it once on silence, and says what went wrong.

    stdin   the file
    stdout  {"error": "..."} where it cannot be loaded or run; the exit code is 1 then, and 0 otherwise

It is started by `dymn_cli.runtime.onnx_safety.run_apart` and by nothing else.
"""

from __future__ import annotations

import contextlib
import json
import sys

import numpy as np

from dymn_cli.runtime.ort import first_line, ort

__all__ = ["main"]

MEMORY_LIMIT = 4 << 30  # bytes of address space, beside what the weights take
CPU_LIMIT_S = 120  # for the case that whoever started this is gone, and kills it no more
USUAL = (1, 1, 128, 1000)  # batch, channel, mel bands, frames: where the file leaves them open


def main() -> None:
    """Try the file on standard input."""
    data = sys.stdin.buffer.read()
    _limit_this_process(4 * len(data))
    try:
        _try(data)
    except BaseException as exc:  # whatever it is, the one who asked has to hear of it
        sys.stdout.write(json.dumps({"error": first_line(exc)}))
        sys.exit(1)


def _try(data: bytes) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if [given.name for given in inputs] == ["mel"] and len(inputs[0].shape) == len(USUAL):
        sizes = zip(inputs[0].shape, USUAL, strict=True)
        shape = [size if isinstance(size, int) else usual for size, usual in sizes]
        session.run(None, {"mel": np.zeros(shape, np.float32)})


def _limit_this_process(n_bytes: int) -> None:
    """Bound memory, with so much beside the usual, and time, as far as the platform can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT + n_bytes, MEMORY_LIMIT + n_bytes))
