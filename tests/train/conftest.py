"""What tests of training share; `teaching.py` makes it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin are in each other's way


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks are done before a second thread has begun."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def teaching() -> ModuleType:
    """The module beside this one: recordings, and a teacher for them."""
    pytest.importorskip("torch")
    if "teaching" not in sys.modules:
        path = Path(__file__).with_name("teaching.py")
        spec = importlib.util.spec_from_file_location("teaching", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["teaching"] = module
        spec.loader.exec_module(module)
    return sys.modules["teaching"]


@pytest.fixture(scope="session")
def sources(teaching: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of forty short recordings from ten sources."""
    return teaching.write_recordings(tmp_path_factory.mktemp("sources"), groups=10, each=4, seconds=0.8)


@pytest.fixture(scope="session")
def teacher(teaching: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MN with twelve classes."""
    return teaching.write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")
