"""Fetching a published model: from an address or a file to a model that may be used.

    fetch       to `download.partial`, which a next try goes on from
    recognise   by the SHA-256 or git hash in the manifest; where neither is known, by the pin of the one that
                was seen first, or as that one. Only now the file gets its name
    convert     to our own form, without executing anything that is in it
    test        it must answer, before it may be used
    adopt       as the model of that name; the original is dropped, its hash is kept

A step that fails leaves the model that was there before as it was.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dymn_cli.errors import ChecksumError, ModelError, UsageError, WeightsMissingError, os_error_text
from dymn_cli.store import local
from dymn_cli.store.download import Patience, Watch, check_address, download, forget, shown
from dymn_cli.store.identity import Identity, identify
from dymn_cli.store.install import Provenance, Test, install
from dymn_cli.store.registry import Checkpoint, ModelSpec, model_spec
from dymn_cli.store.weights import save_weights

__all__ = ["MIRROR", "Pulled", "Source", "pull", "source_of"]

MIRROR = "DYMN_MIRROR"
PARTIAL = "download.partial"
UNTESTED = "untested.safetensors"
CHUNK = 1 << 20
LARGEST_VALUE = 8  # bytes: no checkpoint has wider numbers than float64
OVERHEAD = 32 << 20  # bytes beside the numbers: keys, a pickle, alignment; far more than any has
OTHER_WAYS = f"other ways: --url ADDRESS, {MIRROR}=ADDRESS, or --from FILE for one that you carried here"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint comes from: an address, or a file."""

    address: str = ""
    file: Path | None = None

    @property
    def shown(self) -> str:
        """For messages and for the record."""
        return shown(self.address) if self.file is None else str(self.file)


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that is there.

    Args:
        spec: what is known of it.
        was_there: whether it was already, and nothing was done.
        recognised_by: "sha256", "git-blob", "pin" or "first-seen"; "" where it was there already.
        checkpoint_sha256: of the file that it was made from; likewise.
    """

    spec: ModelSpec
    was_there: bool
    recognised_by: str = ""
    checkpoint_sha256: str = ""


def source_of(spec: ModelSpec, *, url: str | None = None, file: Path | None = None) -> Source:
    """Where to take a published model from: what is asked for, else the mirror, else the release.

    Args:
        spec: the model.
        url: address of the very file.
        file: the file, or a folder in which it lies under its published name.

    Raises:
        UsageError: not a published model, both are given, or an address is none.
    """
    checkpoint = _checkpoint(spec)
    if url is not None and file is not None:
        raise UsageError("--url and --from exclude each other")
    if file is not None:
        return Source(file=file / checkpoint.file if file.is_dir() else file)
    address = url
    if address is None and (mirror := os.environ.get(MIRROR, "").strip()):
        address = f"{mirror.rstrip('/')}/{quote(checkpoint.file)}"
    check_address(address or checkpoint.url)
    return Source(address=address or checkpoint.url)


def _checkpoint(spec: ModelSpec) -> Checkpoint:
    if spec.checkpoint is None:
        why = "ships with dymn" if spec.origin == "bundled" else "is your own"
        raise UsageError(f"{spec.name} {why}: there is nothing to pull", hint="dymn models list")
    return spec.checkpoint


def pull(
    name: str,
    source: Source,
    *,
    test: Test,
    watch: Watch,
    force: bool = False,
    repin: bool = False,
    keep: bool = False,
    patience: Patience | None = None,
) -> Pulled:
    """Fetch a published model, unless it is there and sound.

    Args:
        name: of the model.
        source: where from.
        test: see `dymn_cli.store.install.Test`.
        watch: is told how far it is.
        force: fetch it even if it is there.
        repin: trust a file that differs from the one that was seen first.
        keep: keep the original checkpoint beside the model.
        patience: with the server.

    Raises:
        UsageError: no such model, or not a published one.
        WeightsMissingError: the file cannot be had.
        ChecksumError: it is not the file that was published, or seen first.
        UnsafeWeightsError: it asks for more than tensors.
        ModelError: it is no such model, or does not answer as it should.
        OutputError: the store cannot be written to.
    """
    checkpoint = _checkpoint(model_spec(name))
    waiting = f"{name}: another dymn is at it; waiting until it is done"
    with local.locked(name, lambda: watch.note(waiting)) as folder:
        spec = model_spec(name)
        if not force and spec.is_there and identify(spec.path).sha256 == spec.sha256:
            return Pulled(spec, was_there=True)
        original = folder / checkpoint.file
        if force or not (checkpoint.is_known and original.is_file()):
            _bring(spec, source, folder / PARTIAL, watch, patience)
            recognised = _recognise(spec, folder / PARTIAL, source, repin=repin)
            with local.os_errors(original):
                (folder / PARTIAL).replace(original)
            forget(folder / PARTIAL)
        else:  # an earlier run was interrupted after this
            recognised = _recognise(spec, original, source, repin=repin)
        _install(spec, original, recognised, source, test, keep=keep)
        if recognised.by == "first-seen":
            watch.note(
                f"{name}: no hash of it is known here. SHA-256 {recognised.sha256[:12]}… is taken on trust;"
                " another file under this name is refused from now on"
            )
        return Pulled(model_spec(name), False, recognised.by, recognised.sha256)


def _bring(spec: ModelSpec, source: Source, partial: Path, watch: Watch, patience: Patience | None) -> None:
    most_bytes = LARGEST_VALUE * spec.parameters + OVERHEAD
    if source.file is not None:
        _copy(source.file, partial, most_bytes, watch)
        return
    try:
        download(
            source.address,
            partial,
            watch=watch,
            most_bytes=most_bytes,
            size_bytes=_checkpoint(spec).size_bytes,
            patience=patience,
        )
    except WeightsMissingError as error:
        raise WeightsMissingError(f"{spec.name}: {error.message}", hint=error.hint or OTHER_WAYS) from error


def _copy(file: Path, partial: Path, most_bytes: int, watch: Watch) -> None:
    """Take a file of the user's as if it had been downloaded: what is checked then is what is used."""
    forget(partial)
    n_bytes = 0
    with _os_errors_of(file):
        total = file.stat().st_size or None  # a pipe does not know
        reader = file.open("rb")
    with reader, local.os_errors(partial), partial.open("xb") as writer:
        while True:
            with _os_errors_of(file):
                chunk = reader.read(CHUNK)
            if not chunk:
                break
            n_bytes += writer.write(chunk)
            if n_bytes > most_bytes:
                raise ChecksumError(f"{file}: larger than such a model can be ({most_bytes:,} bytes)")
            watch.at(n_bytes, total)


@contextlib.contextmanager
def _os_errors_of(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise WeightsMissingError(os_error_text(file, exc)) from exc


@dataclass(frozen=True, slots=True)
class Recognised:
    """A checkpoint that may be trusted: why ("sha256", "git-blob", "pin", "first-seen"), and its SHA-256."""

    by: str
    sha256: str


def _recognise(spec: ModelSpec, file: Path, source: Source, *, repin: bool) -> Recognised:
    """Find out whether a file is the one that was published; one that is not is removed.

    Raises:
        ChecksumError: it is another.
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
            f"{spec.name}: what {source.shown} gives is not what was seen first: its SHA-256 is"
            f" {found.sha256[:12]}…, that from {pin.seen_at} was {pin.sha256[:12]}…",
            hint="--repin, if you know why it has changed; nothing else was changed",
        )
    return Recognised("pin", found.sha256)


def _require(spec: ModelSpec, source: Source, what: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise ChecksumError(
            f"{spec.name}: what {source.shown} gives is not the published file: its {what} is {found[:12]}…,"
            f" not {wanted[:12]}…",
            hint="it was dropped, and nothing else was changed",
        )


def _install(
    spec: ModelSpec, original: Path, recognised: Recognised, source: Source, test: Test, *, keep: bool
) -> None:
    """Convert, test and adopt a checkpoint that has been recognised."""
    from dymn_cli.store.convert import convert

    untested = original.with_name(UNTESTED)
    made_of = Provenance(
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
    except ModelError as error:  # it will be no better the next time; what the disk refuses may be
        with contextlib.suppress(OSError):
            original.unlink()
        reason = error.message.replace(str(original), source.shown).removeprefix(f"{spec.name}: ")
        raise type(error)(f"{spec.name}: {reason}", hint=error.hint) from error
    if recognised.by == "first-seen":
        local.save_pin(spec.name, local.Pin(recognised.sha256, source.shown))
