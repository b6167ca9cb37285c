from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from dymn_cli.cli.hooks import MAX_WAITING_LIVE, Hooks
from dymn_cli.errors import UsageError


def test_each_event_is_handed_over_in_order(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = f"import sys; open({str(seen)!r}, 'a').write(sys.stdin.read())"
    told: list[str] = []
    hooks = Hooks(f'{sys.executable} -c "{program}"', 60, told.append)
    for number in range(3):
        hooks.submit(b"%d\n" % number)
    hooks.close()
    assert seen.read_text() == "0\n1\n2\n"
    assert (hooks.n_done, hooks.n_failed, told) == (3, 0, [])


def test_an_event_is_no_part_of_the_command_line(tmp_path: Path) -> None:
    hooks = Hooks(f"touch {tmp_path}/a;b", 60, print)
    hooks.submit(b"$(touch c)")
    hooks.close(30)
    assert [path.name for path in tmp_path.iterdir()] == ["a;b"]


def test_a_slow_command_holds_nobody_up() -> None:
    told: list[str] = []
    hooks = Hooks("sleep 60", 60, told.append, is_live=True)
    begun = time.monotonic()
    for _ in range(MAX_WAITING_LIVE + 20):
        hooks.submit(b"{}")
    assert time.monotonic() - begun < 1
    assert hooks.n_dropped >= 19
    hooks.close(0.1)
    assert time.monotonic() - begun < 10
    assert any("slower than the events" in problem for problem in told)


@pytest.mark.parametrize(("n", "left"), [(1, ""), (2, ", 1 event not handed over")])
def test_what_is_left_in_the_end_is_counted(n: int, left: str) -> None:
    told: list[str] = []
    hooks = Hooks("sleep 60", 60, told.append)
    for _ in range(n):
        hooks.submit(b"{}")
    while hooks.n_waiting >= n:  # until the first runs
        time.sleep(0.01)
    hooks.close(0.1)
    assert told[-1] == f"--exec was still running{left}"


@pytest.mark.parametrize("command", ["", "'open", "no-such-program-here -x"])
def test_what_is_no_command_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match="--exec"):
        Hooks(command, 60, print)
