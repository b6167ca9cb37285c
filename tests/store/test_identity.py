"""Files are recognised as git and sha256sum recognise them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from dymn_cli.errors import WeightsMissingError
from dymn_cli.store import identity
from dymn_cli.store.identity import identify


@pytest.mark.parametrize("data", [b"", b"what is up, doc?", b"x" * 5000])
def test_the_hashes_are_those_of_git_and_of_sha256(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "CHUNK", 1000)  # several of them
    path = tmp_path / "x"
    path.write_bytes(data)
    found = identify(path)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.size_bytes == len(data)
    if shutil.which("git"):
        ran = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True)
        assert found.git_blob == ran.stdout.strip()
    if data == b"what is up, doc?":  # the example of Pro Git
        assert found.git_blob == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="gone"):
        identify(tmp_path / "gone")
