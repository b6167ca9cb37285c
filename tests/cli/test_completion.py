"""Completion in bash: the script that Typer writes, and what the program then answers."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="completion is tried in bash")

MAIN = "from dymn_cli.__main__ import main; main()"


@pytest.fixture
def complete(dymn, tmp_path):
    """What bash would offer for the last of some words, by running the script that `dymn` prints."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "dymn"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(MAIN)} "$@"\n')
    program.chmod(0o755)

    def offers(*words: str) -> list[str]:
        script = f"""
            eval "$(_DYMN_COMPLETE=source_bash dymn)"
            COMP_WORDS=({shlex.join(words)})
            COMP_CWORD={len(words) - 1}
            _dymn_completion dymn
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        ran = subprocess.run(
            ["bash", "--norc", "-c", script],
            capture_output=True,
            env=dymn.env | {"PATH": f"{folder}:{dymn.env['PATH']}"},
            cwd=dymn.cwd,
            timeout=60,
            check=True,
        )
        assert ran.stderr == b""
        return ran.stdout.decode().split("\n")[:-1]

    return offers


def test_commands_are_completed(complete):
    assert complete("dymn", "la") == ["labels"]
    assert set(complete("dymn", "models", "")) >= {"list", "path", "verify"}


def test_options_are_completed(complete):
    assert complete("dymn", "tag", "--back") == ["--backend"]


def test_labels_are_completed_as_slugs_which_need_no_quotes(complete):
    assert complete("dymn", "tag", "-l", "subw") == ["subway-metro-underground"]
    assert complete("dymn", "tag", "--label", "subway-metro-und") == ["subway-metro-underground"]


def test_names_of_one_word_are_completed(complete):
    assert complete("dymn", "events", "-l", "Sire") == ["Siren"]


def test_formats_are_completed_for_the_command(complete):
    assert complete("dymn", "tag", "-f", "js") == ["json", "jsonl"]
    assert complete("dymn", "embed", "--format", "n") == ["npy"]
    assert complete("dymn", "tag", "-f", "n") in ([], [""])


def test_models_are_completed_and_paths_left_to_the_shell(complete):
    assert "dymn04_kd" in complete("dymn", "tag", "-m", "dymn")
    assert complete("dymn", "tag", "-m", "./mod") in ([], [""])
