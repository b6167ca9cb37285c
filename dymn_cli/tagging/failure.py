"""What is told of a source that gave no result."""

from __future__ import annotations

from dymn_cli.errors import DymnError
from dymn_cli.results import Failure

__all__ = ["failure_of"]


def failure_of(source: str, error: DymnError) -> Failure:
    """An error as the record that goes into lists and files."""
    return Failure(source, type(error).__name__, error.message, error.hint, error.exit_code)
