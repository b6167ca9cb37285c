"""The real program, its time and its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.bench.load import OtherLoad, descendants
from dymn_cli.bench.processes import run_dymn
from dymn_cli.errors import DymnError

pytestmark = pytest.mark.process

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MB = 1e6


@LINUX
def test_memory_is_that_of_the_program_alone() -> None:
    """A process starts as a copy of its parent; a benchmark that holds clips must not be counted."""
    ballast = np.ones(400_000_000, np.uint8)
    run = run_dymn("--help")
    assert run.seconds > 0
    assert run.largest_bytes is not None
    assert 5 * MB < run.largest_bytes < 100 * MB
    assert run.total_bytes is None
    assert ballast[-1]


@LINUX
def test_all_processes_can_be_watched(originals: dict[str, list[Path]]) -> None:
    run = run_dymn("tag", "-q", str(originals["wav"][0]), watch=True)
    assert run.total_bytes is not None
    assert run.total_bytes > 20 * MB


def test_a_failure_says_what_dymn_said(tmp_path: Path) -> None:
    with pytest.raises(DymnError, match=r"dymn tag ended with code 3: .*nowhere\.wav: no such file"):
        run_dymn("tag", str(tmp_path / "nowhere.wav"))


@LINUX
def test_grandchildren_are_ours() -> None:
    script = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        try:
            assert list(descendants(child.pid)) == [grandchild]
        finally:
            subprocess.run(["kill", str(grandchild)], check=True)
            child.wait()
    assert list(descendants(child.pid)) == []


@LINUX
def test_load_of_others_is_a_number_of_cores() -> None:
    load = OtherLoad()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    cores = load.cores()
    assert cores is not None
    assert cores >= 0
