"""What is said and how: colours decided per stream, one line an error, progress on stderr."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TextIO
from unicodedata import east_asian_width

from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.panels import MESSAGES
from dymn_cli.cli.terminal.progress import BAR_WIDTH, Bar, Display, Lines, Tally
from dymn_cli.cli.terminal.streams import DUMB, is_terminal, wants_color
from dymn_cli.errors import DymnError, with_hint
from dymn_cli.values import require_choice

if TYPE_CHECKING:
    from rich.console import Console

    from dymn_cli.results import Failure

__all__ = ["CHOICES", "Messages"]

CHOICES = ("auto", "always", "never")
FEWEST_COLUMNS = 20  # below, lines are left to the terminal
FILLER = "\ufdd0"


def _wrapped(line: str, stream: TextIO) -> str:
    """A line as it is; on a terminal in several, broken between words where it would break within them."""
    if not is_terminal(stream):
        return line
    n_columns = shutil.get_terminal_size().columns
    with contextlib.suppress(OSError, ValueError):  # a stand-in for a terminal has no size of its own
        n_columns = os.get_terminal_size(stream.fileno()).columns or n_columns
    if n_columns < FEWEST_COLUMNS or (len(line) <= n_columns and line.isascii()):
        return line
    import textwrap

    # Wide characters take two columns: a filler that no text may hold stands for the second one.
    measured = "".join(f"{char}{FILLER}" if east_asian_width(char) in "WF" else char for char in line)
    wrapped = textwrap.fill(
        measured,
        n_columns,
        subsequent_indent="  ",
        break_long_words=False,  # a path, which one may want to copy
        break_on_hyphens=False,
        expand_tabs=False,
        replace_whitespace=False,
    )
    return wrapped.replace(FILLER, "")


@dataclass(frozen=True, slots=True)
class Messages:
    """What one run of the program says on stderr, and how: a group of options that every command takes.

    Raises:
        UsageError: a choice that there is not.
    """

    quiet: Annotated[bool, flag("-q --quiet", "Only errors.", MESSAGES)] = False
    verbosity: Annotated[
        int,
        flag(
            "-v --verbose",
            "More; -vv adds traces of errors.",
            MESSAGES,
            count=True,
            show_default=False,
        ),
    ] = 0
    color: Annotated[str, opt("--color", "auto|always|never", "Colours.", MESSAGES)] = "auto"
    progress_choice: Annotated[
        str,
        opt("--progress", "auto|always|never", "Bar; always: in logs too.", MESSAGES),
    ] = "auto"

    def __post_init__(self) -> None:
        for name, value in (("--color", self.color), ("--progress", self.progress_choice)):
            require_choice(name, value, CHOICES)

    # ------------------------------------------------------------------ lines

    def error(self, error: DymnError) -> None:
        """One line: what, where, what to do next; with a trace where it was asked for."""
        self._line("error", error.message, error.hint, "31;1")
        self._trace(error)

    def failure(self, failure: Failure, error: DymnError | None = None) -> None:
        """One line for a source that gave nothing; its message names the source."""
        self._line("failed", failure.message, failure.hint, "31;1")
        if error is not None:
            self._trace(error)

    def warning(self, text: str, hint: str | None = None) -> None:
        """Worth knowing, and not asked for with -q."""
        if not self.quiet:
            self._line("warning", text, hint, "33;1")

    def note(self, text: str) -> None:
        """Plain information."""
        if not self.quiet:
            self._line("", text, None, "")

    def detail(self, text: str) -> None:
        """Information for those who asked for more."""
        if self.verbosity:
            self.note(text)

    def _trace(self, error: DymnError) -> None:
        if self.verbosity >= 2 or os.environ.get("DYMN_DEBUG"):
            traceback.print_exception(error, file=sys.stderr)

    def _line(self, kind: str, text: str, hint: str | None, style: str) -> None:
        from dymn_cli.writers.spelling import visible

        stream = sys.stderr
        text = visible(with_hint(text, hint), stream.encoding or "utf-8")
        head = f"dymn: {kind}: " if kind else "dymn: "
        line = _wrapped(head + text, stream)
        if kind and wants_color(stream, self.color):
            line = line.replace(kind, f"\x1b[{style}m{kind}\x1b[0m", 1)
        try:
            stream.write(f"{line}\n")
            stream.flush()
        except (OSError, ValueError):
            pass  # stderr is gone: there is nobody left to tell

    # ------------------------------------------------------------------ drawing

    def stdout_console(self) -> Console:
        """For tables on standard output."""
        from rich.console import Console

        color = wants_color(sys.stdout, self.color)
        # Of a terminal that calls itself dumb, rich takes 80 columns for granted.
        size = shutil.get_terminal_size() if os.environ.get("TERM") in DUMB else None
        return Console(
            file=sys.stdout,
            width=None if size is None else size.columns,
            height=None if size is None else size.lines,
            force_terminal=color or None,
            no_color=not color,
            color_system="standard" if color else None,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def display(
        self, *, shared_with_results: bool = False, in_logs: bool = False, bar_width: int = BAR_WIDTH
    ) -> Display:
        """What shows progress on stderr: a bar on a terminal, in a log lines or nothing.

        Args:
            shared_with_results: results go to the same terminal, where a bar would be in their way.
            in_logs: lines go into a log unasked; cron mails every one of them.
            bar_width: of the bar.
        """
        if self.quiet or self.progress_choice == "never":
            return Display()
        if not is_terminal(sys.stderr):
            return Lines(self.note) if in_logs or self.progress_choice == "always" else Display()
        if shared_with_results and self.progress_choice == "auto":
            return Display()
        return Bar(color=wants_color(sys.stderr, self.color), width=bar_width)

    def progress(self, total: int | None, *, shared_with_results: bool) -> Tally:
        """Counts files and audio, and shows it; in a `with` statement."""
        return Tally(total, self.display(shared_with_results=shared_with_results))
