"""How a file is recognised: its SHA-256 and its git blob hash.

git identifies a file by the SHA-1 of "blob ", its size, a zero byte and its content (Pro Git, "Git Objects").
That is weaker than SHA-256, but for some published files nothing else is known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dymn_cli.errors import WeightsMissingError, os_errors_as

__all__ = ["Identity", "identify"]

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file contains; digests in lower-case hexadecimal."""

    sha256: str
    git_blob: str
    size_bytes: int


def identify(path: Path) -> Identity:
    """Read a file once and hash it.

    Raises:
        WeightsMissingError: it cannot be read.
    """
    sha256 = hashlib.sha256()
    with os_errors_as(WeightsMissingError, path), path.open("rb") as file:
        size = path.stat().st_size
        blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        while chunk := file.read(CHUNK):
            sha256.update(chunk)
            blob.update(chunk)
    return Identity(sha256.hexdigest(), blob.hexdigest(), size)
