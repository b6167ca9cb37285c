"""What is said and how, and what becomes of exceptions; in this process."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dymn_cli.cli.app import app, run
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal, wants_color
from dymn_cli.errors import CorruptAudioError, DymnError, UsageError
from dymn_cli.results import Failure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "DYMN_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("env", "choice", "terminal", "pipe"),
    [
        ({}, "auto", True, False),
        ({"NO_COLOR": ""}, "auto", True, False),
        ({"NO_COLOR": "0"}, "auto", False, False),
        ({"TERM": "dumb"}, "auto", False, False),
        ({"FORCE_COLOR": "1"}, "auto", True, True),
        ({"FORCE_COLOR": ""}, "auto", True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "auto", False, False),
        ({"NO_COLOR": "1"}, "always", True, True),
        ({"FORCE_COLOR": "1"}, "never", False, False),
    ],
)
def test_colour_is_decided_for_each_stream(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], choice: str, terminal: bool, pipe: bool
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert wants_color(Terminal(), choice) is terminal
    assert wants_color(io.StringIO(), choice) is pipe


def test_a_stream_that_is_closed_or_missing_is_no_terminal() -> None:
    closed = Terminal()
    closed.close()
    for stream in (None, io.StringIO()):
        assert not is_terminal(stream)  # type: ignore[arg-type]


def test_an_error_is_one_line_that_says_what_where_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    Messages().error(CorruptAudioError("a\nb.wav: damaged\x1b[31m", hint="try another"))
    assert capsys.readouterr().err == "dymn: error: a\\nb.wav: damaged\\x1b[31m; try another\n"


def test_what_is_quiet_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure("a.wav", "CorruptAudioError", "a.wav: damaged", None, 3)
    for messages in (Messages(quiet=True), Messages(), Messages(verbosity=1)):
        messages.error(DymnError("one"))
        messages.failure(failure)
        messages.warning("two", "do so")
        messages.note("three")
        messages.detail("four")
    error, failed = "dymn: error: one", "dymn: failed: a.wav: damaged"
    usual = [error, failed, "dymn: warning: two; do so", "dymn: three"]
    assert capsys.readouterr().err.splitlines() == [error, failed, *usual, *usual, "dymn: four"]


def test_a_trace_comes_with_vv_or_debug_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(messages: Messages) -> str:
        try:
            raise CorruptAudioError("damaged") from ValueError("the cause")
        except DymnError as error:
            messages.error(error)
        return capsys.readouterr().err

    assert said(Messages(verbosity=1)) == "dymn: error: damaged\n"
    assert "ValueError: the cause" in said(Messages(verbosity=2))
    monkeypatch.setenv("DYMN_DEBUG", "1")
    assert "ValueError: the cause" in said(Messages())


@pytest.mark.parametrize("choices", [{"color": "mauve"}, {"progress_choice": "perhaps"}])
def test_choices_that_there_are_not(choices: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"must be auto, always or never, not '(mauve|perhaps)'"):
        Messages(**choices)  # type: ignore[arg-type]


def test_messages_are_spelled_in_what_the_terminal_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    Messages().note("für \udcff ♫")
    assert raw.getvalue() == b"dymn: f\\xfcr \\xff \\u266b\n"


def test_a_stderr_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "gone")

    monkeypatch.setattr(sys, "stderr", Gone())
    Messages().note("nobody hears this")


def test_a_bar_is_drawn_on_terminals_and_where_results_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def form(messages: Messages, *, shared: bool = False) -> str:
        return type(messages.display(shared_with_results=shared)).__name__

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert form(Messages()) == "Bar"
    assert form(Messages(), shared=True) == "Display"
    assert form(Messages(progress_choice="always"), shared=True) == "Bar"
    assert form(Messages(quiet=True)) == form(Messages(progress_choice="never")) == "Display"
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert form(Messages(progress_choice="always")) == "Lines"
    assert form(Messages()) == "Display", "cron mails every line"
    assert form(Messages(quiet=True)) == form(Messages(progress_choice="never")) == "Display"


def test_a_dumb_terminal_has_a_width_of_its_own(dymn: Any, record: Callable[..., str]) -> None:
    clip, dumb = record("cat.wav", (81, 10)), {"TERM": "dumb"}
    for columns, env in ((50, dumb), (90, dumb), (90, {**dumb, "COLUMNS": "50"})):
        width = int(env.get("COLUMNS", columns))
        tags = dymn.terminal("tag", clip, "-k", 3, columns=columns, env=env).out.splitlines()[-3:]
        assert [len(tag) for tag in tags] == [width] * 3


# ---------------------------------------------------------------------- how a run ends


def ends(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command line that raises."""

    def fail(*args: Any, **options: Any) -> Callable[..., None]:
        raise error

    monkeypatch.setattr("dymn_cli.cli.batch_run.sources.found_sources", fail)
    return run(["tag", "a.wav", "--dry-run"])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CorruptAudioError("a.wav: damaged"), 3, "dymn: error: a.wav: damaged\n"),
        (BrokenPipeError(), 0, ""),
        (KeyboardInterrupt(), 130, "dymn: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 5, "standard output: no space left on device\n"),
        (PermissionError(13, "Permission denied", "x"), 3, "x: permission denied"),
        (EOFError("end"), 70, "a bug in dymn: EOFError: end; set DYMN_DEBUG=1"),
        (ZeroDivisionError("by\nzero"), 70, "a bug in dymn: ZeroDivisionError: by\\nzero; set DYMN_DEBUG=1"),
    ],
)
def test_every_end_has_its_code_and_at_most_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    assert ends(error, monkeypatch) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == (1 if said else 0)
    assert "Traceback" not in err


def test_a_bug_shows_its_trace_on_demand_and_keeps_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYMN_DEBUG", "1")
    assert ends(ZeroDivisionError("by zero"), monkeypatch) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in err
    assert "Traceback (most recent call last):" in err


def test_errors_are_coloured_by_the_option_though_the_command_never_began(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--color", "always"], ["--color=always"]):
        assert run(["tag", "--no-such-option", *words]) == 2
        assert capsys.readouterr().err.startswith("dymn: \x1b[31;1merror\x1b[0m: ")
    assert run(["tag", "--no-such-option", "--color"]) == 2
    assert capsys.readouterr().err.startswith("dymn: error: ")


def test_the_program_is_a_typer_app() -> None:
    assert app.info.name == "dymn"


LONG = "night.flac: no label 'Owls' among those of this model, but many of other animals with some score"


def told(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, columns: int, text: str, color: str
) -> list[str]:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    Messages(color=color).error(UsageError(text))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("color", ["never", "always"])
def test_on_a_terminal_lines_end_between_words(monkeypatch: pytest.MonkeyPatch, color: str) -> None:
    lines = told(monkeypatch, Terminal(), 40, LONG, color)
    plain = [line.replace("\x1b[31;1m", "").replace("\x1b[0m", "") for line in lines]
    assert len(plain) == 3
    assert max(map(len, plain)) <= 40
    assert all(line.startswith("  ") for line in plain[1:])
    assert " ".join(line.strip() for line in plain) == f"dymn: error: {LONG}"
    assert ("\x1b[31;1merror\x1b[0m" in lines[0]) is (color == "always")


def test_a_pipe_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, io.StringIO(), 40, LONG, "never") == [f"dymn: error: {LONG}"]


def test_wide_characters_count_twice_and_paths_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch, Terminal(), 30, "録音録音 録音録音 録音録音 録音録音: gone", "never")
    assert max(sum(2 if ord(char) > 0x2E80 else 1 for char in line) for line in lines) <= 30
    path = "/a/" + "long/" * 12 + "x-y.wav"
    assert any(
        line.strip() == f"{path}:" for line in told(monkeypatch, Terminal(), 40, f"{path}: gone", "never")
    )
