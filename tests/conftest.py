"""Fixtures that every part of the suite may use."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that these tests belong to."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference outputs and real clips, which lie beside the maintainers' checkouts only."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("needs the maintainers' folder of reference outputs beside the checkout")
    return folder
