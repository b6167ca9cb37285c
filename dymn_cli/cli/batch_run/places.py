"""Where results, journals and lists go, checked before a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.errors import UsageError
from dymn_cli.writers.beside import all_beside, failures_of, warnings_of
from dymn_cli.writers.target import check_target, is_stdout

if TYPE_CHECKING:
    from dymn_cli.cli.options.groups import OutputOptions

__all__ = ["Places", "require_writable"]

JOURNAL_NAME = ".dymn.journal"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run writes.

    Args:
        out: a file or device of all results; None or "-" for standard output.
        folder: of a file for each source, instead.
        format_name: of the files in the folder.
        embeddings: the file of embeddings beside the tags.
    """

    out: str | None
    folder: str | None = None
    format_name: str = ""
    embeddings: str | None = None

    @property
    def journal(self) -> Path | None:
        """The journal: in the folder, or beside the file of results; a stream alone has none."""
        if self.folder is not None:
            return Path(self.folder, JOURNAL_NAME)
        return journal_path(self.out) or journal_path(self.embeddings)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that hold the results of all sources."""
        return tuple(out for out in (self.out, self.embeddings) if out is not None and journal_path(out))

    @property
    def lists(self) -> str | None:
        """What the default names of the lists of failures and of warnings begin with."""
        if self.folder is not None:
            return str(Path(self.folder, "dymn"))
        return self.out if journal_path(self.out) is not None else self.embeddings


def journal_path(out: str | None) -> Path | None:
    """The journal of an output: beside it where it is a file; a stream has none."""
    if out is None or is_stdout(out):
        return None
    path = Path(out)
    return None if path.exists() and not path.is_file() else path.with_name(f"{path.name}.journal")


def require_writable(
    output: OutputOptions, places: Places | None = None, *, failures: str | None = None
) -> None:
    """Say before any work is done that the result could not be written.

    Args:
        output: where to.
        places: likewise, where there is more to say.
        failures: the file that was named for what fails, or None.

    Raises:
        OutputError: it exists and no earlier run can be continued, or its folder cannot be written to.
        UsageError: two places at once for the same results, or one place for two of them.
    """
    from dymn_cli.writers.lists import FAILURES, WARNINGS

    places = places or Places(output.out)
    if places.folder == "":
        raise UsageError("--out-dir is empty", hint="give the name of a folder, or . for this one")
    _require_distinct(places, failures)
    if places.lists is not None:
        WARNINGS.require_replaceable(warnings_of(places.lists))
        if failures is None:
            FAILURES.require_replaceable(failures_of(places.lists))
    if places.folder is not None and output.out is not None:
        raise UsageError("--out and --out-dir are two places for the same results", hint="give one of them")
    if places.embeddings is not None and is_stdout(places.embeddings):
        raise UsageError(f"--embed {places.embeddings!r}", hint="the name of a file, say emb.npy")
    journal = places.journal
    force = output.force or (journal is not None and journal.is_file())
    for out in (None if is_stdout(places.out) else places.out, places.embeddings):
        if out is not None:
            check_target(out, force=force)


def _require_distinct(places: Places, failures: str | None) -> None:
    """No two files of a run may have one name, those that lie beside others included."""
    named = [
        ("--out", None if is_stdout(places.out) else places.out),
        ("--embed", places.embeddings),
        ("--failures", None if failures is None or is_stdout(failures) else failures),
    ]
    seen: dict[str, str] = {}
    for option, out in named:
        if out is None:
            continue
        is_list = option == "--failures"
        journal = journal_path(out)
        beside = () if is_list or journal is None else (str(journal), *all_beside(out))
        for path in (out, *beside):
            other = seen.setdefault(os.path.realpath(path), option)
            is_usual = is_list and path == failures_of(places.lists or "")  # the name that it has anyway
            if other != option and not is_usual:
                raise UsageError(f"{path}: {other} and {option} would both write it", hint="rename one")
