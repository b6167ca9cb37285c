"""The connection to a cluster: what is done when it is lost. Real clusters: `tests/cli/test_ray.py`."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import time
from types import SimpleNamespace
from dymn_cli.scale import cluster

cluster.LOOK_S = 0.05

class Ray:
    answers = iter({answers})

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: "ours")

    def nodes(self):
        time.sleep({answer_s})
        alive = next(self.answers, None)
        if alive is None:
            raise RuntimeError("nobody answers")
        return [{{"NodeID": name, "Alive": name in alive}} for name in ("ours", "other")]

with cluster.end_with_node(Ray()):
    time.sleep({seconds})
time.sleep(0.3 + {answer_s})
print("the block is left")
"""


@pytest.mark.parametrize(
    ("answers", "answer_s", "seconds", "code", "said"),
    [
        (["ours other", "ours", "other"], 0, 60, 1, ""),  # no exception: Ray raises none either
        (["ours other", "ours", "ours"], 0, 1, 0, "the block is left\n"),  # and then nobody answers
        (["ours other"] * 2 + [""] * 9, 0, 0, 0, "the block is left\n"),
        (["other"], 1.5, 0.2, 0, "the block is left\n"),  # an answer that comes too late
    ],
)
def test_a_process_ends_with_its_node_and_not_otherwise(
    answers: list[str], answer_s: float, seconds: float, code: int, said: str
) -> None:
    program = textwrap.dedent(PROGRAM).format(answers=answers, answer_s=answer_s, seconds=seconds)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (ran.returncode, ran.stdout) == (code, said), ran.stderr
