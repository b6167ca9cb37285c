"""Files appear whole or not at all, and no link that somebody has laid out is written through."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.atomic import Part, atomic_write, remove_parts
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.local import write_whole
from dymn_cli.store.weights import save_weights
from dymn_cli.train.run_log import RunLog

PRECIOUS = b"nobody has asked for this to be replaced"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        (part,) = set(names(tmp_path)) - {"model"}
        assert part.startswith(".dymn-")
    assert names(tmp_path) == ["model"]
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_everything_as_it_was(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    (tmp_path / "old").write_bytes(b"old")
    for name in ("old", "new"):
        with pytest.raises(interruption), atomic_write(tmp_path / name) as file:
            file.write(b"half")
            raise interruption
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


def test_a_link_under_the_final_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(PRECIOUS)
    (tmp_path / "model").symlink_to("precious")
    with atomic_write(tmp_path / "model") as file:
        file.write(b"new")
    assert (tmp_path / "precious").read_bytes() == PRECIOUS
    assert not (tmp_path / "model").is_symlink()


def test_the_hidden_name_cannot_be_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for _ in range(20):
        part = Part(tmp_path / "model")
        seen.update(names(tmp_path))
        part.discard()
    assert len(seen) == 20
    (tmp_path / "precious").write_bytes(PRECIOUS)
    monkeypatch.setattr(os, "urandom", bytes)  # and if it were known, it would have to be free
    part = Part(tmp_path / "model")
    (name,) = [name for name in names(tmp_path) if name.startswith(".dymn")]
    part.discard()
    (tmp_path / name).symlink_to("precious")
    with pytest.raises(FileExistsError):
        Part(tmp_path / "model")
    assert (tmp_path / "precious").read_bytes() == PRECIOUS


def test_leavings_of_killed_processes_go_and_those_of_others_stay(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    part, other = Part(tmp_path / "model"), Part(tmp_path / "log")
    left = tmp_path / names(tmp_path)[0].replace("-", "-0", 1)
    left.touch()
    remove_parts(tmp_path)
    assert len(names(tmp_path)) == 2, "those that are being written"
    part.raw.close()
    with atomic_write(tmp_path / "model"):
        pass
    assert len(names(tmp_path)) == 2
    other.discard()
    assert names(tmp_path) == ["model"]


def a_model(path: Path) -> None:
    header = ModelHeader("m", ARCHITECTURES["mn04"], FrontEndConfig(), Vocabulary.audioset())
    save_weights(path, header, {"a": np.zeros(3, np.float32)})


def a_log(path: Path) -> None:
    RunLog(path).__exit__(None, None, None)


def a_checkpoint(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from dymn_cli.train.state import TrainState, save_state

    model = torch.nn.Linear(1, 1)
    save_state(path, TrainState(model, torch.optim.SGD(model.parameters(), 0.1)), {})


def a_record(path: Path) -> None:
    write_whole(path, "{}")


@pytest.mark.parametrize("write", [a_model, a_log, a_checkpoint, a_record])
def test_nothing_is_written_through_links_beside_or_under_the_name(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(PRECIOUS)
    for name in (".file.partial", ".file.new", "file.partial", "file"):
        (tmp_path / name).symlink_to("precious")
    write(tmp_path / "file")
    assert precious.read_bytes() == PRECIOUS
    assert (tmp_path / "file").stat().st_size != len(PRECIOUS)
