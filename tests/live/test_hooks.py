from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from dymn_cli.errors import UsageError
from dymn_cli.live.hooks import MAX_WAITING, Hooks


def test_each_event_is_handed_over_in_order(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = f"import sys; open({str(seen)!r}, 'a').write(sys.stdin.read())"
    hooks = Hooks(f'{sys.executable} -c "{program}"')
    for number in range(3):
        hooks.submit(b"%d\n" % number)
    hooks.close(30)
    assert seen.read_text() == "0\n1\n2\n"
    assert (hooks.n_done, hooks.n_failed, hooks.problems()) == (3, 0, [])


def test_an_event_is_no_part_of_the_command_line(tmp_path: Path) -> None:
    hooks = Hooks(f"touch {tmp_path}/a;b")
    hooks.submit(b"$(touch c)")
    hooks.close(30)
    assert [path.name for path in tmp_path.iterdir()] == ["a;b"]


def test_a_slow_command_holds_nobody_up() -> None:
    hooks = Hooks("sleep 60", timeout_s=60)
    begun = time.monotonic()
    for _ in range(MAX_WAITING + 20):
        hooks.submit(b"{}")
    assert time.monotonic() - begun < 1
    assert hooks.n_dropped >= 19
    hooks.close(0.1)
    assert time.monotonic() - begun < 10
    assert any("slower than the events" in problem for problem in hooks.problems())


@pytest.mark.parametrize("command", ["", "'open", "no-such-program-here -x"])
def test_what_is_no_command_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match="--exec"):
        Hooks(command)
