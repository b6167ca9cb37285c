"""The program `dymn`: its commands, and how it ends.

    0 done · 1 the answer is no · 2 usage · 3 input · 4 model · 5 output · 6 partial · 70 a bug
    130 interrupted

Commands raise; here, and only here, exceptions become one line on stderr and an exit code. A reader of
standard output that goes away (`| head`) is no error.
"""

from __future__ import annotations

import functools
import mmap
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, TextIO

import typer

from dymn_cli.cli.commands import (
    bench,
    convert,
    cut,
    demo,
    distill,
    doctor,
    duplicates,
    embed,
    events,
    export,
    finetune,
    info,
    labels,
    listen,
    merge,
    models,
    plot,
    report,
    schema,
    search,
    tag,
    watch,
)
from dymn_cli.cli.commands import eval as eval_
from dymn_cli.cli.errors import as_dymn_error
from dymn_cli.cli.options.command import CONTEXT, Program
from dymn_cli.cli.options.declare import flag
from dymn_cli.cli.signals import catch_signals, told_to_end
from dymn_cli.cli.supervisor import end_with_parent, outlive_ray, wants_ray
from dymn_cli.cli.terminal.messages import CHOICES, Messages
from dymn_cli.errors import DymnError

__all__ = ["app", "main", "run"]

INTERRUPTED = 130
LOADED_BYTES = 96 << 20  # of address space that NumPy takes, rounded up

HELP = """Tag audio from the shell: AudioSet labels, sound events and embeddings, offline.

  dymn tag clip.wav
  dymn embed recordings/ --out emb.npy

Help for a command: dymn tag -h.
"""

EPILOG = """Environment: DYMN_MODEL, DYMN_BACKEND, DYMN_DEVICE and DYMN_JOBS set defaults; DYMN_HOME is the
folder of pulled models, DYMN_MIRROR the address they come from; DYMN_OFFLINE=1 forbids the network;
DYMN_CACHE_GB limits the decoded audio that training keeps; DYMN_DEBUG=1 shows traces; NO_COLOR and
FORCE_COLOR are respected. Exit codes: 0 done, 1 the answer is no, 2 usage, 3 input, 4 model, 5 output, 6
some inputs failed, 70 a bug, 130 interrupted, 143 terminated."""


GROUPS = {
    "Analyse": ("tag", "events", "embed", "listen", "watch", "info"),
    "Use results": ("convert", "cut", "report", "plot", "merge", "search", "duplicates"),
    "Train": ("finetune", "eval", "distill"),
    "Models": ("models", "export", "labels"),
    "This installation": ("doctor", "bench", "demo", "schema"),
}  # fmt: skip


class _Root(Program):
    """The program, whose end is ours to decide: Typer exits 1 on a broken pipe and is silent on Ctrl-C."""

    groups = GROUPS

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the options of the program."""
        with _past_typer():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _past_typer():
            _require_memory()
            return super().invoke(ctx)


class _PastTyperError(Exception):
    """Carries an exception that Typer would act on to those who know better."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def _require_memory() -> None:
    """See that NumPy can be loaded: without room, its OpenBLAS ends the process without an exception."""
    mmap.mmap(-1, LOADED_BYTES).close()


@contextmanager
def _past_typer() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, OSError, EOFError) as exc:
        raise _PastTyperError(exc) from exc


app = typer.Typer(
    name="dymn",
    cls=_Root,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    help=HELP,
    epilog=EPILOG,
)
COMMANDS = (
    tag, events, embed, listen, watch, convert, search, duplicates, cut, report, plot, merge, info, finetune,
    eval_, distill,
    models, export, labels, doctor, bench, demo, schema,
)  # fmt: skip
for module in COMMANDS:
    module.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from dymn_cli import __version__

        typer.echo(f"dymn {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        flag("--version", "Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> NoReturn:
    """Entry point of the command `dymn`."""
    # One thread of linear algebra for each of our own: more of them only get in each other's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _claim_streams()
    catch_signals()
    if wants_ray(sys.argv[1:]):
        sys.exit(_outlive_ray(sys.argv[1:]))
    end_with_parent()
    if _verbosity(sys.argv[1:]) < 2 and not os.environ.get("DYMN_DEBUG"):
        _keep_decoders_quiet()
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            _let_go(stream)
    sys.exit(code)


def _outlive_ray(arguments: list[str]) -> int:
    """Run the command line in a child process, and say what Ray does not."""
    try:
        return outlive_ray()
    except DymnError as error:
        return _end(error, arguments)
    except KeyboardInterrupt as exc:
        _messages(arguments).note("what is done is kept; run the same command to continue")
        return _end(exc, arguments)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; whatever goes wrong is told in one line."""
    try:
        code = _command_line()(arguments or ["--help"], prog_name="dymn", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as exc:
        return _end(exc.reason if isinstance(exc, _PastTyperError) else exc, arguments)
    return code if isinstance(code, int) else 0


@functools.cache
def _command_line() -> Any:
    """All commands with their options; a process that runs several command lines makes them once."""
    return typer.main.get_command(app)


def _end(reason: BaseException, arguments: list[str]) -> int:
    """Say why the run ended, and return the exit code for it."""
    messages = _messages(arguments)
    if isinstance(reason, BrokenPipeError):
        return 0
    if isinstance(reason, KeyboardInterrupt | typer.Abort):
        messages.note("interrupted")
        return INTERRUPTED
    error = as_dymn_error(reason, arguments)
    number = told_to_end()
    if number is not None and error.exit_code == DymnError.exit_code:  # no bug: its exception was lost
        if number == signal.SIGINT:
            messages.note("interrupted")
        return 128 + number
    messages.error(error)
    return error.exit_code


def _messages(arguments: list[str]) -> Messages:
    """A voice for errors that come before or after a command has one of its own."""
    color = "auto"
    for n, argument in enumerate(arguments):
        if argument == "--color" and n + 1 < len(arguments):
            color = arguments[n + 1]
        elif argument.startswith("--color="):
            color = argument.partition("=")[2]
    return Messages(color=color if color in CHOICES else "auto", verbosity=_verbosity(arguments))


def _verbosity(arguments: list[str]) -> int:
    """How often -v is given."""
    return sum({"-v": 1, "--verbose": 1, "-vv": 2}.get(argument, 0) for argument in arguments)


def _claim_streams() -> None:
    """Open nothing in place of standard streams that were closed by whoever started us.

    Else the next file to be opened, say the output, gets the number of one of them, and with it whatever a
    library writes there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123, SIM115


def _keep_decoders_quiet() -> None:
    """Give file descriptor 2 to nobody: mpg123 writes its own warnings there; ours go to a copy of it."""
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding, errors=errors)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _let_go(stream: TextIO) -> None:
    """Drop what a stream could not write: the interpreter would complain of it again at its end."""
    try:
        stream.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
