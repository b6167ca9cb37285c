"""What is said of clips that were cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dymn_cli.errors import DymnError, InputError, PartialFailure

if TYPE_CHECKING:
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.cutting import CutSummary

__all__ = ["require_clips", "tell"]


def tell(summary: CutSummary, messages: Messages) -> None:
    """Say what was cut and what could not be."""
    from dymn_cli.values import counted

    for failure in summary.failures:
        messages.failure(failure, DymnError(failure.message, hint=failure.hint))
    if summary.n_clips:
        kept = f", {summary.n_kept:,} of them already there" if summary.n_kept else ""
        messages.note(f"{counted(summary.n_clips, 'clip')}{kept}: {summary.table}")
    if summary.n_short:
        messages.warning(f"{counted(summary.n_short, 'event')} too short to cut")
    if summary.n_outdated:
        outdated = counted(summary.n_outdated, "outdated clip")
        messages.warning(
            f"{summary.table} also lists {outdated}, of no event of this run",
            hint="in a new folder, there are clips of this run only",
        )


def require_clips(summary: CutSummary) -> None:
    """Raise what went wrong.

    Raises:
        InputError: no recording could be read.
        PartialFailure: some could not.
    """
    from dymn_cli.values import counted

    if summary.failures:
        failed = f"clips of {counted(len(summary.failures), 'recording')} are missing"
        raise PartialFailure(failed) if summary.n_clips else InputError(f"{failed}; nothing was cut")
