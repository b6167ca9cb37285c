"""Pulling: what gets a name is the file that was published, converted and tried; else nothing changes."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import checkpoint_of, state_dict
from fuzzing.torchfile import Call, checkpoint, described, pickled
from fuzzing.torchfile import archive as archive_of
from loopback import Web, cut, page, slowly, status

from dymn_cli.errors import (
    ChecksumError,
    ModelError,
    OutputError,
    UnsafeWeightsError,
    UsageError,
    WeightsMissingError,
)
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store import local, registry
from dymn_cli.store import pull as pull_module
from dymn_cli.store.download import Patience
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.identity import identify
from dymn_cli.store.local import pin_of, record_of
from dymn_cli.store.pull import Pulled, Source, pull, source_of
from dymn_cli.store.registry import model_spec, resolve
from dymn_cli.store.weights import read_weights

NAME = "mn01_as"
FILE = "mn01_as_mAP_298.pt"
CONFIG = ARCHITECTURES["mn01"]


class Notes:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def at(self, n_bytes: int, total: int | None) -> None:
        pass


@pytest.fixture(scope="module")
def original() -> bytes:
    """A checkpoint such as is published as mn01_as."""
    return checkpoint_of(CONFIG)


@pytest.fixture(scope="module")
def other() -> bytes:
    """Another one of the same architecture."""
    return checkpoint_of(CONFIG, seed=1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store."""
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the manifest say other things of mn01_as, and of its checkpoint."""

    def change(data: bytes | None = None, *, git: bool = False, **fields: Any) -> None:
        real = registry.model_specs()
        spec = next(spec for spec in real if spec.name == NAME)
        assert spec.checkpoint is not None
        checkpoint = spec.checkpoint
        if data is not None and git:
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            checkpoint = dataclasses.replace(checkpoint, git_blob=blob)
        elif data is not None:
            checkpoint = dataclasses.replace(checkpoint, sha256=hashlib.sha256(data).hexdigest())
        changed = dataclasses.replace(spec, checkpoint=checkpoint, **fields)
        specs = tuple(changed if spec.name == NAME else spec for spec in real)
        monkeypatch.setattr(registry, "model_specs", lambda: specs)

    return change


def get(source: Source | str | Path, name: str = NAME, **options: Any) -> tuple[Pulled, Notes]:
    """Pull without waiting, with a self-test that only reads the file."""
    if isinstance(source, str):
        source = Source(address=source)
    elif isinstance(source, Path):
        source = Source(file=source)
    watch = Notes()
    settings = {"test": read_header, "patience": Patience(5.0, (0.0, 0.0))} | options
    return pull(name, source, watch=watch, **settings), watch


def read_header(file: Path) -> ModelHeader:
    return read_weights(file).header


def files_of(name: str = NAME) -> set[str]:
    folder = local.model_folder(name)
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_a_model_that_is_pulled_can_be_read(web: Web, original: bytes) -> None:
    pulled, _ = get(web.serve(FILE, original))
    weights = read_weights(resolve(NAME))
    assert weights.header.name == NAME
    assert weights.header.config == CONFIG
    assert weights.header.vocabulary.names[0] == "Speech"
    for key, value in state_dict(CONFIG).items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(weights.tensors[key], value)
    sha256 = identify(pulled.spec.path).sha256
    assert weights.sha256 == model_spec(NAME).sha256 == pulled.spec.sha256 == sha256
    assert pulled.checkpoint_sha256 == hashlib.sha256(original).hexdigest()


def test_only_the_model_and_the_hash_of_its_original_are_kept(web: Web, original: bytes) -> None:
    get(web.serve(FILE, original))
    record = record_of(NAME)
    assert record is not None
    assert files_of() == {"record.json", record.file}
    assert record.checkpoint_sha256 == hashlib.sha256(original).hexdigest()
    assert record.checkpoint_from == f"{web.address}/{FILE}"
    assert (record.parameters, record.macs) == (123_783, 18_146_304)


def test_the_original_is_kept_where_that_is_wanted(web: Web, original: bytes) -> None:
    get(web.serve(FILE, original), keep=True)
    assert (local.model_folder(NAME) / FILE).read_bytes() == original


def test_what_is_here_is_not_fetched_again_unless_that_is_asked_for(web: Web, original: bytes) -> None:
    address = web.serve(FILE, original)
    get(address)
    pulled, _ = get(address)
    assert pulled.was_there
    assert len(web.asked) == 1
    pulled, _ = get(address, force=True)
    assert not pulled.was_there
    assert len(web.asked) == 2


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_model_whose_file_is_gone_or_damaged_is_fetched_again(
    damage: str, web: Web, original: bytes
) -> None:
    address = web.serve(FILE, original)
    pulled, _ = get(address)
    if damage == "gone":
        pulled.spec.path.unlink()
    else:
        data = bytearray(pulled.spec.path.read_bytes())
        data[-1] ^= 1
        pulled.spec.path.write_bytes(data)
        with pytest.raises(ChecksumError) as caught:
            read_weights(resolve(NAME))
        assert f"dymn models pull {NAME}" in (caught.value.hint or "")
    assert not get(address)[0].was_there
    assert read_weights(resolve(NAME))


# ---------------------------------------------------------------------- which file it is


@pytest.mark.parametrize("git", [False, True])
def test_a_known_file_is_recognised(git: bool, web: Web, original: bytes, known: Callable[..., None]) -> None:
    known(original, git=git)
    pulled, watch = get(web.serve(FILE, original))
    assert pulled.recognised_by == ("git-blob" if git else "sha256")
    assert watch.notes == []
    assert pin_of(NAME) is None


@pytest.mark.parametrize("git", [False, True])
def test_another_file_is_refused_and_nothing_else_is_touched(
    git: bool, web: Web, original: bytes, other: bytes, known: Callable[..., None]
) -> None:
    known(original, git=git)
    get(web.serve(FILE, original))
    before = {path: path.read_bytes() for path in local.model_folder(NAME).iterdir()}
    web.serve(FILE, other)
    with pytest.raises(ChecksumError, match="is not the published file") as caught:
        get(f"{web.address}/{FILE}", force=True)
    assert "git hash" in caught.value.message if git else "SHA-256" in caught.value.message
    assert {path: path.read_bytes() for path in local.model_folder(NAME).iterdir()} == before
    assert read_weights(resolve(NAME))


def test_a_wrong_part_does_not_spoil_the_next_try(
    web: Web, original: bytes, other: bytes, known: Callable[..., None]
) -> None:
    known(original)
    address = web.serve(FILE, other)
    with pytest.raises(ChecksumError):
        get(address)
    assert files_of() == set()
    web.serve(FILE, original)
    get(address)
    assert web.asked[-1].range is None


def test_the_first_file_of_an_unknown_one_is_pinned_and_the_user_told(web: Web, original: bytes) -> None:
    pulled, watch = get(web.serve(FILE, original))
    assert pulled.recognised_by == "first-seen"
    (line,) = watch.notes
    sha256 = hashlib.sha256(original).hexdigest()
    assert "its hash is not known" in line
    assert sha256[:12] in line
    assert "\n" not in line
    assert pin_of(NAME) == local.Pin(sha256, f"{web.address}/{FILE}")


def test_a_later_change_of_it_is_refused_even_after_it_was_removed(
    web: Web, original: bytes, other: bytes
) -> None:
    address = web.serve(FILE, original)
    get(address)
    with local.locked(NAME, lambda: None):
        local.discard(NAME)
    web.serve(FILE, other)
    with pytest.raises(ChecksumError, match="not the file that was seen first") as caught:
        get(address)
    assert "--repin" in (caught.value.hint or "")
    assert files_of() == set()
    web.serve(FILE, original)
    pulled, watch = get(address)
    assert (pulled.recognised_by, watch.notes) == ("pin", [])


def test_a_change_can_be_accepted(web: Web, original: bytes, other: bytes) -> None:
    address = web.serve(FILE, original)
    get(address)
    web.serve(FILE, other)
    pulled, _ = get(address, force=True, repin=True)
    assert pulled.recognised_by == "first-seen"
    assert pin_of(NAME).sha256 == hashlib.sha256(other).hexdigest()  # type: ignore[union-attr]
    assert len(files_of()) == 2


def test_what_is_no_model_is_not_pinned(web: Web, original: bytes) -> None:
    address = web.serve(FILE, b"PK\x03\x04 and nothing else")
    with pytest.raises(UnsafeWeightsError):
        get(address)
    assert pin_of(NAME) is None
    assert files_of() == set()
    web.serve(FILE, original)
    get(address)


def test_a_checkpoint_that_wants_more_than_tensors_is_refused_by_name(web: Web, tmp_path: Path) -> None:
    entries, storages = described(state_dict(CONFIG))
    harm = archive_of(pickled({**entries, "x": Call("os.system", (f"touch {tmp_path}/harm",))}), storages)
    with pytest.raises(UnsafeWeightsError, match=r"os\.system"):
        get(web.serve(FILE, harm))
    assert not (tmp_path / "harm").exists()
    assert files_of() == set()


def test_a_frame_wise_model_is_pulled_from_the_layout_of_its_release(tmp_path: Path) -> None:
    """Network and heads are modules of their own there, and one of the heads was never trained."""
    tensors = state_dict(ARCHITECTURES["fmn04"])
    tensors |= {key.replace("strong", "weak"): tensors[key] for key in tensors if "strong" in key}
    layout = {f"net.{'' if 'head' in key else 'model.'}{key}": value for key, value in tensors.items()}
    file = tmp_path / "fmn04_strong.pt"
    file.write_bytes(checkpoint(layout))
    pulled, watch = get(file, "fmn04_strong")
    assert pulled.recognised_by == "first-seen"
    assert "hash is not known here" in watch.notes[-1]
    weights = read_weights(resolve("fmn04_strong"))
    assert weights.header.config == ARCHITECTURES["fmn04"]
    assert weights.header.vocabulary.names == Vocabulary.audioset_strong().names
    np.testing.assert_array_equal(weights.tensors["strong_head.weight"], tensors["strong_head.weight"])
    record = record_of("fmn04_strong")
    assert record is not None
    assert (record.architecture, record.parameters, record.macs) == ("fmn04", 688_223, 224_039_808)


def test_a_file_that_is_not_the_known_fmn10_strong_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "fmn10_strong.pt"
    file.write_bytes(b"something else")
    with pytest.raises(ChecksumError, match=r"not 92a5c1dc5aa2…"):
        get(file, "fmn10_strong")
    assert files_of("fmn10_strong") == set()


@pytest.mark.parametrize("architecture", ["mn02", "dymn04"])
def test_a_checkpoint_of_another_architecture_is_refused(architecture: str, web: Web) -> None:
    with pytest.raises(ModelError):
        get(web.serve(FILE, checkpoint_of(ARCHITECTURES[architecture])))
    assert files_of() == set()


def test_a_model_that_fails_its_test_gets_no_name_and_the_old_one_stays(
    web: Web, original: bytes, other: bytes
) -> None:
    address = web.serve(FILE, original)
    get(address)
    sha256 = model_spec(NAME).sha256

    def fail(file: Path) -> ModelHeader:
        assert file.parent == local.model_folder(NAME)
        raise ModelError(f"{file}: answers with NaN")

    web.serve(FILE, other)
    with pytest.raises(ModelError, match=r"^mn01_as: the self-test failed: answers with NaN$"):
        get(address, force=True, repin=True, test=fail)
    assert model_spec(NAME).sha256 == sha256
    assert len(files_of()) == 2
    assert read_weights(resolve(NAME))
    assert pin_of(NAME).sha256 == hashlib.sha256(original).hexdigest()  # type: ignore[union-attr]


# ---------------------------------------------------------------------- variants


def test_a_variant_hears_through_its_own_front_end(
    web: Web, original: bytes, known: Callable[..., None]
) -> None:
    known(hop_ms=15, n_mels=64)
    get(web.serve(FILE, original))
    front_end = read_weights(resolve(NAME)).header.front_end
    assert (front_end.n_hop, front_end.n_mels, front_end.n_window) == (480, 64, 800)


def test_an_imagenet_checkpoint_is_for_embeddings(web: Web) -> None:
    config = dataclasses.replace(ARCHITECTURES["dymn04"].with_classes(1000), temperature=30.0)
    pulled, _ = get(web.serve("dymn04_im.pt", checkpoint_of(config)), "dymn04_im")
    header = read_weights(resolve("dymn04_im")).header
    assert (header.purpose, header.config) == ("embeddings", config)
    assert record_of("dymn04_im").purpose == pulled.spec.purpose == "embeddings"  # type: ignore[union-attr]


# ---------------------------------------------------------------------- where it comes from


def test_it_comes_from_the_release_or_a_mirror_or_where_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = model_spec(NAME)
    monkeypatch.delenv("DYMN_MIRROR", raising=False)
    release = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
    assert source_of(spec) == Source(address=release + FILE)
    for mirror in ("https://mirror.example/models", "https://mirror.example/models/"):
        monkeypatch.setenv("DYMN_MIRROR", mirror)
        assert source_of(spec) == Source(address=f"https://mirror.example/models/{FILE}")
    assert source_of(spec, url="http://here/x") == Source(address="http://here/x")
    assert source_of(spec, file=Path("x.pt")) == Source(file=Path("x.pt"))
    assert source_of(spec, file=tmp_path) == Source(file=tmp_path / FILE)
    monkeypatch.setenv("DYMN_MIRROR", "/mnt/models")
    with pytest.raises(UsageError, match="not the address"):
        source_of(spec)
    with pytest.raises(UsageError, match="exclude"):
        source_of(spec, url="http://here/x", file=Path("x.pt"))
    with pytest.raises(UsageError, match="ships with dymn"):
        source_of(model_spec("dymn04_kd"))


def test_a_file_that_was_carried_by_hand_is_checked_alike(
    tmp_path: Path, original: bytes, other: bytes, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    known(original)
    monkeypatch.setenv("DYMN_OFFLINE", "1")
    (tmp_path / "x.pt").write_bytes(other)
    with pytest.raises(ChecksumError, match="not the published file"):
        get(tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == other  # it is the user's
    (tmp_path / "x.pt").write_bytes(original)
    get(tmp_path / "x.pt")
    assert read_weights(resolve(NAME))
    assert (tmp_path / "x.pt").exists()


def test_a_file_that_is_not_there_or_too_large_is_told(
    tmp_path: Path, original: bytes, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsMissingError, match=r"gone\.pt: no such file"):
        get(tmp_path / "gone.pt")
    monkeypatch.setattr(pull_module, "OVERHEAD", 0)
    known(parameters=100)
    (tmp_path / "x.pt").write_bytes(original)
    with pytest.raises(ChecksumError, match="larger than such a model"):
        get(tmp_path / "x.pt")


def test_offline_says_what_still_works(web: Web, original: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYMN_OFFLINE", "1")
    with pytest.raises(WeightsMissingError, match="DYMN_OFFLINE") as caught:
        get(web.serve(FILE, original))
    assert "--from FILE" in (caught.value.hint or "")
    assert web.asked == []


@pytest.mark.parametrize("step", [status(404), page])
def test_a_file_that_cannot_be_had_leaves_nothing_and_says_how_else(step: Any, web: Web) -> None:
    with pytest.raises(WeightsMissingError, match=rf"^{NAME}: ") as caught:
        get(web.serve(FILE, b"", step))
    assert "--from FILE" in (caught.value.hint or "")
    assert files_of() <= {"download.partial"}
    with pytest.raises(WeightsMissingError, match="not on this machine"):
        resolve(NAME)


# ---------------------------------------------------------------------- interruptions


def test_a_broken_download_is_gone_on_with_by_the_next_pull(web: Web, original: bytes) -> None:
    half = len(original) // 2
    address = web.serve(FILE, original, *[cut(half)] * 3)
    with pytest.raises(WeightsMissingError, match="broke off"):
        get(address)
    assert files_of() == {"download.partial", "download.json"}
    get(address)
    assert web.asked[-1].range == f"bytes={half}-"
    assert read_weights(resolve(NAME))


@pytest.mark.parametrize("moment", ["convert", "save", "test", "adopt"])
def test_an_interruption_anywhere_leaves_the_old_model_and_a_way_on(
    moment: str,
    web: Web,
    original: bytes,
    other: bytes,
    known: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import dymn_cli.store.convert as convert_module

    def interrupt(*args: object, **options: object) -> Any:
        raise KeyboardInterrupt

    known(other)
    get(web.serve(FILE, other))
    sha256 = model_spec(NAME).sha256
    known(original)
    address = web.serve(FILE, original)
    options: dict[str, Any] = {}
    with monkeypatch.context() as patch:
        if moment == "convert":
            patch.setattr(convert_module, "convert", interrupt)
        elif moment == "save":
            patch.setattr(pull_module, "save_weights", interrupt)
        elif moment == "adopt":
            patch.setattr(local, "adopt", interrupt)
        else:
            options["test"] = interrupt
        with pytest.raises(KeyboardInterrupt):
            get(address, force=True, **options)
    assert model_spec(NAME).sha256 == sha256
    assert read_weights(resolve(NAME))
    get(address, force=True)
    assert model_spec(NAME).sha256 != sha256
    assert len(files_of()) == 2


def test_a_known_file_that_had_come_is_not_fetched_again(
    web: Web, original: bytes, known: Callable[..., None]
) -> None:
    def interrupt(file: Path) -> ModelHeader:
        raise KeyboardInterrupt

    known(original)
    address = web.serve(FILE, original)
    with pytest.raises(KeyboardInterrupt):
        get(address, test=interrupt)
    get(address)
    assert len(web.asked) == 1


def test_a_disk_that_is_full_while_converting_keeps_what_came(
    web: Web, original: bytes, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> str:
        raise OutputError("no space left on device")

    known(original)
    address = web.serve(FILE, original)
    with monkeypatch.context() as patch:
        patch.setattr(pull_module, "save_weights", refuse)
        with pytest.raises(OutputError):
            get(address)
    assert files_of() == {FILE}
    get(address)
    assert len(web.asked) == 1


def test_two_pulls_at_once_are_one(web: Web, original: bytes) -> None:
    address = web.serve(FILE, original, slowly(0.03))
    found: dict[str, tuple[Pulled, Notes]] = {}

    def run(which: str) -> None:
        found[which] = get(address)

    threads = [threading.Thread(target=run, args=(which,)) for which in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(pulled.was_there for pulled, _ in found.values()) == [False, True]
    assert len(web.asked) == 1
    (second,) = [watch for pulled, watch in found.values() if pulled.was_there]
    assert "waiting" in second.notes[0]
    assert read_weights(resolve(NAME))


@pytest.mark.parametrize("name", ["dymn04_kd", "nothing"])
def test_what_was_not_published_cannot_be_pulled(name: str) -> None:
    with pytest.raises(UsageError):
        get("https://models.example/x.pt", name)
