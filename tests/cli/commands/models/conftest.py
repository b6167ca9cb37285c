"""`dymn models` in this process."""

from __future__ import annotations

import pytest

import dymn_cli.doctor.self_test
from dymn_cli.cli.app import run


@pytest.fixture
def without_torch(monkeypatch):
    """As where PyTorch is not installed."""
    monkeypatch.setattr(dymn_cli.doctor.self_test, "find_spec", lambda name: None)


@pytest.fixture
def models(without_torch, capsysbinary):
    """`models("convert", ...)`: in this process, without PyTorch; code, stdout, stderr."""

    def call(*arguments):
        code = run(["models", *map(str, arguments)])
        out, err = capsysbinary.readouterr()
        return code, out.decode(), err.decode()

    return call
