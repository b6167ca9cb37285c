"""The errors of dymn, as one tree.

    DymnError                      70  a bug, unless a subclass says otherwise
    ├── UsageError                  2  the request is wrong: a bad option, an unknown label
    ├── InputError                  3  the audio cannot be used
    │   ├── AudioNotFoundError         no such file, or no permission to read it
    │   ├── UnsupportedAudioError      a format that this installation cannot decode
    │   ├── CorruptAudioError          damaged, or with impossible values
    │   └── EmptyAudioError            no samples, or too few
    ├── ModelError                  4  the model cannot be used
    │   ├── WeightsMissingError        not bundled, not pulled, or no such model
    │   ├── ChecksumError              the file's hash is wrong
    │   ├── UnsafeWeightsError         the file holds more than tensors
    │   └── BackendUnavailableError    the runtime or the device is not available
    ├── OutputError                 5  the result cannot be written
    └── PartialFailure              6  some inputs failed, the others are complete

The number is the exit code of the command line. The message is one line that says what happened and
where; an optional hint says what to do next. Errors of libraries are caught at the boundary and
re-raised `from exc` as one of these.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "DISK_FULL",
    "AudioNotFoundError",
    "BackendUnavailableError",
    "ChecksumError",
    "CorruptAudioError",
    "DymnError",
    "EmptyAudioError",
    "InputError",
    "ModelError",
    "OutputError",
    "PartialFailure",
    "UnsafeWeightsError",
    "UnsupportedAudioError",
    "UsageError",
    "WeightsMissingError",
    "first_line",
    "is_lack_of_memory",
    "os_error_text",
    "os_errors_as",
    "with_hint",
]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WIN_NO_MEMORY = 1455  # ERROR_COMMITMENT_LIMIT: the paging file is too small
NO_MEMORY = ("std::bad_alloc", "failed to map segment")  # in errors of libraries that are being loaded


class DymnError(Exception):
    """Base of every error that dymn raises on purpose.

    Args:
        message: one line: what happened, and to what.
        hint: what the user can do next, or None.
    """

    exit_code: int = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error, hint included, so that a worker process can return it."""
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[DymnError], message: str, hint: str | None) -> DymnError:
    return kind(message, hint=hint)


class UsageError(DymnError):
    """The request itself is wrong: a bad option value, an unknown label, a missing argument."""

    exit_code = 2


class InputError(DymnError):
    """The audio cannot be used."""

    exit_code = 3


class AudioNotFoundError(InputError):
    """No such file, or no permission to read it."""


class UnsupportedAudioError(InputError):
    """A container or codec that this installation cannot decode."""


class CorruptAudioError(InputError):
    """The file is damaged, or holds impossible values (NaN, infinity, absurd rates)."""


class EmptyAudioError(InputError):
    """The source holds no samples, or less than 50 ms of them."""


class ModelError(DymnError):
    """The model cannot be used."""

    exit_code = 4


class WeightsMissingError(ModelError):
    """The model is not on this machine, or there is no model of that name."""


class ChecksumError(ModelError):
    """A file's hash is not the expected one."""


class UnsafeWeightsError(ModelError):
    """A weights file holds more than plain tensors, or its sizes and offsets are inconsistent."""


class BackendUnavailableError(ModelError):
    """The runtime is not installed, or the device is not available."""


class OutputError(DymnError):
    """The result cannot be written: the file exists, the folder is not writable, the disk is full."""

    exit_code = 5


class PartialFailure(DymnError):  # noqa: N818 - it sums up the errors of some inputs
    """Some inputs failed; the results of the others are complete."""

    exit_code = 6


def with_hint(message: str, hint: str | None) -> str:
    """A message and its hint in one line: `x.wav: not audio; try another`."""
    return message if hint is None else f"{message}; {hint}"


def first_line(exc: BaseException) -> str:
    """The first line of a library's error message, or the name of the exception if it has none."""
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)


def is_lack_of_memory(exc: BaseException) -> bool:
    """Whether an exception means that there is not enough memory."""
    if isinstance(exc, ImportError):
        return any(text in str(exc) for text in NO_MEMORY)
    if isinstance(exc, OSError):
        return exc.errno == errno.ENOMEM or getattr(exc, "winerror", None) == WIN_NO_MEMORY
    return isinstance(exc, MemoryError)


def os_error_text(where: object, exc: Exception) -> str:
    """An error of the operating system in one line: `tags.csv: permission denied`.

    Args:
        where: the name of the file, and what failed where that is not clear: `tags.csv: cannot be read`.
        exc: an `OSError`, or what a library raises in its place.
    """
    reason = getattr(exc, "strerror", None)
    return f"{where}: {reason.lower() if reason else str(exc) or type(exc).__name__}"


@contextmanager
def os_errors_as(error: type[DymnError], where: object, hint: str | None = None) -> Iterator[None]:
    """Re-raise errors of the operating system as one of ours.

    Args:
        error: its class.
        where: see `os_error_text`.
        hint: what to do next.

    Raises:
        DymnError: of that class.
    """
    try:
        yield
    except OSError as exc:
        raise error(os_error_text(where, exc), hint=hint) from exc
