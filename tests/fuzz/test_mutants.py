"""Whatever bytes come, there is one of our errors or a sound result, soon, in little memory, and no noise."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzing import mutations, worker
from fuzzing.hunt import Hunter, Job, Tally, reproducer

pytestmark = pytest.mark.fuzz

RUN = 1
HEADER = 160
# Seconds for each; the reading of audio is what most strangers' bytes come to.
SHARES = {
    "audio": 6.0,
    "taste": 2.0,
    "tagger": 2.0,
    "array": 0.4,
    "safetensors": 2.0,
    "checkpoint": 2.0,
    "onnx": 1.0,
    "thresholds": 0.5,
    "names": 0.5,
}


def mutants(target: str, run: int, **extra: Any) -> Iterator[Job]:
    """The mutants of a run, without end."""
    return ({"target": target, "run": run, "number": number, **extra} for number in itertools.count())


def truncations(seeds: Path, run: int) -> list[Job]:
    """Every seed, cut where it may matter, in an order that depends on the run."""
    cuts: list[Job] = [
        {"target": "audio", "run": run, "number": length, "seed": path.name, "length": length}
        for path in sorted((seeds / "audio").iterdir())
        for length in mutations.interesting_offsets(path.read_bytes())
    ]
    random.Random(run).shuffle(cuts)
    return cuts


def other_bytes(seeds: Path, run: int) -> list[Job]:
    """Every byte of every header in four other values, in an order that depends on the run."""
    changes: list[Job] = [
        {"target": "audio", "run": run, "number": at, "seed": path.name, "byte": byte}
        for path in sorted((seeds / "audio").iterdir())
        for at in range(min(HEADER, path.stat().st_size))
        for byte in (0x00, 0x7F, 0x80, 0xFF)
    ]
    random.Random(run).shuffle(changes)
    return changes


def require_clean(tally: Tally, seeds: Path, folder: Path) -> None:
    """Fail with all that is needed to see a finding again."""
    assert tally.outcomes
    if tally.findings:
        shown = "\n\n".join(reproducer(finding, seeds, folder) for finding in tally.findings[:5])
        pytest.fail(f"{len(tally.findings)} findings; {tally}\n\n{shown}", pytrace=False)


@pytest.mark.parametrize("target", SHARES)
def test_mutants(target: str, hunter: Hunter, seeds: Path, tmp_path: Path) -> None:
    if target == "onnx" and importlib.util.find_spec("onnx") is None:
        pytest.skip("the seed is written with the onnx package")
    tally = hunter.examine(mutants(target, RUN), seconds=SHARES[target])
    require_clean(tally, seeds, tmp_path)
    assert set(tally.outcomes) & {"valid", "long"}, "no mutant was sound: the seeds are not read"


def test_truncations(hunter: Hunter, seeds: Path, tmp_path: Path) -> None:
    require_clean(hunter.examine(truncations(seeds, RUN), seconds=2.0), seeds, tmp_path)


def test_every_seed_is_read(hunter: Hunter, seeds: Path, tmp_path: Path) -> None:
    """Else mutants of it would all be refused at the door."""
    not_read = set()
    for path in sorted((seeds / "audio").iterdir()):
        verdict = hunter.try_one({"target": "taste", "path": str(path)})
        if verdict.outcome != "valid":
            not_read.add(path.name)
    # Formats that nobody keeps recordings in; their readers are not let near a file.
    refused = {"SDS-PCM_16.sf", "SDS-PCM_24.sf", "SVX-PCM_16.sf"}
    refused |= {"adx-adpcm_adx.adx", "aptx-aptx.aptx", "wsaud-adpcm_ima_ws.wsaud"}
    refused |= {"nut-pcm_s16le.nut", "rm-ac3.ra", "sox-pcm_s32le.sox", "wtv-mp2.wtv"}
    assert not_read <= refused


def test_a_mutant_depends_on_its_numbers_only(seeds: Path) -> None:
    kinds = worker.load_seeds(seeds)["audio"]
    assert [mutations.mutant(kinds, 1, n) for n in range(50)] == [
        mutations.mutant(kinds, 1, n) for n in range(50)
    ]
    assert len({mutations.mutant(kinds, run, n) for run in (1, 2) for n in range(50)}) > 95


@pytest.mark.fuzz_long
def test_as_long_as_wanted(seeds: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All targets in turns, twenty seconds each, with a new run number unless DYMN_FUZZ_RUN gives one."""
    seconds = float(os.environ["DYMN_FUZZ_SECONDS"])
    run = int(os.environ.get("DYMN_FUZZ_RUN") or time.time())
    kinds: dict[str, Iterator[Job]] = {target: mutants(target, run) for target in SHARES}
    kinds["torch"] = mutants("safetensors", run + 1, backend="auto")
    kinds["truncations"] = iter(truncations(seeds, run))
    kinds["other bytes"] = iter(other_bytes(seeds, run))
    if importlib.util.find_spec("onnx") is None:
        del kinds["onnx"]
    totals = {kind: Tally() for kind in kinds}
    with Hunter(seeds) as hunter:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            weights = {kind: SHARES.get(kind, 2.0) for kind in kinds}
            for kind, jobs in kinds.items():
                share = min(20.0, left) * weights[kind] / sum(weights.values())
                totals[kind].join(hunter.examine(jobs, seconds=share))
    with capfd.disabled():
        for kind, tally in totals.items():
            print(f"\nrun {run}, {kind}: {tally}", end="")
        print()
    joined = Tally()
    for tally in totals.values():
        joined.join(tally)
    require_clean(joined, seeds, Path(os.environ.get("DYMN_FUZZ_FOUND") or tmp_path))
