"""The working folder of a run: made, held by one run at a time, and gone on from by the same run only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dymn_cli.errors import OutputError, os_error_text

__all__ = ["claimed", "require_same"]


@contextmanager
def claimed(folder: Path, *, hint: str = "wait for it, or --work DIR trains elsewhere") -> Iterator[None]:
    """Hold a working folder, so that no second run writes into it.

    The lock goes with the process, however it ends.

    Args:
        folder: is made where it is missing.
        hint: what to do where another run holds it.

    Raises:
        OutputError: another run holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as exc:
        raise OutputError(f"{folder}: another run is training there", hint=hint) from exc
    except OSError as exc:
        raise OutputError(os_error_text(folder, exc)) from exc
    try:
        yield
    finally:
        lock.release()


def require_same(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other settings.

    Args:
        folder: where it was begun.
        then: its settings.
        now: the settings of this run.

    Raises:
        OutputError: they differ; it names those that do.
    """
    changed = [key for key, value in now.items() if then.get(key) != value]
    if changed:
        raise OutputError(
            f"{folder} holds a run that differs in {' and '.join(changed).replace('_', ' ')}",
            hint="--no-resume starts over, --work DIR trains elsewhere",
        )
