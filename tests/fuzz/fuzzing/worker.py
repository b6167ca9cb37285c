"""A process that takes jobs, one line of JSON each, and answers each with a line of JSON.

It is the one that may crash, hang or grow: whoever started it watches it from outside. Its standard output
is a file that must stay empty. By hand, with everything in one process and a traceback:

    PYTHONPATH=.:tests/fuzz python -m fuzzing.worker SEEDS audio 7 1234      mutant 1234 of run 7
    PYTHONPATH=.:tests/fuzz python -m fuzzing.worker SEEDS audio some.file   a file
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from fuzzing import mutations, targets

ADDRESS_SPACE = 6 << 30  # protects the machine; what counts is the peak of resident memory
MIB = 1 << 20


def bytes_of(job: dict[str, Any], seeds: dict[str, dict[str, bytes]]) -> bytes:
    """The input of a job: a file, a text, a seed cut short or with another byte, or a mutant."""
    if "path" in job:
        return Path(job["path"]).read_bytes()
    if "text" in job:
        return str(job["text"]).encode()
    if "length" in job:
        return seeds["audio"][job["seed"]][: job["length"]]
    if "byte" in job:
        seed, at = seeds["audio"][job["seed"]], job["number"]
        return seed[:at] + bytes((job["byte"],)) + seed[at + 1 :]
    run, number, target = job["run"], job["number"], job["target"]
    if target in ("thresholds", "names"):
        suffix = {"thresholds": ".csv", "names": ".txt"}[target]
        tables = [data for name, data in sorted(seeds["tables"].items()) if name.endswith(suffix)]
        return mutations.table_mutant(tables[number % len(tables)], run, number)
    if target == "safetensors":
        return mutations.safetensors_mutant(seeds["models"]["tiny.safetensors"], run, number)
    if target == "checkpoint":
        return mutations.checkpoint_mutant(seeds["models"]["tiny.pt"], run, number)
    if target == "onnx":
        return mutations.onnx_mutant(seeds["models"]["tiny.onnx"], run, number)
    return mutations.mutant(seeds["audio"], run, number)


def load_seeds(folder: Path) -> dict[str, dict[str, bytes]]:
    """Kind → name → bytes."""
    return {
        kind.name: {path.name: path.read_bytes() for path in kind.iterdir()}
        for kind in folder.iterdir()
        if kind.is_dir()
    }


def resident_mib(field: str = "VmRSS") -> float:
    """Memory of this process, now or ("VmHWM") at most since `reset_peak`; 0 where it is not told."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def reset_peak() -> None:
    """Forget the largest memory so far, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def examine(job: dict[str, Any], data: bytes, scratch: Path) -> dict[str, Any]:
    """Run a job and say what came of it."""
    rng = random.Random(f"{job.get('run')}/{job.get('number')}/how")
    problem = None
    reset_peak()
    before, started = resident_mib(), time.perf_counter()
    try:
        outcome = targets.TARGETS[job["target"]](data, rng, scratch)
    except BaseException as exc:
        outcome, problem = "finding", "".join(traceback.format_exception(exc, limit=-12))
    seconds = time.perf_counter() - started
    return {
        "outcome": outcome,
        "problem": problem,
        "seconds": seconds,
        "grown_mib": resident_mib("VmHWM") - before,
        "resident_mib": resident_mib(),
    }


def written(descriptor: int) -> int:
    """Bytes that went to a descriptor which is a file."""
    return os.fstat(descriptor).st_size


def serve(seeds: dict[str, dict[str, bytes]], scratch: Path, reports: int) -> None:
    """Answer jobs until there are no more."""
    libc = ctypes.CDLL(None)
    for line in sys.stdin:
        job = json.loads(line)
        if job["target"] == "safetensors" and job.get("backend") == "auto" and "torch" not in sys.modules:
            import torch

            torch.set_num_threads(1)
            targets.MODEL_BACKEND = "auto"
        out, err = written(1), written(2)
        report = examine(job, bytes_of(job, seeds), scratch)
        sys.stdout.flush()
        libc.fflush(None)
        report["stdout"], report["stderr"] = written(1) - out, written(2) - err
        os.write(reports, json.dumps(report).encode() + b"\n")


def main(arguments: list[str]) -> None:
    """Serve, or reproduce one job where it is named."""
    faulthandler.enable()
    warnings.simplefilter("error")
    seeds = load_seeds(Path(arguments[0]))
    with tempfile.TemporaryDirectory() as scratch:
        if arguments[1] == "--serve":
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            serve(seeds, Path(scratch), int(arguments[2]))
            return
        job: dict[str, Any] = {"target": arguments[1]}
        if len(arguments) == 3:
            job["path"] = arguments[2]
        else:
            job |= {"run": int(arguments[2]), "number": int(arguments[3])}
        report = examine(job, bytes_of(job, seeds), Path(scratch))
        print(report.pop("problem") or "", report, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
