"""The README speaks of what there is, and of all of it."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import sounds

from dymn_cli.cli.app import app
from dymn_cli.datasets.audio_cache import LIMIT_VARIABLE
from dymn_cli.demo import demo_clips
from dymn_cli.tagging.events import EventOptions, default_hop_s, events_of
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger
from dymn_cli.writers import TAG_FORMATS
from dymn_cli.writers.schemas import SCHEMAS

COMMANDS = [
    name
    for name in (
        *(command.name for command in app.registered_commands),
        *(group.name for group in app.registered_groups),
    )
    if name
]


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text("utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown(command: str, readme: str) -> None:
    assert f"dymn {command} " in readme or f"`dymn {command}`" in readme


def test_no_command_is_shown_that_there_is_not(readme: str) -> None:
    shown = set(re.findall(r"(?:^|\| )dymn ([a-z]+)", readme, flags=re.MULTILINE))
    assert shown <= set(COMMANDS)


@pytest.mark.parametrize("name", TAG_FORMATS)
def test_every_format_is_described(name: str, readme: str) -> None:
    assert f"`{name}`" in readme


# ---------------------------------------------------------------------- what is typed in order


def typed(readme: str) -> list[list[str]]:
    """The commands of the README's shell examples, in words, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", readme, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [words for line in lines if "dymn" in (words := shlex.split(line, comments=True))]


def outputs(words: list[str]) -> list[str]:
    """The files that a command is told to write."""
    options = {"-o", "--out", "--out-dir", "--embed", "--write-thresholds", "--plot", ">"}
    names = [value for option, value in itertools.pairwise(words) if option in options]
    if "finetune" in words:  # which it puts beside the model
        stems = [name.removesuffix(".safetensors") for name in names if name.endswith(".safetensors")]
        names += [f"{stem}{ending}" for stem in stems for ending in (".thresholds.csv", ".log.json")]
    return names


def test_no_two_commands_write_one_file(readme: str) -> None:
    commands = typed(readme)
    assert len(commands) > 50
    written: dict[str, str] = {}
    for words in commands:
        for name in outputs(words):
            line = " ".join(words)
            assert "--force" in words or name not in written, f"{written[name]}\n{line}\nboth write {name}"
            written[name] = line
    assert {"tags.csv", "emb.npy", "my.safetensors", "my.thresholds.csv", "eval.png"} <= written.keys()


@pytest.fixture(scope="module")
def siren() -> Path:
    """The clip that the first sample shows."""
    return next(clip.path for clip in demo_clips() if clip.name == "siren")


def test_the_first_sample_is_what_comes(readme: str, siren: Path) -> None:
    (sample,) = re.findall(r"```console\n\$ dymn tag siren\.flac\n(.*?)```", readme, flags=re.DOTALL)
    shown = re.findall(r"^  (\S.*?) +[━╸]+ +([\d.]+)$", sample, flags=re.MULTILINE)
    with Tagger() as tagger:
        tags = tagger.tag(siren).tags
    assert [label for label, _ in shown] == [tag.label for tag in tags]
    assert [float(score) for _, score in shown] == pytest.approx([tag.score for tag in tags], abs=2e-3)


def test_the_first_example_of_events_finds_one(readme: str, siren: Path) -> None:
    words = next(words for words in typed(readme) if words[:2] == ["dymn", "events"])
    label, on = words[words.index("-l") + 1], float(words[words.index("-t") + 1])
    samples, rate_hz = soundfile.read(siren, dtype="float32")
    quiet = sounds.noise(12 * rate_hz, level=1e-4)
    street = np.concatenate([quiet, samples, quiet])
    with Tagger(options=TagOptions(window_s=5, hop_s=default_hop_s(5))) as tagger:
        found = events_of(tagger, (street, rate_hz), EventOptions(on=on, labels=(label,)))
    (event,) = found.events
    assert 8 < event.start_s < 14
    assert event.end_s > event.start_s


def test_the_shipped_network_is_loaded_as_shown(readme: str) -> None:
    torch = pytest.importorskip("torch")
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    (example,) = [block for block in blocks if "restore(" in block]
    made: dict[str, Any] = {}
    exec(example, made)
    assert isinstance(made["network"], torch.nn.Module)
    assert (made["logits"].shape, made["embedding"].shape) == ((1, 527), (1, 384))
    with Tagger() as tagger:
        scores = tagger.tag((np.zeros(320_000, np.float32), 32_000)).scores
    np.testing.assert_allclose(made["logits"].sigmoid().numpy()[0], scores, atol=2e-3)


def test_json_schemas_and_variables_are_spoken_of(readme: str) -> None:
    for name in SCHEMAS:
        assert f"`{name}`" in readme
    assert "CUDA" in readme.partition("## Use")[0]
    assert LIMIT_VARIABLE in readme
