"""Describe the machine that was measured, without names of hosts or users, so that reports can be shared."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dymn_cli.cores import usable_cores

__all__ = ["Machine", "this_machine"]

LIBRARIES = ("numpy", "onnxruntime", "soundfile", "soxr")


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor and software.

    Args:
        cpu: model of the processor.
        cores: that this process may use.
        system: operating system and instruction set.
        python: version.
        libraries: (name, version) of those that do the work.
    """

    cpu: str
    cores: int
    system: str
    python: str
    libraries: tuple[tuple[str, str], ...]


def this_machine(more_libraries: Sequence[str] = ()) -> Machine:
    """The machine that this process runs on, with the versions of these libraries, too."""
    return Machine(
        cpu=_cpu(),
        cores=usable_cores(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        libraries=tuple((name, importlib.metadata.version(name)) for name in (*LIBRARIES, *more_libraries)),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
