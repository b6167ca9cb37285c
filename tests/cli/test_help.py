"""Help: what every command promises of itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from dymn_cli import __version__
from dymn_cli.cli.app import app

Fake = Callable[..., Any]

ROOT = typer.main.get_command(app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that lead to it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif not command.hidden:
            yield (*path, name), command


COMMANDS = dict(commands())
IDS = [" ".join(words) for words in COMMANDS]


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
def test_each_command_explains_itself_by_a_summary_and_two_examples(
    fake: Fake, words: tuple[str, ...]
) -> None:
    short, long = fake(*words, "-h"), fake(*words, "--help")
    assert (short.returncode, short.stderr) == (0, b"")
    assert short.stdout == long.stdout
    usage, summary, examples, *_ = short.out.split("\n\n")
    assert usage.startswith(f"Usage: dymn {' '.join(words)} ")
    assert re.match(r"[A-Z].*[.:?]$", " ".join(summary.split()))
    lines = examples.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("  ") for line in lines)
    assert any(f"dymn {' '.join(words)}" in line for line in lines)
    assert max(map(len, short.out.splitlines())) <= 100
    assert not re.search(r"--[\w-]*-$", short.out, re.MULTILINE), "an option is torn at the end of a line"
    assert not set("{}") & set(usage)


@pytest.mark.parametrize("words", [("tag",), ("events",), ("embed",), ("watch",), ("report",)], ids=" ".join)
def test_the_help_of_an_analysis_fits_two_screens(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert len(fake(*words, "-h").out.splitlines()) <= 100


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
def test_each_option_is_explained_and_shown(fake: Fake, words: tuple[str, ...]) -> None:
    shown = fake(*words, "-h").out
    for parameter in COMMANDS[words].params:
        if getattr(parameter, "hidden", False):
            continue
        assert parameter.help, parameter.name
        for spelling in parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]:
            assert spelling in shown
        for variable in [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []:
            assert variable in shown
            assert variable.startswith("DYMN_")


def test_one_spelling_takes_the_same_on_every_command() -> None:
    kinds: dict[str, dict[tuple[object, ...], str]] = {}
    for words, command in COMMANDS.items():
        for option in (parameter for parameter in command.params if parameter.param_type_name == "option"):
            kind = (option.is_flag, option.multiple, option.nargs, option.envvar)
            for spelling in option.opts:
                if spelling in ("-m", "--model"):  # one model, or where it can be, several
                    continue
                kinds.setdefault(spelling, {})[kind] = " ".join(words)
    assert {spelling: found for spelling, found in kinds.items() if len(found) > 1} == {}


def test_lists_are_not_read_from_the_environment() -> None:
    for command in COMMANDS.values():
        for parameter in command.params:
            assert not (parameter.multiple or parameter.nargs == -1) or not parameter.envvar


def test_the_program_lists_its_commands_and_its_environment(fake: Fake) -> None:
    ran = fake("--help")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout == fake("-h").stdout == fake().stdout
    for name, command in ROOT.commands.items():
        assert command.hidden or re.search(rf"^  {name}  +[A-Z]", ran.out, re.MULTILINE)
    for variable in ("DYMN_MODEL", "DYMN_BACKEND", "DYMN_DEVICE", "DYMN_DEBUG", "NO_COLOR", "FORCE_COLOR"):
        assert variable in ran.out
    assert "  dymn tag clip.wav\n" in ran.out


def test_the_commands_of_the_contract_are_there() -> None:
    assert {" ".join(words) for words in COMMANDS} >= {
        "tag",
        "embed",
        "labels",
        "models list",
        "models path",
        "models verify",
        "info",
        "doctor",
        "demo",
        "export",
    }


def test_the_version(fake: Fake) -> None:
    ran = fake("--version")
    assert (ran.returncode, ran.out) == (0, f"dymn {__version__}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tga"], "no such command: 'tga'; nearest: tag"),
        (["xyzzy"], "no such command: 'xyzzy'; dymn --help lists them"),
        (["models", "lst"], "no such command: 'lst'; nearest: list"),
        (["--verison"], "no such option: --verison; nearest: --version; dymn --help"),
        (["tag", "--windw", "3"], "no such option: --windw; nearest: --window"),
        (["export"], "missing argument 'MODEL'; dymn export --help"),
    ],
)
def test_what_there_is_not_is_answered_with_the_nearest(fake: Fake, words: list[str], said: str) -> None:
    ran = fake(*words)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.err.startswith(f"dymn: error: {said}")
    assert ran.err.count("\n") == 1


def test_a_file_that_looks_like_an_option_is_told_from_one(fake: Fake, dymn: Any) -> None:
    (dymn.cwd / "-dash.flac").touch()
    ran = fake("tag", "a.wav", "-dash.flac")
    assert (ran.returncode, ran.out) == (2, "")
    assert ran.err == "dymn: error: no such option: -d; a file name? ./-dash.flac, or -- before it\n"
    assert "./-dash.flac" not in fake("tag", "-z", "--", "-dash.flac").err
    assert fake("tag", "--", "-dash.flac").err == "dymn: error: -dash.flac: an empty file\n"


@pytest.mark.parametrize(
    "words",
    [["doctor"], ["demo"], ["bench"], ["labels"], ["finetune", "sounds", "-o", "my.safetensors"]],
    ids=" ".join,
)
def test_a_second_model_is_no_ensemble_where_one_is_taken(fake: Fake, words: list[str]) -> None:
    ran = fake(*words, "-m", "dymn04_kd", "--model", "dymn10_as")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.err == f"dymn: error: dymn {words[0]} takes one model, not 2; give -m once\n"


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["tag", "a.wav", "", "b.wav"], "INPUT"),
        (["info", ""], "INPUT"),
        (["tag", "--files-from", ""], "--files-from"),
        (["events", "a.wav", "--thresholds", ""], "--thresholds"),
        (["tag", "a.wav", "--failures", ""], "--failures"),
        (["embed", "a.wav", "-m", ""], "--model"),
        (["eval", ""], "INPUT"),
        (["eval", "sounds", "--truth", ""], "--truth"),
        (["finetune", "", "-o", "my.safetensors"], "DATA"),
        (["models", "convert", "", "--name", "birds"], "FILE"),
    ],
)
def test_an_empty_text_is_not_taken_for_a_file_or_a_folder(fake: Fake, words: list[str], called: str) -> None:
    ran = fake(*words)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.err.startswith(f"dymn: error: {called} is empty; ")
    assert ran.err.count("\n") == 1


def test_headings_are_plain_in_pipes_and_emphasised_on_terminals(dymn: Any) -> None:
    plain = dymn("tag", "-h").out
    assert "\x1b" not in plain
    drawn = dymn.terminal("tag", "-h", streams="out", columns=80).out
    assert "\x1b[1mOutput\x1b[0m" in drawn
    assert re.sub(r"\x1b\[[0-9;]*m", "", drawn) == plain
