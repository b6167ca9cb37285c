"""Adding to a finished result: `--update` and `--prune`.

The journal of such a run stays beside its result. The next run takes from it what has not changed since,
analyses the rest, and writes the whole result again: so it equals a run that begins anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.errors import OutputError, UsageError
from dymn_cli.writers.spelling import counted

if TYPE_CHECKING:
    from dymn_cli.batch.journal import Journal
    from dymn_cli.cli.batch_run.places import Places
    from dymn_cli.cli.options.groups import FileOptions, UpdateOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.writers.folder import ResultFolder

__all__ = ["gone_sources", "keep_or_prune", "prune_files", "require_known", "require_updatable"]


def require_updatable(batch: UpdateOptions, inputs: FileOptions, places: Places) -> None:
    """Refuse options that go with no update, and a result that nothing is known of.

    Raises:
        UsageError: the options exclude each other.
        OutputError: the result was finished without --update.
    """
    if batch.prune and not batch.update:
        raise UsageError("--prune needs --update", hint="--update --prune drops the results of missing files")
    if not batch.update:
        return
    if places.journal is None:
        raise UsageError("--update needs a result to add to", hint="-o FILE or --out-dir DIR")
    if not batch.resume:
        raise UsageError(
            "--update and --no-resume exclude each other", hint="--no-resume --force starts over"
        )
    if batch.shard is not None:
        raise UsageError(
            "--update and --shard exclude each other: a new file moves others to another share",
            hint="update the whole",
        )
    if "-" in inputs.inputs:
        raise UsageError("--update is for files, standard input comes once", hint="save it first")
    require_known(places, "--update")


def require_known(places: Places, who: str) -> None:
    """Refuse a finished result that has no journal.

    Args:
        places: of the result.
        who: would add to it.

    Raises:
        OutputError: there is such a result, and no --force.
    """
    if places.force or (places.journal is not None and places.journal.is_file()):
        return
    for out in places.files:
        if Path(out).is_file():
            raise OutputError(
                f"{out}: finished without --update, so nobody knows which files have changed since",
                hint=f"{who} with --force analyses all once more; from then on {who} adds to it",
            )


def gone_sources(journal: Journal, names: Sequence[str], *, prune: bool) -> list[str]:
    """The sources that have a result but are not there any more, in order.

    A file that is named itself counts as gone where it is missing; with `prune` it fails as in any run.
    """
    given = set(names)
    return sorted(
        (name for name in journal.names if name not in given or (not prune and not os.path.lexists(name))),
        key=os.fsencode,
    )


def keep_or_prune(
    journal: Journal, names: Sequence[str], places: Places, messages: Messages, *, prune: bool
) -> list[str]:
    """The sources that are gone but whose results stay.

    Args:
        journal: what is done.
        names: the sources that are given now.
        places: of the result.
        messages: says how many are gone.
        prune: drop their results instead.

    Raises:
        OutputError: every source is gone, as when a disk is missing or names are spelt in another way.
    """
    gone = gone_sources(journal, names, prune=prune)
    if gone and len(gone) == len(journal) and not places.force:
        raise OutputError(
            f"{places.folder or places.lists}: none of its {counted(len(gone), 'input')} is among these,"
            f" not even {gone[0]}",
            hint="name them as before, from the same folder; --force drops their results",
        )
    what = f"{counted(len(gone), 'input')} {'is' if len(gone) == 1 else 'are'} gone"
    if prune or places.force:
        if gone:
            messages.note(f"{what}; the results are dropped")
        journal.forget(gone)
        return []
    if gone:
        messages.note(f"{what}; the results stay, --prune drops them")
    journal.keep_gone(gone)
    return gone


def prune_files(journal: Journal, folder: ResultFolder, messages: Messages) -> None:
    """Remove the files of results whose sources are gone, unless somebody has changed them since.

    Raises:
        OutputError: one cannot be removed.
    """
    for path in journal.results:
        if os.path.lexists(path) and not folder.has(path):
            if journal.is_ours(path):
                folder.remove(path)
            else:
                messages.warning(f"{path}: stays, it is not the file that the earlier run wrote")
