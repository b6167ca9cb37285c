"""Pull a published model, from an address or a file.

    fetch       to `download.partial`; an interrupted download is resumed
    recognise   by the SHA-256 or git hash in the manifest. If neither is known, by the pin of the first file
                seen; the first one is taken on trust. Only then does the file get its name
    convert     to our format, without executing anything in the file
    test        the model must run
    install     under its name; the original is removed, its hash is kept

If a step fails, the model that was there before stays as it was.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dymn_cli.errors import ChecksumError, ModelError, UsageError, WeightsMissingError, os_errors_as
from dymn_cli.store import local
from dymn_cli.store.download import Patience, Watch, check_address, download, forget, shown
from dymn_cli.store.identity import Identity, identify
from dymn_cli.store.install import SelfTest, SourceCheckpoint, install
from dymn_cli.store.registry import Checkpoint, ModelSpec, model_spec
from dymn_cli.store.weights import save_weights

__all__ = ["MIRROR", "Pulled", "Source", "pull", "source_of"]

MIRROR = "DYMN_MIRROR"
PARTIAL = "download.partial"
UNTESTED = "untested.safetensors"
CHUNK = 1 << 20
LARGEST_VALUE = 8  # bytes: float64
OVERHEAD = 32 << 20  # bytes beside the numbers, for keys, the pickle and alignment; more than any needs
OTHER_WAYS = f"other ways: --url ADDRESS, {MIRROR}=ADDRESS, or --from FILE"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint comes from: an address, or a file."""

    address: str = ""
    file: Path | None = None

    @property
    def shown(self) -> str:
        """The source as messages and the record name it."""
        return shown(self.address) if self.file is None else str(self.file)


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that is in the store now.

    Args:
        spec: of the model.
        was_there: whether it was there before, so that nothing was done.
        recognised_by: "sha256", "git-blob", "pin" or "first-seen"; "" if it was there before.
        checkpoint_sha256: of the file that it was made from; "" if it was there before.
    """

    spec: ModelSpec
    was_there: bool
    recognised_by: str = ""
    checkpoint_sha256: str = ""


def source_of(spec: ModelSpec, *, url: str | None = None, file: Path | None = None) -> Source:
    """Where to pull a published model from: as requested, else the mirror, else the release.

    Args:
        spec: of the model.
        url: address of the file itself.
        file: the file, or a folder that holds it under its published name.

    Raises:
        UsageError: not a published model, both `url` and `file`, or not an address.
    """
    checkpoint = _checkpoint(spec)
    if url is not None and file is not None:
        raise UsageError("--url and --from exclude each other")
    if file is not None:
        return Source(file=file / checkpoint.file if file.is_dir() else file)
    mirror = os.environ.get(MIRROR, "").strip().rstrip("/")
    address = url or (f"{mirror}/{quote(checkpoint.file)}" if mirror else checkpoint.url)
    check_address(address)
    return Source(address=address)


def _checkpoint(spec: ModelSpec) -> Checkpoint:
    if spec.checkpoint is None:
        why = "ships with dymn" if spec.origin == "bundled" else "is your own"
        raise UsageError(f"{spec.name} {why}: there is nothing to pull", hint="dymn models list")
    return spec.checkpoint


def pull(
    name: str,
    source: Source,
    *,
    test: SelfTest,
    watch: Watch,
    force: bool = False,
    repin: bool = False,
    keep: bool = False,
    patience: Patience | None = None,
) -> Pulled:
    """Pull a published model, unless it is there and intact.

    Args:
        name: of the model.
        source: where to get it from.
        test: run before the model is installed.
        watch: is told about progress.
        force: pull it even if it is there.
        repin: trust a file that differs from the first one seen.
        keep: keep the original checkpoint beside the model.
        patience: how long to wait for the server.

    Raises:
        UsageError: no such model, or not a published one.
        WeightsMissingError: the file cannot be fetched.
        ChecksumError: it is not the published file, or not the one seen first.
        UnsafeWeightsError: it holds more than tensors.
        ModelError: it is not that model, or fails the self-test.
        OutputError: the store cannot be written to.
    """
    checkpoint = _checkpoint(model_spec(name))
    waiting = f"{name}: waiting for another dymn process that is changing it"
    with local.locked(name, lambda: watch.note(waiting)) as folder:
        spec = model_spec(name)
        if not force and spec.is_there and identify(spec.path).sha256 == spec.sha256:
            return Pulled(spec, was_there=True)
        original = folder / checkpoint.file
        if force or not (checkpoint.is_known and original.is_file()):
            _fetch(spec, source, folder / PARTIAL, watch, patience)
            recognised = _recognise(spec, folder / PARTIAL, source, repin=repin)
            with local.os_errors(original):
                (folder / PARTIAL).replace(original)
            forget(folder / PARTIAL)
        else:  # an earlier run was interrupted after this
            recognised = _recognise(spec, original, source, repin=repin)
        _install(spec, original, recognised, source, test, keep=keep)
        if recognised.by == "first-seen":
            watch.note(
                f"{name}: its hash is not known here, so SHA-256 {recognised.sha256[:12]}… is taken on trust;"
                " from now on, any other file under this name is refused"
            )
        return Pulled(model_spec(name), False, recognised.by, recognised.sha256)


def _fetch(spec: ModelSpec, source: Source, partial: Path, watch: Watch, patience: Patience | None) -> None:
    max_bytes = LARGEST_VALUE * spec.parameters + OVERHEAD
    if source.file is not None:
        _copy(source.file, partial, max_bytes, watch)
        return
    try:
        download(
            source.address,
            partial,
            watch=watch,
            max_bytes=max_bytes,
            size_bytes=_checkpoint(spec).size_bytes,
            patience=patience,
        )
    except WeightsMissingError as error:
        raise WeightsMissingError(f"{spec.name}: {error.message}", hint=error.hint or OTHER_WAYS) from error


def _copy(file: Path, partial: Path, max_bytes: int, watch: Watch) -> None:
    """Copy the user's file as if it were downloaded, so that the bytes checked are the bytes used."""
    forget(partial)
    n_bytes = 0
    with os_errors_as(WeightsMissingError, file):
        total = file.stat().st_size or None  # 0 for a pipe
        reader = file.open("rb")
    with reader, local.os_errors(partial), partial.open("xb") as writer:
        while True:
            with os_errors_as(WeightsMissingError, file):
                chunk = reader.read(CHUNK)
            if not chunk:
                break
            n_bytes += writer.write(chunk)
            if n_bytes > max_bytes:
                raise ChecksumError(f"{file}: larger than such a model can be ({max_bytes:,} bytes)")
            watch.at(n_bytes, total)


@dataclass(frozen=True, slots=True)
class Recognised:
    """A trusted checkpoint: recognised by "sha256", "git-blob", "pin" or "first-seen"; and its SHA-256."""

    by: str
    sha256: str


def _recognise(spec: ModelSpec, file: Path, source: Source, *, repin: bool) -> Recognised:
    """Check that a file is the published one; any other is removed.

    Raises:
        ChecksumError: it is not.
    """
    try:
        return _trust(spec, identify(file), source, repin=repin)
    except ChecksumError:
        forget(file)
        raise


def _trust(spec: ModelSpec, found: Identity, source: Source, *, repin: bool) -> Recognised:
    known = _checkpoint(spec)
    if known.sha256 is not None:
        _require(spec, source, "SHA-256", found.sha256, known.sha256)
        return Recognised("sha256", found.sha256)
    if known.git_blob is not None:
        _require(spec, source, "git hash", found.git_blob, known.git_blob)
        return Recognised("git-blob", found.sha256)
    pin = None if repin else local.pin_of(spec.name)
    if pin is None:
        return Recognised("first-seen", found.sha256)
    if found.sha256 != pin.sha256:
        raise ChecksumError(
            f"{spec.name}: {source.shown} is not the file that was seen first: its SHA-256 is"
            f" {found.sha256[:12]}…, that of {pin.seen_at} was {pin.sha256[:12]}…",
            hint="if you know why it has changed, use --repin; the installed model is unchanged",
        )
    return Recognised("pin", found.sha256)


def _require(spec: ModelSpec, source: Source, what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise ChecksumError(
            f"{spec.name}: {source.shown} is not the published file: its {what} is {found[:12]}…,"
            f" not {wanted[:12]}…",
            hint="the download was discarded; the installed model is unchanged",
        )


def _install(
    spec: ModelSpec, original: Path, recognised: Recognised, source: Source, test: SelfTest, *, keep: bool
) -> None:
    """Convert, test and install a recognised checkpoint."""
    from dymn_cli.store.convert import convert

    untested = original.with_name(UNTESTED)
    made_of = SourceCheckpoint(
        origin="published",
        checkpoint_sha256=recognised.sha256,
        checkpoint_from=source.shown,
        recognised_by=recognised.by,
        kept=original.name if keep else "",
    )
    try:
        header, tensors = convert(
            original,
            name=spec.name,
            temperature=spec.temperature,
            front_end=spec.front_end,
            config=spec.config,
            purpose=spec.purpose,
        )
        save_weights(untested, header, tensors)
        install(spec.name, untested, made_of, test)
    except ModelError as error:  # unlike a full disk, this will fail the next time as well
        with contextlib.suppress(OSError):
            original.unlink()
        reason = error.message.replace(str(original), source.shown).removeprefix(f"{spec.name}: ")
        raise type(error)(f"{spec.name}: {reason}", hint=error.hint) from error
    if recognised.by == "first-seen":
        local.save_pin(spec.name, local.Pin(recognised.sha256, source.shown))
