"""The fuzz suite: how long it runs, and the processes and files that it runs on.

python -m pytest tests/fuzz                                         about half a minute, always the same
DYMN_FUZZ_SECONDS=600 python -m pytest tests/fuzz -m fuzz_long -s   ten minutes, other mutants each time
DYMN_FUZZ_SECONDS=600 DYMN_FUZZ_RUN=42 ...                          the mutants of run 42 again
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the worker's code, which is no test module

SECONDS = "DYMN_FUZZ_SECONDS"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"fuzz_long: runs as long as {SECONDS} says; not at all without it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long run out unless it is asked for."""
    if os.environ.get(SECONDS):
        return
    long = [item for item in items if item.get_closest_marker("fuzz_long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sound files of every kind, which mutants are made of."""
    if os.name == "nt":
        pytest.skip("limits of memory and inherited descriptors are those of POSIX")
    from fuzzing.seeds import write_seeds

    folder = tmp_path_factory.mktemp("seeds")
    write_seeds(folder)
    return folder


@pytest.fixture(scope="module")
def hunter(seeds: Path) -> Iterator[object]:
    """A watched worker process."""
    from fuzzing.hunt import Hunter

    with Hunter(seeds) as hunter:
        yield hunter
