"""The hunter itself: a harness that sees nothing would pass everything."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing.hunt import Hunter

pytestmark = pytest.mark.fuzz


@pytest.fixture(scope="module")
def strict(seeds: Path):
    with Hunter(seeds, limit_s=2.5, limit_mib=100.0) as hunter:
        hunter.try_one({"target": "misbehave", "text": "nothing"})  # starts the process
        yield hunter


@pytest.mark.parametrize(
    ("deed", "outcome", "told"),
    [
        ("crash", "crash", "it crashes alone"),
        ("exit", "finding", "SystemExit"),
        ("hang", "hang", "no answer within 2.5 s"),
        ("allocate", "finding", "MiB more"),
        ("print", "finding", "on stdout: on stdout"),
        ("print in C", "finding", "on stdout: on stdout"),
        ("complain", "finding", "on stderr: oh no"),
        ("raise", "finding", "ZeroDivisionError: not ours"),
        ("wrong", "finding", "a result that is none"),
    ],
)
def test_misdeeds_are_seen(strict: Hunter, deed: str, outcome: str, told: str) -> None:
    verdict = strict.try_one({"target": "misbehave", "text": deed})
    assert verdict.outcome == outcome
    assert told in (verdict.problem or "")
    assert strict.try_one({"target": "misbehave", "text": "nothing"}).outcome == "valid"


def test_a_crash_that_needs_an_earlier_job_is_blamed_on_both(strict: Hunter) -> None:
    for _ in range(5):
        strict.try_one({"target": "misbehave", "text": "nothing"})
    strict.try_one({"target": "misbehave", "text": "plant"})
    strict.try_one({"target": "misbehave", "text": "nothing"})
    verdict = strict.try_one({"target": "misbehave", "text": "step on it"})
    assert verdict.outcome == "crash"
    assert (verdict.problem or "").count(
        "nothing"
    ) == 2  # of jobs: 4 is the shortest power of two that has both
    assert "plant" in (verdict.problem or "")
