"""When a file counts as complete."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dymn_cli.watching.settling import Settling, is_being_written


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settling(clock: Clock) -> Settling:
    return Settling(2.0, clock=clock)


def write(path: Path, text: str, at_s: float) -> str:
    path.write_text(text)
    os.utime(path, (at_s, at_s))
    return str(path)


def taken(settling: Settling, at_most: int = 9) -> list[str]:
    files = [settling.take() for _ in range(at_most)]
    return [Path(found[0]).name for found in files if found is not None]


def test_a_file_that_grows_slowly_is_taken_once_it_rests(
    settling: Settling, clock: Clock, tmp_path: Path
) -> None:
    for n in range(5):
        settling.see([write(tmp_path / "a.wav", "x" * n, clock.now_s)])
        assert taken(settling) == []
        clock.now_s += 1.5
    assert taken(settling) == []
    clock.now_s += 2.0
    assert taken(settling) == ["a.wav"]
    assert len(settling) == 0


def test_files_are_taken_in_the_order_in_which_they_were_seen(
    settling: Settling, clock: Clock, tmp_path: Path
) -> None:
    settling.see([write(tmp_path / f"{n}.wav", "x", clock.now_s) for n in "312"])
    clock.now_s += 2.0
    assert taken(settling, 2) == ["3.wav", "1.wav"]
    assert taken(settling, 2) == ["2.wav"]


@pytest.mark.parametrize("offset_s", [-86_400, 86_400])
def test_the_date_of_a_file_says_nothing(
    settling: Settling, clock: Clock, tmp_path: Path, offset_s: float
) -> None:
    settling.see([write(tmp_path / "a.wav", "x", clock.now_s + offset_s)])
    assert taken(settling) == []
    clock.now_s += 2.0
    assert taken(settling) == ["a.wav"]


def test_a_file_that_goes_is_forgotten(settling: Settling, clock: Clock, tmp_path: Path) -> None:
    settling.see([write(tmp_path / "a.wav", "x", clock.now_s)])
    (tmp_path / "a.wav").unlink()
    clock.now_s += 9
    assert (taken(settling), len(settling)) == ([], 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_file_that_is_open_for_writing_is_not_complete(
    settling: Settling, clock: Clock, tmp_path: Path
) -> None:
    name = write(tmp_path / "a.wav", "x", clock.now_s - 60)
    with Path(name).open("a"):
        if not is_being_written(name):
            pytest.skip("this file system has no leases")
        settling.see([name])
        clock.now_s += 60
        assert taken(settling) == []
    clock.now_s += 1
    assert taken(settling) == ["a.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_who_opens_a_file_for_writing_while_we_look_does_not_end_the_program(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("x")
    code = """
import fcntl, subprocess, time
from dymn_cli.watching.settling import is_being_written

original = fcntl.fcntl

def call(number, request, value):
    if (request, value) == (fcntl.F_SETLEASE, fcntl.F_UNLCK):
        writers.append(subprocess.Popen(["sh", "-c", "echo y >> a.wav"]))
        time.sleep(0.3)
    return original(number, request, value)

writers = []
fcntl.fcntl = call
is_being_written("a.wav")
print([writer.wait() for writer in writers])
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    if ran.stdout == b"[]\n":
        pytest.skip("this file system has no leases")
    assert (ran.returncode, ran.stdout) == (0, b"[0]\n")


def test_a_file_that_changes_while_it_waits_for_its_turn_must_rest_again(
    settling: Settling, clock: Clock, tmp_path: Path
) -> None:
    settling.see([write(tmp_path / f"{n}.wav", "x", clock.now_s) for n in "12"])
    clock.now_s += 2.0
    assert taken(settling, 1) == ["1.wav"]
    write(tmp_path / "2.wav", "longer", clock.now_s)
    assert taken(settling) == []
    clock.now_s += 2.5
    assert taken(settling) == ["2.wav"]


def test_very_many_files_are_taken_without_looking_at_all_of_them_for_each(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dymn_cli.batch.journal import Stamp

    looks = 0

    def stamp_of(name: str) -> Stamp:
        nonlocal looks
        looks += 1
        return Stamp(1, 0)

    monkeypatch.setattr(Stamp, "of", stamp_of)
    settling = Settling(2.0, clock=clock)
    settling.see(str(tmp_path / str(n)) for n in range(3000))
    clock.now_s += 2.0
    assert len(taken(settling, 3000)) == 3000
    assert looks <= 4 * 3000
