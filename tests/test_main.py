from __future__ import annotations

import subprocess
import sys


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def test_the_package_runs_as_a_module() -> None:
    from dymn_cli import __version__

    done = python("-m", "dymn_cli", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"dymn {__version__}\n", "")
    done = python("-m", "dymn_cli", "tag", "--not-an-option")
    assert done.returncode == 2
    assert done.stderr.startswith("dymn: ")


def test_a_worker_that_imports_the_program_again_imports_little() -> None:
    done = python(
        "-c", "import sys, dymn_cli.__main__; print('typer' in sys.modules, 'numpy' in sys.modules)"
    )
    assert done.stdout.split() == ["False", "False"]
