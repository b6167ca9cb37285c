"""What stores hold: facts of one object, everything below a folder in order, and objects written whole.

Listing streams. Names come in the order of their code points, a folder's as if its name ended with a slash,
which is the order that S3 keeps: there, pages of a thousand keys pass through; elsewhere, the facts of one
folder at a time and of those around it are held. Stores answer with an error now and then: what may pass is
tried again after a second, two and four, on top of what their drivers try by themselves.

An object appears in an object store when its upload is complete, or not at all. S3, Google Cloud Storage,
Azure and stores in memory are written to. Others are not: a broken upload would bear the name of a result
there. No object is replaced unasked: a look right before the upload sees to that, and the store itself where
it knows conditional requests (`If-None-Match`), so that of two runs at the same time one fails.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeVar

from dymn_cli.errors import AudioNotFoundError, DymnError, InputError, OutputError, UnsupportedAudioError
from dymn_cli.remote import web
from dymn_cli.remote.uri import (
    OFFLINE,
    Uri,
    address_of,
    is_network,
    is_offline,
    is_uri,
    join,
    named,
    schemes,
    without_secrets,
)

__all__ = [
    "RETRIED",
    "Stat",
    "exists",
    "listing",
    "may_be_folder",
    "open_store",
    "patiently",
    "reason_of",
    "remove",
    "require_writable",
    "stat",
    "stat_of",
    "upload",
]

T = TypeVar("T")

WAITS_S = (1.0, 2.0, 4.0)
RETRIED = (408, 425, 429, 500, 502, 503, 504)  # RFC 9110, and 425 Too Early of RFC 8470
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
LOOK_EVERY_S = 60.0  # whether an archive is still the one that is open
AHEAD = 1 << 20
WEB = ("http", "https")
S3 = ("s3", "s3a")
WRITABLE = (*S3, "gs", "gcs", "az", "abfs", "abfss", "memory")
ARCHIVES = ("zip", "tar")
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ": "xz"}  # how compressed tar files begin
PACKAGES = {
    **dict.fromkeys(S3, "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(WEB, "aiohttp"),
    "hf": "huggingface_hub",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "oss": "ossfs",
    "webdav": "webdav4",
}
CHECKSUMS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "Content-MD5",
    "checksum",
    "blob_id",
    "CRC",
    "generation",
)
TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modified", "created")
VERSIONS = (*CHECKSUMS, *TIMES)
"""Where drivers say which version of an object it is; the first one that is there counts."""

IS_THERE = re.compile(r"FileExistsError|[Pp]re-?condition|conditionNotMet|AlreadyExists|ResourceExists")
"""How drivers say that a conditional request was refused."""

_opened = threading.local()  # the archive that this thread has used last


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store says of an object.

    Args:
        size: in bytes, or None.
        version: 64 bits that change with its content, from ETag, checksum or time; None where there is none.
        is_folder: whether there are objects below it, and none here.
    """

    size: int | None
    version: int | None
    is_folder: bool = False


def stat(name: str) -> Stat:
    """Look at an object.

    Raises:
        InputError: it is not there, or cannot be looked at.
    """
    return patiently(name, lambda: stat_of(*open_store(name)))


def stat_of(store: Any, path: str) -> Stat:
    """What an open store says of an object; library errors pass."""
    info = store.info(path)
    return _stat(info, getattr(store, "archive_version", None))


def _stat(info: dict[str, Any], archive_version: int | None = None) -> Stat:
    found = next((info[key] for key in VERSIONS if info.get(key) not in (None, "")), None)
    version = None
    if found is not None:
        moment = found.timestamp() if isinstance(found, datetime) else found  # listings have one or the other
        text = f"{moment} {archive_version or ''}".encode()
        version = int.from_bytes(blake2b(text, digest_size=8).digest(), "little", signed=True)
    return Stat(info.get("size"), version, info.get("type") == "directory")


# ---------------------------------------------------------------------- opening


def open_store(name: str) -> tuple[Any, str]:
    """The driver for a URI, and the path that it calls the object by; library errors pass.

    Raises:
        InputError: fsspec or the driver is not installed, there is no such driver, or no network is allowed.
    """
    address = address_of(name)
    if is_network(address) and is_offline():
        raise InputError(
            f"{name}: {OFFLINE} is set, so the network is not used", hint="unset it, or copy the file here"
        )
    try:
        import fsspec
    except ImportError as exc:
        raise InputError(f"{name}: URIs need the package fsspec", hint="pip install 'dymn[remote]'") from exc
    first, _, archive = address.partition("::")
    for scheme in schemes(address):
        _require_driver(fsspec, scheme, name)
    scheme = schemes(address)[0]
    if scheme in ARCHIVES:
        if not archive:
            raise InputError(
                f"{name}: {scheme}:// names no archive", hint=f"{scheme}://night.flac::archive.{scheme}"
            )
        store = _archive(fsspec, scheme, archive)
        return store, store._strip_protocol(first)
    settings: dict[str, Any] = {"use_listings_cache": False}
    if scheme in WEB:
        configured = fsspec.config.conf.get(scheme, {}).get("client_kwargs", {})
        settings["client_kwargs"] = web.client_settings(configured)
        if address.isascii() and address.isprintable() and " " not in address:
            settings["encoded"] = True  # as it is: another spelling would break a signature
    store, path = fsspec.url_to_fs(address, **settings)
    return store, path


def _require_driver(fsspec: Any, scheme: str, name: str) -> None:
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as exc:
        package = PACKAGES.get(scheme)
        hint = f"pip install {package}" if package else str(exc) or None
        raise InputError(
            f"{name}: {scheme}:// needs the package {package or 'of its driver'}", hint=hint
        ) from exc
    except ValueError as exc:
        raise InputError(
            f"{name}: {scheme}:// is no kind of store that fsspec knows",
            hint="./ in front makes it a file name",
        ) from exc


def _archive(fsspec: Any, scheme: str, address: str) -> Any:
    """The driver for what is in an archive; the last one stays open, as members come one after the other."""
    import gzip
    import tarfile
    import zipfile

    last = getattr(_opened, "archive", None)
    now = time.monotonic()
    if last is not None and last.key == (scheme, address) and now - last.looked < LOOK_EVERY_S:
        return last.store
    if is_uri(address):
        outer, path = open_store(named(address))
        version = stat_of(outer, path).version
    else:
        outer, path, version = None, address, os.stat(address).st_mtime_ns  # noqa: PTH116
    if last is not None and last.key == (scheme, address) and last.version == version is not None:
        last.looked = now
        return last.store
    _opened.archive = None
    if last is not None:
        last.file.close()
    if outer is None:
        file: Any = open(path, "rb")  # noqa: PTH123, SIM115 - it stays open
    else:
        file = outer.open(path, "rb", block_size=AHEAD, cache_type="readahead")
    settings: dict[str, Any] = {}
    try:
        if scheme == "tar":
            begin = file.read(8)
            settings["compression"] = next(
                (name for magic, name in PACKED.items() if begin.startswith(magic)), None
            )
            file.seek(0)
        store = fsspec.get_filesystem_class(scheme)(fo=file, skip_instance_cache=True, **settings)
    except Exception as exc:
        file.close()
        if isinstance(exc, (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError)):
            raise InputError(f"{named(address)}: not a {scheme} archive, or a damaged one") from exc
        raise
    store.archive_version = version if scheme == "tar" else None  # a zip has checksums
    _opened.archive = _Archive((scheme, address), version, file, store, now)
    return store


@dataclass(slots=True)
class _Archive:
    """An archive that is open; its index is in memory."""

    key: tuple[str, str]
    version: int | None
    file: Any
    store: Any
    looked: float


# ---------------------------------------------------------------------- trying again


def patiently(name: str, act: Callable[[], T], failed: Callable[[], None] = lambda: None) -> T:
    """Do something with a store, again after a while where its error may pass.

    Args:
        name: of the object, for errors.
        act: what to do.
        failed: called after an error.

    Raises:
        InputError: it is not there, may not be read, or the store fails.
    """
    waits_s = list(WAITS_S)
    while True:
        try:
            return act()
        except DymnError:
            raise
        except Exception as exc:
            failed()
            if not (waits_s and _may_pass(exc)):
                # A trace would show the address.
                raise _problem(name, exc) from (None if isinstance(name, Uri) else exc)
        time.sleep(waits_s.pop(0))


def _cause(exc: Exception) -> BaseException:
    """What happened: the driver for the web calls whatever it meets a missing file."""
    cause = exc.__cause__
    if isinstance(exc, FileNotFoundError) and type(cause).__module__.startswith("aiohttp"):
        return exc if cause is None or getattr(cause, "status", 0) in (404, 410) else cause
    return exc


def _may_pass(exc: Exception) -> bool:
    cause = _cause(exc)
    status = getattr(cause, "status", None)
    if isinstance(status, int) and status:
        return status in RETRIED
    if isinstance(cause, FINAL) or web.is_final(cause):
        return False
    return isinstance(cause, OSError | EOFError) or type(cause).__module__.startswith("aiohttp")


def _problem(name: str, exc: Exception) -> InputError:
    cause = _cause(exc)
    status = getattr(cause, "status", None)
    if isinstance(cause, FileNotFoundError) or status in (404, 410):
        return AudioNotFoundError(f"{name}: no such file")
    if isinstance(cause, PermissionError) or status in (401, 403):
        return AudioNotFoundError(
            f"{name}: no permission to read it", hint="logging in is up to the store's own tools and settings"
        )
    if isinstance(cause, IsADirectoryError):
        return UnsupportedAudioError(f"{name}: a folder, not an audio file")
    if isinstance(status, int) and status:
        return InputError(f"{name}: the server answered with status {status}")
    return InputError(f"{name}: cannot be read: {reason_of(name, cause)}")


def reason_of(name: str, cause: BaseException) -> str:
    """What went wrong with a store, without the secrets of an address."""
    text = web.reason_of(cause) or getattr(cause, "strerror", None) or str(cause)
    return without_secrets(text, name) or type(cause).__name__


# ---------------------------------------------------------------------- listing


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str  # what it is sorted by
    path: str
    stat: Stat


def may_be_folder(name: str) -> bool:
    """Whether there may be a folder of that name; of the web, a slash at the end tells."""
    address = address_of(name)
    first = address.partition("::")[0]
    return first.endswith("/") or schemes(address)[0] not in WEB


def listing(folder: str, *, recurse: bool = True) -> Iterator[tuple[str, Stat]]:
    """Everything below a folder, in the order of code points; names with a dot in front are left out.

    Args:
        folder: its name; the names that come begin with it.
        recurse: also what lies in folders within it.

    Raises:
        InputError: it cannot be listed.
    """
    address = address_of(folder)
    store, path = patiently(folder, lambda: open_store(folder))
    top = f"{path.rstrip('/')}/" if path.strip("/") else path
    is_paged = schemes(address)[0] in S3 and hasattr(store, "call_s3")
    entries = _pages(store, folder, top, recurse) if is_paged else _walk(store, folder, top, recurse)
    for entry in entries:
        inner = entry.path[len(top) :]
        if (
            entry.path.startswith(top)
            and inner
            and not any(part.startswith(".") for part in inner.split("/"))
        ):
            yield named(join(address, inner)), entry.stat


def _walk(store: Any, folder: str, top: str, recurse: bool) -> Iterator[_Entry]:
    waiting = [iter(_entries(store, folder, top))]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
        elif not entry.stat.is_folder:
            yield entry
        elif recurse and not entry.path.rpartition("/")[2].startswith("."):
            waiting.append(iter(_entries(store, folder, f"{entry.path}/")))


def _entries(store: Any, folder: str, path: str) -> list[_Entry]:
    """What lies directly in a folder."""
    # The web tells a folder from a page by the slash.
    there = path if "://" in path else path.rstrip("/") or path
    infos = patiently(folder, lambda: store.ls(there, detail=True))
    entries = []
    for info in infos:
        found, inner = _stat(info, getattr(store, "archive_version", None)), info["name"].rstrip("/")
        if inner != path.rstrip("/"):  # some stores list the folder itself
            entries.append(_Entry(f"{inner}/" if found.is_folder else inner, inner, found))
    entries.sort(key=lambda entry: entry.key)
    return entries


def _pages(store: Any, folder: str, top: str, recurse: bool) -> Iterator[_Entry]:
    """The keys of a bucket of S3 as they come."""
    bucket, _, prefix = top.lstrip("/").partition("/")
    if not bucket:
        raise InputError(f"{folder}: no bucket is named", hint="s3://BUCKET/FOLDER/")
    wanted: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix} | ({} if recurse else {"Delimiter": "/"})
    while True:
        page = patiently(folder, lambda: store.call_s3("list_objects_v2", **wanted))
        for item in page.get("Contents", ()):
            if not item["Key"].endswith("/"):  # what consoles make to show a folder
                path = f"{bucket}/{item['Key']}"
                yield _Entry(path, path, _stat({**item, "size": item.get("Size")}))
        if not page.get("IsTruncated"):
            return
        wanted["ContinuationToken"] = page["NextContinuationToken"]


# ---------------------------------------------------------------------- writing


@contextlib.contextmanager
def _as_output() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        text = error.message.replace("cannot be read", "cannot be written").replace(
            "to read it", "to write it"
        )
        raise OutputError(text, hint=error.hint) from error


def require_writable(name: str) -> None:
    """See, before any work, that results may be written there.

    Raises:
        OutputError: not to that kind of store, or its driver is missing, or it is a folder.
    """
    scheme = schemes(address_of(name))[0]
    if isinstance(named(name), Uri):
        raise OutputError(
            f"{named(name)}: credentials in the name of a result", hint="leave them to the store's own tools"
        )
    if scheme not in WRITABLE or "::" in name:
        raise OutputError(
            f"{name}: results are not written to {scheme}://",
            hint="s3://, gs:// and az:// appear whole or not at all; or write to a file and copy it",
        )
    with _as_output():
        open_store(name)
    if name.endswith("/"):
        raise OutputError(f"{name}: a folder, not a file", hint="name a file in it")


def exists(name: str) -> bool:
    """Whether there is an object of that name.

    Raises:
        OutputError: the store does not tell.
    """
    with _as_output():
        try:
            return not stat(name).is_folder
        except AudioNotFoundError as error:
            if error.hint:  # no permission
                raise
            return False


def upload(path: str, name: str, *, replace: bool) -> None:
    """Write a file to a store, where it appears when it is complete.

    Args:
        path: of the file.
        name: of the object.
        replace: replace one that is there.

    Raises:
        FileExistsError: there is one, and `replace` is not set.
        OutputError: the store fails.
    """
    size, n_tries = os.stat(path).st_size, 0  # noqa: PTH116

    def put() -> None:
        nonlocal n_tries
        n_tries += 1
        store, target = open_store(name)
        try:
            store.put_file(path, target, mode="overwrite" if replace else "create")
        except Exception as exc:
            if not IS_THERE.search(f"{type(exc).__name__} {exc} {exc.__cause__}"):
                raise
            if n_tries == 1 or store.info(target).get("size") != size:  # else, an answer was lost
                raise FileExistsError(name) from exc

    if not replace and exists(name):
        raise FileExistsError(name)
    with _as_output():
        try:
            patiently(name, put)
        except InputError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise FileExistsError(name) from error
            raise


def remove(name: str) -> None:
    """Remove an object, if it is there.

    Raises:
        OutputError: the store fails.
    """

    def act() -> None:
        store, path = open_store(name)
        store.rm_file(path)

    if exists(name):  # who may not remove anything has nothing to remove, as a rule
        with _as_output():
            patiently(name, act)
