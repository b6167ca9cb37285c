"""The recipe of the image: what it copies is there, and is not among what the builder leaves out."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

RECIPE = Path(".docker", "Dockerfile")


@pytest.fixture
def lines(repository: Path) -> list[str]:
    """The instructions, one a line."""
    if not (repository / RECIPE).is_file():
        pytest.skip("the source archive has no recipe of the image")
    text = (repository / RECIPE).read_text("utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def copied(lines: list[str]) -> set[str]:
    sources = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    return {source for words in sources for source in words}


def test_the_builder_gets_what_it_copies_and_no_more(repository: Path, lines: list[str]) -> None:
    kept = (repository / ".docker" / "Dockerfile.dockerignore").read_text("utf-8").split()
    assert kept[0] == "*", "all that is not named stays out: .git, environments, recordings"
    assert copied(lines) == {name[1:] for name in kept if name.startswith("!")}
    assert [name for name in copied(lines) if not (repository / name).exists()] == []


def test_the_wheel_has_all_that_it_is_built_from(repository: Path, lines: list[str]) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {project["project"]["readme"], "pyproject.toml", *wheel["packages"], *wheel["force-include"]}
    needed |= {name for name in project["project"]["license-files"] if "/" not in name}
    assert needed <= copied(lines)
    extras = next(line for line in lines if line.startswith("ARG EXTRAS=")).partition("=")[2]
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])


def test_the_image_runs_dymn_as_nobody_in_particular(lines: list[str]) -> None:
    final = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :]
    (user,) = [line for line in final if line.startswith("USER ")]
    assert re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", user), "a number, not root"
    assert 'ENTRYPOINT ["dymn"]' in final
    assert all(fnmatch(line, "FROM python:*-slim*") for line in lines if line.startswith("FROM "))
