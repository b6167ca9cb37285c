"""What ends a command, as one of our errors: one line, a hint, an exit code."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import typer

from dymn_cli.errors import (
    DISK_FULL,
    DymnError,
    InputError,
    ModelError,
    OutputError,
    UsageError,
    is_lack_of_memory,
    os_error_text,
)

__all__ = ["as_dymn_error"]

CANNOT_WRITE = (*DISK_FULL, errno.EIO)


def as_dymn_error(reason: BaseException, arguments: Sequence[str] = ()) -> DymnError:
    """The error of ours that an exception stands for: of Typer, of the operating system, or a bug.

    Args:
        reason: the exception.
        arguments: the command line, in which a file's name may look like an option.
    """
    if isinstance(reason, DymnError):
        return reason
    if isinstance(reason, typer.TyperException):
        error: DymnError = _usage_error(reason, arguments)
    elif is_lack_of_memory(reason):
        error = ModelError("not enough memory", hint="a limit that is set for it, perhaps (ulimit -v)")
    elif isinstance(reason, OSError) and reason.filename is None and reason.errno in CANNOT_WRITE:
        # Files are written where such errors become ours; help and versions go to the stream directly.
        error = OutputError(os_error_text("standard output", reason))
    elif isinstance(reason, FileNotFoundError) and reason.filename is None and not _has_working_folder():
        error = InputError("the working directory is gone", hint="cd to a folder that is there")
    elif isinstance(reason, PermissionError) and reason.filename is not None:
        error = InputError(os_error_text(os.fsdecode(reason.filename), reason))
    else:
        where = "set DYMN_DEBUG=1 for the trace, and please report it"
        error = DymnError(f"a bug in dymn: {type(reason).__name__}: {reason}", hint=where)
    error.__cause__ = reason
    return error


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _usage_error(exc: typer.TyperException, arguments: Sequence[str]) -> UsageError:
    context = getattr(exc, "ctx", None)
    help_line = f"{'dymn' if context is None else context.command_path} --help"
    near = getattr(exc, "possibilities", None)  # of an option that there is not
    message = exc.message if near else _not_the_value(exc) or exc.format_message()
    message = " ".join(message.split()).rstrip(".")
    hint = f"nearest: {', '.join(near[:3])}; {help_line}" if near else help_line
    words = takewhile("--".__ne__, arguments)
    file = next((word for word in words if len(word) > 1 and word[0] == "-" and os.path.lexists(word)), None)
    if file is not None:
        hint = f"a file name? ./{file}, or -- before it"
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _not_the_value(exc: typer.TyperException) -> str | None:
    """Say in words that a value is no number, or out of range; None where the error is another."""
    errors = getattr(exc.__cause__, "errors", None)  # those of pydantic, which Typer checks values with
    if errors is None:
        return None
    problem = errors()[0]
    limits = {"ge": "", "le": "", **problem.get("ctx", {})}
    words = {
        "int": "a whole number",
        "float": "a number",
        "greater_than_equal": f"{limits['ge']} or more",
        "less_than_equal": f"{limits['le']} or less",
    }
    kind = next((kind for kind in words if problem["type"].startswith(kind)), None)
    if kind is None:
        return None
    option = " / ".join(exc.param.opts)  # type: ignore[attr-defined]  # such errors have one
    return f"{option}: {problem['input']!r} is not {words[kind]}"
