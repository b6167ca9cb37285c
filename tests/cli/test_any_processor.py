"""The same bytes however the work is shared out, with the kernels of linear algebra of any processor."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
import soundfile


@pytest.mark.slow
def test_jobs_and_threads_change_no_digit(dymn: Any) -> None:
    kernel = "Haswell"  # adds up a column of a matrix product in an order that depends on where it stands
    rng = np.random.default_rng(4)
    names = [f"{n}.wav" for n in range(2)]
    for name in names:
        sound = rng.standard_normal(20 * 32_000).cumsum()
        soundfile.write(dymn.cwd / name, 0.3 * sound / np.abs(sound).max(), 32_000)
    outputs = set()
    # A limit a file asks for processes, whatever there is to do.
    for how in (("-j", 1), ("-j", 2), ("-j", 2, "--limit-per-file", 600)):
        ran = dymn(
            "tag", *names, "--windows", "--hop", 1, "-k", 50, "--precision", 9, *how,
            env={"OPENBLAS_CORETYPE": kernel},
        )  # fmt: skip
        if ran.returncode == -signal.SIGILL:
            pytest.skip(f"this processor cannot run OpenBLAS's kernels for {kernel}")
        assert ran.returncode == 0, ran.err
        assert len(ran.rows) == 2 * 11 * 50
        outputs.add(ran.out)
    assert len(outputs) == 1
