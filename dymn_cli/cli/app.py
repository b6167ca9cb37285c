"""The program `dymn`: its commands, and how it ends.

    0 done · 1 the answer is no · 2 usage · 3 input · 4 model · 5 output · 6 partial · 70 a bug
    130 interrupted

Commands raise; here, and only here, exceptions become one line on stderr and an exit code. A reader of
standard output that goes away (`| head`) is no error.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dymn_cli.cli import demo, doctor, embed, export, info, labels, models, tag
from dymn_cli.cli.console import Talk
from dymn_cli.cli.help import Program
from dymn_cli.cli.params import CONTEXT
from dymn_cli.errors import DymnError, UsageError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "main", "run"]

INTERRUPTED = 130
TERMINATED = 143
BUG = 70

HELP = """What is to be heard in a recording? AudioSet labels, embeddings and tables, offline.

  dymn tag clip.wav
  dymn embed recordings/ --out emb.npy

Each command explains itself: dymn tag -h.
"""

EPILOG = """Environment: DYMN_MODEL, DYMN_BACKEND and DYMN_DEVICE set defaults; DYMN_DEBUG=1 shows traces;
NO_COLOR and FORCE_COLOR are respected. Exit codes: 0 done, 1 the answer is no, 2 usage, 3 input, 4 model,
5 output, 6 some inputs failed, 130 interrupted."""

app = typer.Typer(
    name="dymn",
    cls=Program,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    help=HELP,
    epilog=EPILOG,
)
for module in (tag, embed, labels, models, info, doctor, demo, export):
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
        typer.Option(
            "--version", help="Print the version.", metavar="", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> NoReturn:
    """Entry point of the command `dymn`."""
    # One thread of linear algebra for each of our own: more of them only get in each other's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)
    if "-vv" not in sys.argv[1:]:
        _keep_decoders_quiet()
    code = run(sys.argv[1:])
    _close_stdout()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; whatever goes wrong is told in one line."""
    try:
        code = app(arguments or ["--help"], prog_name="dymn", standalone_mode=False)
    except DymnError as error:
        _talk().error(error)
        return error.exit_code
    except typer.TyperException as exc:
        _talk().error(_usage_error(exc))
        return UsageError.exit_code
    except BrokenPipeError:
        return 0
    except (KeyboardInterrupt, typer.Abort):
        _talk().note("interrupted")
        return INTERRUPTED
    except Exception as exc:
        return _bug(exc)
    return code if isinstance(code, int) else 0


def _usage_error(exc: typer.TyperException) -> UsageError:
    context = getattr(exc, "ctx", None)
    command = context.command_path if context is not None else "dymn"
    message = " ".join(exc.format_message().split()) if hasattr(exc, "format_message") else str(exc)
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=f"{command} --help")


def _bug(exc: Exception) -> int:
    if os.environ.get("DYMN_DEBUG"):
        raise exc
    where = "set DYMN_DEBUG=1 for the trace, and please report it"
    _talk().error(DymnError(f"a bug in dymn: {type(exc).__name__}: {exc}", hint=where))
    return BUG


def _talk() -> Talk:
    """A voice for errors that come before or after a command has one of its own."""
    arguments = sys.argv[1:]
    color = "auto"
    for n, argument in enumerate(arguments):
        if argument == "--color" and n + 1 < len(arguments):
            color = arguments[n + 1]
        elif argument.startswith("--color="):
            color = argument.partition("=")[2]
    verbosity = 2 if "-vv" in arguments else 0
    return Talk(color=color if color in ("auto", "always", "never") else "auto", verbosity=verbosity)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """First Ctrl-C: end in order. Second: at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _terminate(signum: int, frame: FrameType | None) -> None:
    """Leave through the `with` blocks, so that temporary files go."""
    raise SystemExit(TERMINATED)


def _keep_decoders_quiet() -> None:
    """Give file descriptor 2 to nobody: mpg123 writes its own warnings there; ours go to a copy of it."""
    try:
        ours = os.dup(2)
    except OSError:
        return  # started without a standard error
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    sys.stderr = os.fdopen(ours, "w", buffering=1, encoding=encoding, errors=errors)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _close_stdout() -> None:
    """Hand over what is buffered; if nobody reads it any more, say nothing."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, AttributeError, ValueError):
        # What cannot be written would be complained of again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
