"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# As the program does: where several tests run at once, threads of linear algebra wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests import onnxruntime themselves, some before the module that turns its telemetry off.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# A shell without job control starts what runs in the background deaf to Ctrl-C, and so all that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# nohup does the same with the end of a session.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A developer's machine draws a few new examples every time and may find what nobody thought of; where `CI` is
# set, they are many, and the same for everybody, so that a change fails for what it changed.
# `--hypothesis-profile` chooses.
settings.register_profile("dev", deadline=None, max_examples=30)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT / "tests" / "loopback"))
sys.path.append(str(ROOT / "tests"))  # for `sounds`, `fake_model`, `opened_once`, `written`
pytest_plugins = ["loopback", "stores"]  # servers on loopback


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
