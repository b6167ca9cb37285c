"""What a run says while it goes on, and how it ends: for every command that goes through many sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dymn_cli.errors import InputError, PartialFailure
from dymn_cli.values import counted
from dymn_cli.writers.beside import failures_of, warnings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dymn_cli.batch.job import Summary
    from dymn_cli.batch.run import Outcome
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.cli.terminal.progress import Tally
    from dymn_cli.results import Failure

__all__ = ["MAX_FAILURES_TOLD", "Watcher", "finish", "save_failures", "save_warnings"]

MAX_FAILURES_TOLD = 20
FEW_FILES = 16
LONG_S = 10.0  # a run that takes longer is summed up, even if it is over a few files


class Watcher:
    """Says what happens while it happens.

    Args:
        messages: where it says so.
        tally: counts.
        single: there is one source only, whose failure is the failure of the run.
        notes_in_result: the written form shows the notes of a source.
        few_failures: only the first failures are told, unless -v asks for all.
        note_level: how often -v has to be given for lines on each source of many.
    """

    def __init__(
        self,
        messages: Messages,
        tally: Tally,
        *,
        single: bool = False,
        notes_in_result: bool = False,
        few_failures: bool = False,
        note_level: int = 1,
    ) -> None:
        self._messages, self._tally = messages, tally
        self._single, self._notes_in_result = single, notes_in_result
        self._max_told = MAX_FAILURES_TOLD if few_failures and not messages.verbosity else None
        self._tells_each = messages.verbosity >= note_level
        self._shows_notes = not notes_in_result and (single or self._tells_each)
        self._n_noted = 0

    def kept(self, name: str) -> None:
        """A source was analysed in an earlier run."""
        self._tally.kept()
        if self._tells_each:
            self._messages.note(f"{name}: was there already")

    def done(self, name: str, summary: Summary) -> None:
        """A source has been analysed."""
        self._tally.advance(name, summary.seconds)
        self._n_noted += bool(summary.warnings)
        if self._shows_notes:
            for text in summary.warnings:
                self._messages.note(f"{name}: {text}")

    def failed(self, failure: Failure) -> None:
        """A source gave nothing."""
        self._tally.advance(failure.source, 0.0, failed=True)
        if self._single:
            return
        if self._max_told is None or self._tally.n_failed <= self._max_told:
            self._messages.failure(failure)
        elif self._tally.n_failed == self._max_told + 1:
            self._messages.note("more failures are only counted; -v shows all")

    def within(self, name: str, seconds: float, of_s: float | None) -> None:
        """So many seconds of a source are done."""
        self._tally.within(name, seconds, of_s)

    def sum_up(self, outcome: Outcome) -> None:
        """Say at the end what is worth knowing of the whole run."""
        say = self._messages.note
        if outcome.n_kept:
            was = "was" if outcome.n_kept == 1 else "were"
            new = "is" if outcome.n_done == 1 else "are"
            say(f"{counted(outcome.n_kept, 'result')} {was} there already, {outcome.n_done} {new} new")
        if self._n_noted and not (self._shows_notes or self._notes_in_result):
            say(f"{self._n_noted} of {outcome.n_done} results carry notes; -v shows them, jsonl holds them")
        n_done, seconds = self._tally.n_done, self._tally.elapsed_s
        if self._tally.audio_s and (n_done > FEW_FILES or (n_done > 1 and seconds > LONG_S)):
            say(self._tally.summary())


def finish(outcome: Outcome, *, alone: bool) -> None:
    """End the command with the exit code of the contract: 130, 6, the failure's own, or 0.

    Args:
        outcome: how the run went.
        alone: there was one source only, whose failure has not been told yet.

    Raises:
        KeyboardInterrupt: the run was interrupted.
        PartialFailure: some sources failed, others did not.
        InputError: nothing could be read.
    """
    if outcome.interrupted:
        raise KeyboardInterrupt
    if not outcome.failures:
        return
    if outcome.n_results and outcome.stopped:
        raise PartialFailure(f"stopped at an input that failed, after {counted(outcome.n_results, 'result')}")
    total = outcome.n_results + len(outcome.failures)
    if outcome.n_results:
        raise PartialFailure(f"{len(outcome.failures)} of {total} inputs failed")
    if total == 1 and alone:
        first = outcome.failures[0]
        error = InputError(first.message, hint=first.hint)
        error.exit_code = first.exit_code
        raise error
    raise InputError("stopped at the first input" if outcome.stopped else "no input could be read")


def save_failures(
    failures: Sequence[Failure],
    named: str | None,
    out: str | None,
    messages: Messages,
    *,
    csv_safe: bool = False,
) -> None:
    """List failures in a file: the one that is named, or OUT.failures.csv beside a file of results.

    A list of an earlier run that has nothing to say any more goes.

    Args:
        failures: what failed.
        named: the file of `--failures`, or None.
        out: the file of results, where there is one.
        messages: says where the list is.
        csv_safe: see `write_failures`.

    Raises:
        OutputError: the list cannot be written.
    """
    from dymn_cli.writers import write_failures
    from dymn_cli.writers.target import remove_target

    beside = None if out is None else failures_of(out)
    path = named or (beside if failures else None)
    if path is not None:
        write_failures(path, failures, force=True, csv_safe=csv_safe)
        if failures:
            messages.note(f"failed inputs are listed in {path}")
    if beside is not None and not failures:
        remove_target(beside)


def save_warnings(
    damage: Mapping[str, tuple[str, ...]], out: str, messages: Messages, *, csv_safe: bool = False
) -> None:
    """List in OUT.warnings.csv what could not be decoded of sources that gave a result.

    Args:
        damage: what is wrong with each source, by its name.
        out: the file of results.
        messages: says where the list is.
        csv_safe: see `write_warnings`.

    Raises:
        OutputError: the list cannot be written.
    """
    from dymn_cli.writers import write_warnings
    from dymn_cli.writers.target import remove_target

    path = warnings_of(out)
    if damage:
        write_warnings(path, damage, force=True, csv_safe=csv_safe)
        messages.note(f"{counted(len(damage), 'input')} could only be read in part: {path}")
    else:
        remove_target(path)
