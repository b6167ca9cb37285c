"""A process that outlives Ray.

Ray ends the process that it runs in, without a word and with exit code 1, when it loses its cluster: no
exception, no `finally`. So `--engine ray` runs in a child process, and its parent says what has happened.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from dymn_cli.cli.signals import each_signal
from dymn_cli.errors import BackendUnavailableError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["end_with_parent", "outlive_ray", "wants_ray"]

PARENT = "DYMN_PARENT"  # the end of a pipe whose other end the parent holds
ENDED_BY_RAY = 1  # no analysis ends with it
GRACE_S = 30.0  # to end in order after a signal
CONTINUE = "what is done is kept: the same command goes on"


def wants_ray(arguments: Sequence[str]) -> bool:
    """Whether a command line names the engine, and this process is to be the parent."""
    named = "--engine=ray" in arguments or ("--engine", "ray") in pairwise(arguments)
    return named and os.name == "posix" and PARENT not in os.environ


def end_with_parent() -> None:
    """In a child of `outlive_ray`: end at once when the parent does; elsewhere, do nothing."""
    pipe = os.environ.pop(PARENT, None)  # workers are not to find it
    if pipe is not None:
        threading.Thread(target=_end_at, args=(int(pipe),), daemon=True).start()


def _end_at(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(128 + signal.SIGKILL)


def outlive_ray() -> int:
    """Run this command line again in a child process, pass signals on, and return its exit code.

    Raises:
        BackendUnavailableError: Ray or the system has ended the child.
        KeyboardInterrupt: likewise, after Ctrl-C.
    """
    came: list[int] = []
    run: list[subprocess.Popen[bytes]] = []  # the child, once it is there

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for child in run:
            child.send_signal(number)
            if len(came) == 1:
                timer = threading.Timer(GRACE_S, child.kill)
                timer.daemon = True
                timer.start()

    def pause(number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: stop with the run, and go on with it."""
        for child in run:
            child.send_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, pause)
        for child in run:
            child.send_signal(signal.SIGCONT)

    for number in each_signal():
        signal.signal(number, pass_on)
    if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, pause)
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, PARENT: str(ours)},
        pass_fds=[ours],
        process_group=0,  # a terminal's Ctrl-C comes to this process alone, which passes it on
    ) as child:
        run.append(child)
        if came:  # before there was a child to take it
            child.terminate()
        code = child.wait()
    os.close(ours)
    os.close(theirs)
    if code >= 0 and code != ENDED_BY_RAY and code not in came:  # Ray, while it starts, exits with the signal
        return code
    if signal.SIGINT in came:
        raise KeyboardInterrupt
    if came:
        return 128 + came[0]
    if code < 0:
        raise BackendUnavailableError(f"signal {-code} has ended the run", hint=CONTINUE)
    raise BackendUnavailableError("Ray has lost its cluster and ended the run", hint=CONTINUE)
