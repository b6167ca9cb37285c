"""The local store: the models that the user has pulled or added.

    DYMN_HOME/
        models/NAME/record.json              describes the model; the model exists while this file does
        models/NAME/NAME-<hash>.safetensors  its file, or .onnx; the hash is the start of its SHA-256
        models/NAME/<published name>.pt      the original checkpoint, if it was to be kept
        models/NAME/download.partial         an unfinished download; download.json says of what
        pins/NAME.json                       the first checkpoint seen, for models whose hash is not known
        locks/NAME.lock                      held by the process that is changing models/NAME

A model is installed by replacing its record once its file, under a name of its own, is complete. So other
processes see either the old model or the new one, and a process that is killed leaves the old one. The next
change of a model removes the files that its record does not name. Pins outlive their model on purpose: a
checkpoint that has changed is noticed even if the model was removed in between.
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
LARGEST_RECORD = 1 << 20  # bytes

Origin = Literal["published", "own"]


def cache_folder() -> Path:
    """The folder for files that can be fetched again: DYMN_HOME, else the platform's cache folder.

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
    """Refuse names that could be taken for a path, or that another system would read as another file.

    Raises:
        UsageError: a model cannot have that name.
    """
    if NAME.fullmatch(name) is None or name.endswith(".") or DEVICES.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a model",
            hint="up to 64 of a-z, 0-9, '_', '-' and '.', beginning with a letter or a digit",
        )


# ---------------------------------------------------------------------- records


@dataclass(frozen=True, slots=True)
class Record:
    """The description of a model in the store.

    Args:
        name: of the model, and of its folder.
        origin: "published" if it was pulled by its name in the manifest, "own" if the user added it.
        file: name of its file in its folder.
        sha256: of that file.
        size_bytes: of that file.
        checkpoint_sha256: of the file that it was made from.
        checkpoint_from: the address or file name that it came from.
        recognised_by: how the checkpoint was recognised: "sha256", "git-blob", "pin", "first-seen", or
            "user" for the user's own.
        architecture: name in `dymn_cli.model.config.ARCHITECTURES`, or "custom".
        n_classes: outputs of the network.
        purpose: "tags", or "embeddings" if the classes are not sounds.
        hop_ms: hop of its log-mel; 0 if it is not a whole number.
        n_mels: mel bands.
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
        """Its file, unchecked."""
        return model_folder(self.name) / self.file

    def to_json(self) -> str:
        """The text of the record."""
        return json.dumps({"schema": RECORD_SCHEMA, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> Self:
        """Read the record that `to_json` wrote for the model of that name.

        Raises:
            ValueError, TypeError, KeyError: it is not one.
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
            raise ValueError("it belongs to another model")
        if SHA256.fullmatch(record.sha256) is None or not _is_plain(record.file):
            raise ValueError("its file name or hash is not valid")
        return record


def _is_plain(file: str) -> bool:
    """Whether a file name stays in its folder, on any system."""
    return bool(file) and not file.startswith(".") and not set(file) & set('/\\:\0"<>|?*')


def record_of(name: str) -> Record | None:
    """The record of a model, or None if it is not in the store.

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
    """Names of the models that have a record, valid or not, in order."""
    with contextlib.suppress(OSError):
        folders = sorted((cache_folder() / "models").iterdir())
        return tuple(path.name for path in folders if NAME.fullmatch(path.name) and (path / RECORD).is_file())
    return ()


# ---------------------------------------------------------------------- changes


@contextmanager
def locked(name: str, waiting: Callable[[], None]) -> Iterator[Path]:
    """Make a model's folder and lock it for this process; others wait.

    Args:
        name: of the model.
        waiting: called once if another process holds the lock.

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
            folder.mkdir(exist_ok=True)  # the process before may have removed it
        yield folder
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            folder.rmdir()  # if it is empty


def _require_own(folder: Path) -> None:
    """Refuse a folder that is a link: its target is not ours to change."""
    if folder.is_symlink():
        raise OutputError(
            f"{folder}: a link to another folder", hint="remove the link; to move all models, set DYMN_HOME"
        )


def adopt(record: Record, file: Path) -> None:
    """Make a file in the model's folder the model; the caller holds the lock.

    Raises:
        OutputError: the operating system refused; the model is as before.
    """
    folder = model_folder(record.name)
    with os_errors(folder):
        if file != record.path:
            file.replace(record.path)
        write_whole(folder / RECORD, record.to_json())
    keep = {RECORD, record.file, record.kept}
    with contextlib.suppress(OSError):  # leftovers are harmless
        for path in folder.iterdir():
            if path.name not in keep:
                path.unlink()


def discard(name: str) -> int:
    """Remove a model or an unfinished download, and return the bytes freed; the caller holds the lock.

    Raises:
        OutputError: the operating system refused.
    """
    folder = model_folder(name)
    with os_errors(folder):
        n_bytes = sum(path.stat().st_size for path in folder.iterdir())
        (folder / RECORD).unlink(missing_ok=True)  # first: without it there is no model
        shutil.rmtree(folder)
    return n_bytes


def write_whole(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Re-raise errors of the operating system as ours.

    Raises:
        OutputError: the operating system refused.
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
    """The first checkpoint seen under a name: its SHA-256, and where it came from."""

    sha256: str
    seen_at: str


def pin_of(name: str) -> Pin | None:
    """The pin of a published model, or None.

    Raises:
        ModelError: there is one, but it cannot be read; nothing is trusted then.
    """
    path = _pin_path(name)
    try:
        fields = json.loads(path.read_text("utf-8"))
        if fields["schema"] != PIN_SCHEMA or SHA256.fullmatch(fields["sha256"]) is None:
            raise ValueError("not a pin")  # noqa: TRY301 - handled below like any other damage
        return Pin(fields["sha256"], fields["seen_at"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ModelError(
            f"{path}: not a readable pin", hint="remove that file if you want to trust the next download"
        ) from exc


def save_pin(name: str, pin: Pin) -> None:
    """Store the first checkpoint seen.

    Raises:
        OutputError: the operating system refused.
    """
    path = _pin_path(name)
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"schema": PIN_SCHEMA, **asdict(pin)}, indent=1, sort_keys=True) + "\n")


def _pin_path(name: str) -> Path:
    return cache_folder() / "pins" / f"{name}.json"
