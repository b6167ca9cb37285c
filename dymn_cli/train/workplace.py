"""The working folder of a run: made, and held by one run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dymn_cli.errors import OutputError

__all__ = ["claimed"]


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a working folder, so that no second run writes into it.

    The lock goes with the process, however it ends.

    Raises:
        OutputError: another run holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as exc:
        raise OutputError(
            f"{folder}: another run is training there", hint="wait for it, or --work DIR trains elsewhere"
        ) from exc
    except OSError as exc:
        raise OutputError(f"{folder}: {(exc.strerror or str(exc)).lower()}") from exc
    try:
        yield
    finally:
        lock.release()
