"""Where results, journals and lists go, checked before a run."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import UsageError
from dymn_cli.remote.uri import is_uri
from dymn_cli.store.local import cache_folder
from dymn_cli.writers import BINARY, choose_format
from dymn_cli.writers.beside import all_beside, failures_of, warnings_of
from dymn_cli.writers.target import check_target, is_stdout, require_distinct

if TYPE_CHECKING:
    from dymn_cli.cli.batch_run.analysis import Formats
    from dymn_cli.cli.options.groups import ResultOptions
    from dymn_cli.writers.folder import ResultFolder

__all__ = ["Places", "journal_path"]

JOURNAL_NAME = ".dymn.journal"
JOURNALS = "journals"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run writes, and in which format.

    Args:
        out: a file, device or URI of all results; None or "-" for standard output.
        folder: of a file for each source, instead.
        format_name: of the results.
        embeddings: the file of embeddings beside the tags.
        to_terminal: results are printed on a terminal.
        force: what exists may be replaced.
    """

    out: str | None = None
    folder: str | None = None
    format_name: str = ""
    embeddings: str | None = None
    to_terminal: bool = False
    force: bool = False

    @classmethod
    def choose(cls, output: ResultOptions, formats: Formats, embeddings: str | None = None) -> Places:
        """The places that the options name.

        Raises:
            UsageError: an unknown format, or one that a terminal cannot show.
        """
        to_terminal = output.out_dir is None and is_stdout(output.out) and is_terminal(sys.stdout)
        usual = formats.terminal if to_terminal else formats.pipe
        default = usual if output.out_dir is None else formats.folder
        name = choose_format(output.format, output.out, default=default, formats=formats.names)
        if to_terminal and name in BINARY:
            raise UsageError(
                f"{name} is a binary format, not for a terminal", hint=f"-o {formats.example}.{name}"
            )
        return cls(output.out, output.out_dir, name, embeddings, to_terminal, output.force)

    @property
    def journal(self) -> Path | None:
        """The journal: in the folder, or beside the file of results; a stream alone has none.

        That of a URI is on this machine: in the cache folder, named by the hash of the URI.
        """
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

    def check(self, failures: str | None) -> None:
        """Say before any work is done that the results could not be written.

        Args:
            failures: the file of `--failures`, or None.

        Raises:
            OutputError: a file exists and no earlier run can be continued, or its folder is not writable.
            UsageError: two places for the same results, or one place for two of them.
        """
        from dymn_cli.writers.lists import FAILURES, WARNINGS

        if self.folder == "":
            raise UsageError("--out-dir is empty", hint="give the name of a folder, or . for this one")
        if self.folder is not None and is_uri(self.folder):
            raise UsageError(
                f"--out-dir {self.folder}: a folder is on this machine",
                hint="-o URI takes the results of all inputs",
            )
        is_usual = self.lists is not None and failures == failures_of(self.lists)  # beside --out anyway
        require_distinct(
            {
                "--out": _written_for(self.out),
                "--embed": _written_for(self.embeddings),
                "--failures": (None if is_usual else failures,),
            }
        )
        if self.lists is not None:
            WARNINGS.require_replaceable(warnings_of(self.lists))
            if failures is None:
                FAILURES.require_replaceable(failures_of(self.lists))
        if self.folder is not None and self.out is not None:
            raise UsageError("--out and --out-dir exclude each other", hint="give one of them")
        if self.embeddings is not None and is_stdout(self.embeddings):
            raise UsageError(f"--embed {self.embeddings!r}", hint="the name of a file, say emb.npy")
        journal = self.journal
        self._check_targets(force=self.force or (journal is not None and journal.is_file()))

    def require_free(self, folder: ResultFolder | None) -> None:
        """Say that there is a result already, before the journal that could make it is touched.

        Raises:
            OutputError: there is.
        """
        if folder is not None:
            folder.check()
        self._check_targets(force=False)

    def _check_targets(self, *, force: bool) -> None:
        for out in (None if is_stdout(self.out) else self.out, self.embeddings):
            if out is not None:
                check_target(out, force=force)


def _written_for(out: str | None) -> tuple[str, ...]:
    """An output and all that may lie beside it; a stream is no file."""
    journal = journal_path(out)
    return () if out is None or journal is None else (out, str(journal), *all_beside(out))


def journal_path(out: str | None) -> Path | None:
    """The journal of an output: beside it where it is a file; a stream has none."""
    if out is None or is_stdout(out):
        return None
    if is_uri(out):
        digest = hashlib.sha256(os.fsencode(out)).hexdigest()[:32]
        return cache_folder() / JOURNALS / f"{digest}.journal"
    path = Path(out)
    return None if path.exists() and not path.is_file() else path.with_name(f"{path.name}.journal")
