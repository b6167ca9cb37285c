"""Adding to a finished result: `--update` and `--prune`.

The journal of such a run stays beside its result. The next run takes from it what has not changed since,
analyses the rest, and writes the whole result again: so it equals a run that begins anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dymn_cli.errors import OutputError, UsageError
from dymn_cli.remote.uri import is_uri
from dymn_cli.values import counted
from dymn_cli.writers.target import is_there

if TYPE_CHECKING:
    from dymn_cli.batch.journal import Journal
    from dymn_cli.cli.batch_run.places import Places
    from dymn_cli.cli.options.groups import FileOptions, UpdateOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.writers.folder import ResultFolder

__all__ = ["keep_or_prune", "prune_files", "require_known", "require_updatable"]


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
        if is_there(out):
            raise OutputError(
                f"{out}: finished without --update, so nobody knows which files have changed since",
                hint=f"{who} with --force analyses all once more; from then on {who} adds to it",
            )


def keep_or_prune(
    journal: Journal, names: Sequence[str], places: Places, messages: Messages, *, prune: bool
) -> list[str]:
    """The sources that have a result which stays, although they are missing.

    A file that is named itself is missing where it does not exist; with `prune` it fails as in any run.

    Args:
        journal: what is done.
        names: the sources that are given now.
        places: of the result.
        messages: says how many are missing.
        prune: drop their results instead.

    Raises:
        OutputError: every source is missing, as when a disk is missing or names are spelt in another way.
    """
    given = set(names)
    gone = sorted(
        (
            name
            for name in journal.names
            if name not in given or not (prune or is_uri(name) or os.path.lexists(name))
        ),
        key=os.fsencode,
    )
    if gone and len(gone) == len(journal) and not places.force:
        raise OutputError(
            f"{places.folder or places.lists}: none of its {counted(len(gone), 'input')} is among these,"
            f" not even {gone[0]}",
            hint="name them as before, from the same folder; --force drops their results",
        )
    drop = prune or places.force
    if gone:
        what = f"results of {counted(len(gone), 'missing input')}"
        messages.note(f"{what} dropped" if drop else f"{what} kept; --prune drops them")
    if drop:
        journal.forget(gone)
        return []
    journal.keep_gone(gone)
    return gone


def prune_files(journal: Journal, folder: ResultFolder, messages: Messages) -> None:
    """Remove the files of results whose sources are missing, unless somebody has changed them since.

    Raises:
        OutputError: one cannot be removed.
    """
    for path in folder.leftovers(journal.results):
        if journal.is_ours(path):
            folder.remove(path)
        else:
            messages.warning(f"{path}: kept, it is not the file that the earlier run wrote")
