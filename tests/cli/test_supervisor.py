"""`--engine ray` runs in a child process: how it ends is told even when Ray, or the system, has ended it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere, Ray runs in the only process")
LIMIT_S = 60.0
BEFORE_HANDLERS = """
from dymn_cli.cli import app as program
caught, handle = program.catch_signals, signal.signal
def handle_late(*handler):
    signal.signal = handle
    os.kill(os.getpid(), {number})
    return handle(*handler)
def catch_signals():
    caught()
    if "DYMN_PARENT" not in os.environ:
        signal.signal = handle_late
program.catch_signals = catch_signals
"""
WITH_THE_CHILD = """
import subprocess
class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), {number})
if "DYMN_PARENT" not in os.environ:
    subprocess.Popen = Popen
"""


@pytest.fixture
def start(dymn: Any) -> Any:
    """`start("raise SystemExit(3)")`: the program, whose run is that code; `before` comes first."""

    def begin(code: str, *arguments: str, before: str = "") -> subprocess.Popen[bytes]:
        program = f"""
import os, signal, sys, time
{before}
from dymn_cli.cli import app
def run(arguments):
{textwrap.indent(code, "    ")}
app.run = run
app.main()
"""
        started: subprocess.Popen[bytes] = dymn._start(
            [sys.executable, "-c", program, "tag", *(arguments or ("--engine", "ray"))],
            process_group=0,  # a job of its own, as a shell has it: the system stops no other one
        )
        return started

    return begin


def until_it_holds(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.05)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    with process:
        out, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, err


@pytest.mark.parametrize("code", [0, 2, 5, 6, 70, 130])
def test_an_exit_code_of_the_run_is_that_of_the_program(start: Any, code: int) -> None:
    assert ended(start(f"print('said', arguments); return {code}")) == (
        code,
        b"said ['tag', '--engine', 'ray']\n",
        b"",
    )


def test_both_spellings_of_the_option_count_and_no_other_engine_does(start: Any) -> None:
    code = "os._exit(1)"
    assert ended(start(code, "--engine=ray"))[0] == 4
    assert ended(start(code, "--engine", "local"))[0] == 1


def test_a_run_that_ray_has_ended_is_told_in_a_line(start: Any) -> None:
    code, _, err = ended(start("os._exit(1)"))
    assert code == 4
    assert err == (
        b"dymn: error: Ray has lost its cluster and ended the run; "
        b"what is done is kept: the same command goes on\n"
    )


def test_a_run_that_the_system_has_killed_is_told_in_a_line(start: Any) -> None:
    code, _, err = ended(start("os.kill(os.getpid(), signal.SIGKILL)"))
    assert code == 4
    assert err.startswith(b"dymn: error: signal 9 has ended the run; ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, b"run the same command to continue"), (signal.SIGTERM, 143, b"")],
)
def test_signals_reach_the_run_and_one_that_ray_breaks_off_is_still_interrupted(
    start: Any, number: int, code: int, said: bytes
) -> None:
    with start(
        "print('ready', flush=True)\ntry:\n    time.sleep(60)\nexcept BaseException:\n    os._exit(1)"
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code
    assert said in err


def test_a_run_that_exits_with_the_number_of_the_signal_was_ended_by_it(start: Any) -> None:
    """As Ray has it while it starts."""
    code = "signal.signal(15, lambda number, frame: sys.exit(number))"
    with start(f"{code}\nprint('ready', flush=True)\ntime.sleep(60)") as process:
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        _, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (143, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("before", [BEFORE_HANDLERS, WITH_THE_CHILD])
def test_a_signal_that_comes_with_the_start_of_the_run_ends_it(
    start: Any, before: str, number: int, code: int
) -> None:
    begun = time.monotonic()
    assert ended(start("time.sleep(50)", before=before.format(number=int(number))))[0] == code
    assert time.monotonic() - begun < 40


def test_the_run_does_not_outlive_the_program(start: Any) -> None:
    with start("print(os.getpid(), flush=True)\ntime.sleep(60)") as process:
        run = int(process.stdout.readline())
        process.kill()
        process.communicate(timeout=10)  # the run has the same standard output, which ends with it
    assert run != process.pid


def test_workers_do_not_take_the_program_for_their_parent(start: Any) -> None:
    _, out, _ = ended(start("print([name for name in os.environ if name == 'DYMN_PARENT']); return 0"))
    assert out == b"[]\n"


def are_stopped(*processes: int) -> list[bool]:
    """By the state that Linux gives, T."""
    stats = (Path(f"/proc/{process}/stat").read_text() for process in processes)
    return [stat.rpartition(")")[2].split()[0] == "T" for stat in stats]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="states are read from /proc")
def test_a_stop_and_a_continuation_reach_the_run(start: Any) -> None:
    """Ctrl-Z and fg; just after it, a signal may go to another thread, and wakes no sleeping one."""
    code = "print(os.getpid(), flush=True)\nfor _ in range(600):\n    time.sleep(0.1)"
    with start(code) as process:
        run = int(process.stdout.readline())
        process.send_signal(signal.SIGTSTP)
        until_it_holds(lambda: all(are_stopped(run, process.pid)))
        process.send_signal(signal.SIGCONT)
        until_it_holds(lambda: not any(are_stopped(run, process.pid)))
        process.terminate()
        process.communicate(timeout=LIMIT_S)
    assert process.returncode == 143
