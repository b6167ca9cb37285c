"""The models that the user has fetched or added: where they lie, and what is known of each.

    DYMN_HOME/
        models/NAME/record.json              what the model is; while it is there, so is the model
        models/NAME/NAME-<hash>.safetensors  its file, or .onnx; the hash is the start of its SHA-256
        models/NAME/<published name>.pt      the original, where it was asked to be kept
        models/NAME/download.partial         a download that has not finished; download.json says of what
        pins/NAME.json                       which checkpoint was seen first, where none is known
        locks/NAME.lock                      held by the process that is changing models/NAME

A model is put in place by replacing its record, after its file is complete under a name of its own: so
another process sees the old model or the new one, and one that is killed half-way leaves the old one. Files
that no record names are leavings; the next change of that model removes them. Pins outlive their model on
purpose: a checkpoint that has changed since is noticed even by who removed the model in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import ModelError, OutputError, UsageError, os_error_text

__all__ = [
    "Origin",
    "Pin",
    "Record",
    "adopt",
    "cache_folder",
    "check_name",
    "discard",
    "locked",
    "model_folder",
    "own_names",
    "pin_of",
    "record_of",
    "save_pin",
]

RECORD = "record.json"
RECORD_SCHEMA = "dymn.model-record/1"
PIN_SCHEMA = "dymn.pin/1"
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names that mean no file on Windows
LARGEST_RECORD = 1 << 20

Origin = Literal["published", "own"]


def cache_folder() -> Path:
    """Where files that can be fetched again are kept: DYMN_HOME, else the platform's cache folder.

    It need not exist.
    """
    home = os.environ.get("DYMN_HOME")
    if home:
        return Path(home).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("dymn", appauthor=False)


def model_folder(name: str) -> Path:
    """The folder of a model; it need not exist."""
    return cache_folder() / "models" / name


def check_name(name: str) -> None:
    """Refuse names that could be taken for a path or would be another file on another system.

    Raises:
        UsageError: it is none for a model.
    """
    if NAME.fullmatch(name) is None or name.endswith(".") or DEVICES.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a model",
            hint="up to 64 of a-z, 0-9, '_', '-' and '.', beginning with a letter or a digit",
        )


# ---------------------------------------------------------------------- records


@dataclass(frozen=True, slots=True)
class Record:
    """What the store knows of a model that is there.

    Args:
        name: of the model, and of its folder.
        origin: "published", fetched by the name that the manifest gives it; "own", added by the user.
        file: name of its file in its folder.
        sha256: of that file.
        size_bytes: of that file.
        checkpoint_sha256: of the file that it was made from.
        checkpoint_from: where that came from: an address, or a file name.
        recognised_by: how the checkpoint was recognised: "sha256", "git-blob", "pin", "first-seen", or
            "user" where it is the user's own.
        architecture: name in `dymn_cli.model.config.ARCHITECTURES`, or "custom".
        n_classes: outputs of the network.
        purpose: "tags", or "embeddings" where the classes are no sounds.
        hop_ms: from one frame of its log-mel to the next; 0 where that is no whole number.
        n_mels: bands of its log-mel.
        parameters: number of trained values.
        macs: multiply-accumulates for 10 s of audio.
        embedding_size: values in an embedding.
        temperature: of the Dy-Conv attention.
        kept: name of the original checkpoint in the folder, or "".
    """

    name: str
    origin: Origin
    file: str
    sha256: str
    size_bytes: int
    checkpoint_sha256: str
    checkpoint_from: str
    recognised_by: str
    architecture: str
    n_classes: int
    purpose: str
    hop_ms: int
    n_mels: int
    parameters: int
    macs: int
    embedding_size: int
    temperature: float
    kept: str = ""

    @property
    def path(self) -> Path:
        """Its file; it is not checked."""
        return model_folder(self.name) / self.file

    def to_json(self) -> str:
        """As it is written."""
        return json.dumps({"schema": RECORD_SCHEMA, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> Self:
        """Read what `to_json` wrote for the model of that name.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        fields: dict[str, Any] = json.loads(text)
        if fields.pop("schema") != RECORD_SCHEMA:
            raise ValueError("written by another version of dymn")
        record = cls(**fields)
        for key, kind in cls.__annotations__.items():
            wanted: Any = {"int": int, "float": (int, float)}.get(str(kind), str)
            if isinstance(value := fields.get(key, ""), bool) or not isinstance(value, wanted):
                raise TypeError(f"{key} is {value!r}")
        if record.name != name or record.origin not in ("published", "own"):
            raise ValueError("it is that of another model")
        if SHA256.fullmatch(record.sha256) is None or not _is_plain(record.file):
            raise ValueError("its file or hash is none")
        return record


def _is_plain(file: str) -> bool:
    """Whether a file name stays in its folder, whatever system reads it."""
    return bool(file) and not file.startswith(".") and not set(file) & set('/\\:\0"<>|?*')


def record_of(name: str) -> Record | None:
    """What is known of a model that is there; None where it is not.

    Raises:
        ModelError: its record is damaged.
    """
    if NAME.fullmatch(name) is None:
        return None
    path = model_folder(name) / RECORD
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_RECORD).decode("utf-8")
        return Record.from_json(text, name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
        raise ModelError(
            f"{path}: not a readable record of a model",
            hint=f"dymn models remove {name}, then pull or convert it again",
        ) from exc


def own_names() -> tuple[str, ...]:
    """Names of the models that have a record, in order; whether it is sound is not looked at."""
    with contextlib.suppress(OSError):
        folders = sorted((cache_folder() / "models").iterdir())
        return tuple(path.name for path in folders if NAME.fullmatch(path.name) and (path / RECORD).is_file())
    return ()


# ---------------------------------------------------------------------- changes


@contextmanager
def locked(name: str, waiting: Callable[[], None]) -> Iterator[Path]:
    """Hold a model's folder for this process alone, and make it; others wait for their turn.

    Args:
        name: of the model.
        waiting: is called once if another process holds it.

    Raises:
        OutputError: the store cannot be written to.
    """
    from filelock import FileLock, Timeout

    folder, locks = model_folder(name), cache_folder() / "locks"
    with os_errors(locks):
        locks.mkdir(parents=True, exist_ok=True)
        _require_own(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire()
    try:
        with os_errors(folder):
            _require_own(folder)
            folder.mkdir(exist_ok=True)  # who held it before may have removed it
        yield folder
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing came of it


def _require_own(folder: Path) -> None:
    """Refuse a model's folder that is a link: what lies where it leads is not ours to replace or remove."""
    if folder.is_symlink():
        raise OutputError(
            f"{folder}: a link to another folder", hint="remove the link; DYMN_HOME=FOLDER moves all models"
        )


def adopt(record: Record, file: Path) -> None:
    """Make a file that lies in the model's folder the model; to be called with the lock held.

    Raises:
        OutputError: the operating system refused; then the model is what it was.
    """
    folder = model_folder(record.name)
    with os_errors(folder):
        if file != record.path:
            file.replace(record.path)
        write_whole(folder / RECORD, record.to_json())
    keep = {RECORD, record.file, record.kept}
    with contextlib.suppress(OSError):  # leavings harm nobody
        for path in folder.iterdir():
            if path.name not in keep:
                path.unlink()


def discard(name: str) -> int:
    """Remove a model, or what was fetched of it, with the lock held; bytes that this frees.

    Raises:
        OutputError: the operating system refused.
    """
    folder = model_folder(name)
    with os_errors(folder):
        n_bytes = sum(path.stat().st_size for path in folder.iterdir())
        (folder / RECORD).unlink(missing_ok=True)  # first: from here on the model is not there
        shutil.rmtree(folder)
    return n_bytes


def write_whole(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Tell in our words that the operating system refused.

    Raises:
        OutputError: it did.
    """
    try:
        yield
    except (OSError, NotImplementedError) as exc:
        where = getattr(exc, "filename", None) or path
        raise OutputError(
            os_error_text(where, exc), hint="DYMN_HOME=FOLDER puts the models elsewhere"
        ) from exc


# ---------------------------------------------------------------------- pins


@dataclass(frozen=True, slots=True)
class Pin:
    """The checkpoint of a name that was seen first: its SHA-256, and where it came from."""

    sha256: str
    seen_at: str


def pin_of(name: str) -> Pin | None:
    """The pin of a published name, or None.

    Raises:
        ModelError: there is one, and it cannot be read: that is no reason to trust anything.
    """
    path = _pin_path(name)
    try:
        fields = json.loads(path.read_text("utf-8"))
        pin = Pin(fields["sha256"], fields["seen_at"])
        if fields["schema"] != PIN_SCHEMA or SHA256.fullmatch(pin.sha256) is None:
            raise ValueError("no pin")  # noqa: TRY301 - told below like any other damage
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ModelError(
            f"{path}: not a readable pin", hint="remove that file if you want to trust the next download"
        ) from exc
    return pin


def save_pin(name: str, pin: Pin) -> None:
    """Remember which checkpoint was seen.

    Raises:
        OutputError: the operating system refused.
    """
    path = _pin_path(name)
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"schema": PIN_SCHEMA, **asdict(pin)}, indent=1, sort_keys=True) + "\n")


def _pin_path(name: str) -> Path:
    return cache_folder() / "pins" / f"{name}.json"
