"""Download one file over an unreliable connection; an interrupted download is resumed.

    download.partial   the bytes received so far
    download.json      which file they belong to: address, validator (ETag, else Last-Modified), size

A download is resumed only if the server confirms, by `If-Range` (RFC 9110, section 13.1.5), that the file is
still the same; without a validator the whole file is fetched again. The body is checked against
Content-Range and Content-Length, because Python's client does not tell a body that breaks off from a
complete one. Whether it is the right file is for the caller to verify, by its content.

`urllib` suffices: dymn never does more than one GET at a time, with a few redirects, and that is not worth
another dependency of every installation. `urllib` honours `https_proxy`, `http_proxy`, `no_proxy` and
`SSL_CERT_FILE`. There are handlers for HTTP(S) only, so that no redirect leads to a local file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import shutil
import socket
import ssl
import stat
import time
from dataclasses import asdict, dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage, HTTPResponse, InvalidURL
from io import FileIO
from pathlib import Path
from typing import IO, NoReturn, Protocol
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from dymn_cli.errors import (
    DISK_FULL,
    OutputError,
    UsageError,
    WeightsMissingError,
    first_line,
    os_error_text,
)
from dymn_cli.remote.store import RETRIED
from dymn_cli.remote.uri import OFFLINE, is_offline
from dymn_cli.store.local import os_errors, write_whole

__all__ = ["OFFLINE", "Patience", "Watch", "check_address", "download", "forget", "is_offline", "shown"]

CHUNK = 1 << 16
MIN_PROGRESS = 1 << 16  # bytes; an attempt that brings as many resets the count of failures
MAX_REDIRECTS = 5
LARGEST_LENGTH = 10**15  # bytes; beyond any disk, and short enough to print
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)")
PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server.

    Args:
        timeout_s: for the connection, and for the next bytes.
        waits_s: before the second attempt, the third, ...; after so many without progress the download fails.
        longest_wait_s: if the server asks for more (Retry-After), the download fails.
    """

    timeout_s: float = 30.0
    waits_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    longest_wait_s: float = 120.0


class Watch(Protocol):
    """Follows the progress of a download."""

    def at(self, n_bytes: int, total: int | None) -> None:
        """So many bytes of the total, if that is known, have arrived."""

    def note(self, text: str) -> None:
        """Something happened that the user should know: a retry, a file taken on trust."""


class _RetryError(Exception):
    """An attempt failed, and another one may succeed."""

    def __init__(self, reason: str, *, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


def shown(address: str) -> str:
    """An address for messages and records, without the parts that may hold a secret."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def check_address(address: str) -> None:
    """Require the address of a file on the web.

    Raises:
        UsageError: it is not one.
    """
    hint = "https://HOST/PATH, or http:// within your own network"
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as exc:
        raise UsageError(f"{address!r} is not an address: {exc}", hint=hint) from exc
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise UsageError(f"{address!r} is not the address of a file on the web", hint=hint)
    if parts.username is not None:
        raise UsageError("an address must not contain a user name: lists of processes would show it")


def forget(partial: Path) -> None:
    """Remove an unfinished download and its state.

    Raises:
        OutputError: the operating system refused.
    """
    with os_errors(partial):
        _state_path(partial).unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def download(
    address: str,
    partial: Path,
    *,
    watch: Watch,
    max_bytes: int,
    size_bytes: int | None = None,
    patience: Patience | None = None,
) -> None:
    """Download a file to `partial`, resuming what is already there.

    Args:
        address: of the file; https, or http if the user says so.
        partial: a path in a folder that exists and that no other process writes to.
        watch: is told about progress.
        max_bytes: a larger file is refused.
        size_bytes: of the file, if it is known.
        patience: how long to wait.

    Raises:
        UsageError: not an address.
        WeightsMissingError: network access is forbidden, or the download failed.
        OutputError: it cannot be written.
    """
    check_address(address)
    if is_offline():
        raise WeightsMissingError(
            f"{OFFLINE} is set, so nothing is downloaded",
            hint="unset it, or use --from FILE",
        )
    job = _Download(address, partial, watch, max_bytes, size_bytes, patience or Patience())
    n_failed, furthest = 0, job.n_there()
    while True:
        try:
            return job.attempt()
        except _RetryError as error:
            there = job.n_there()
            if there >= furthest + MIN_PROGRESS:
                n_failed = 0
            furthest = max(furthest, there)
            waits = job.patience.waits_s
            if n_failed >= len(waits):
                raise WeightsMissingError(f"{shown(address)}: {error.reason}") from error
            wait_s = waits[n_failed] if error.wait_s is None else error.wait_s
            n_failed += 1
            watch.note(f"{error.reason}; trying again{f' in {wait_s:.0f} s' if wait_s >= 1 else ''}")
            time.sleep(wait_s)


# ---------------------------------------------------------------------- one attempt


@dataclass(frozen=True, slots=True)
class _State:
    """Which file a part belongs to; the address as a digest, because it may hold a secret."""

    address: str
    validator: str
    total: int | None


@dataclass(frozen=True, slots=True)
class _Download:
    address: str
    partial: Path
    watch: Watch
    max_bytes: int
    size_bytes: int | None
    patience: Patience

    def error(self, reason: str, *, hint: str | None = None) -> WeightsMissingError:
        """The error that ends the download."""
        return WeightsMissingError(f"{shown(self.address)}: {reason}", hint=hint)

    def n_there(self) -> int:
        """Bytes received so far; the target of a link does not count."""
        try:
            status = self.partial.lstat()
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def attempt(self) -> None:
        """Request what is missing, once, and receive it."""
        state, n_there = _read_state(self.partial), self.n_there()
        if state is None or state.address != _digest(self.address) or not n_there:
            state, n_there = None, 0
        elif state.total is not None and n_there == state.total:
            return
        with self._open(state, n_there) as response:
            start, total = self._place(response, state, n_there)
            if response.headers.get_content_type() in PAGES:
                raise self._is_page()
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise self.error("the server sends it compressed, although dymn did not ask for that")
            self._require_fit(total, start)
            self._take(response, start, total)

    def _open(self, state: _State | None, n_there: int) -> HTTPResponse:
        from dymn_cli import __version__

        headers = {"User-Agent": f"dymn/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        if state is not None:
            headers |= {"Range": f"bytes={n_there}-", "If-Range": state.validator}
        address = quote(self.address, safe=":/?#[]@!$&'()*+,;=%~")
        try:
            response = _opener().open(
                request.Request(address, headers=headers), timeout=self.patience.timeout_s
            )
        except HTTPError as error:
            with error:
                self._refused(error)
        except (InvalidURL, UnicodeError, ValueError) as exc:
            raise UsageError(f"{shown(self.address)!r} is not an address: {exc}") from exc
        except (HTTPException, OSError) as exc:
            self._failed(exc)
        assert isinstance(response, HTTPResponse)  # no handler of ours gives anything else
        return response

    def _refused(self, error: HTTPError) -> NoReturn:
        """Turn the status of a refused request into an error.

        Raises:
            _RetryError: another attempt may succeed.
            WeightsMissingError: none will.
        """
        status = f"{error.code} {error.reason}".strip()
        if error.code == 416:  # Range Not Satisfiable: there is more here than there should be
            forget(self.partial)
            raise _RetryError("the server's file is shorter than what has arrived already", wait_s=0.0)
        if error.code in RETRIED:
            wait_s = _retry_after(error.headers)
            if wait_s is not None and wait_s > self.patience.longest_wait_s:
                raise self.error(f"the server answered {status} and asks to wait {wait_s:.0f} s")
            raise _RetryError(f"the server answered {status}", wait_s=wait_s)
        if 300 <= error.code < 400:
            raise self.error("redirects in a circle, too often, or away from the web: not followed")
        what = "no such file there" if error.code in (404, 410) else "the server refuses"
        raise self.error(f"{what} ({status})")

    def _failed(self, exc: Exception) -> NoReturn:
        """Turn a failed connection into an error.

        Raises:
            _RetryError: another attempt may succeed.
            WeightsMissingError: none will.
        """
        reason = exc.reason if isinstance(exc, URLError) and isinstance(exc.reason, Exception) else exc
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise self.error(f"the server's certificate is not trusted: {reason.verify_message}") from exc
        if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
            raise self.error("no server of that name can be found from here") from exc
        raise _RetryError(_words(reason, self.patience.timeout_s)) from exc

    def _place(self, response: HTTPResponse, state: _State | None, n_there: int) -> tuple[int, int | None]:
        """Where in the file the body starts, and the size of the file; starts over if they do not fit."""
        length = response.length  # of this body; None where the server does not say
        if length is not None and length > LARGEST_LENGTH:
            raise self.error("the server announces an impossible length")
        if response.status == 200:
            return 0, length
        if response.status != 206:
            raise self.error(f"the server answered {response.status} {response.reason}")
        match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        total = None if match is None or match[3] == "*" else int(match[3])
        if match is None or int(match[1]) != n_there or (total is not None and int(match[2]) >= total):
            self._start_over("the server sent another part than the one requested")
        if length is not None and length != int(match[2]) + 1 - n_there:
            self._start_over("the length of the part that the server sent is not the one it announced")
        if state is not None:
            other_size = total is not None and state.total not in (None, total)
            if other_size or _validator(response.headers) not in ("", state.validator):
                self._start_over("the file on the server has changed meanwhile")
            total = total or state.total
        return n_there, total

    def _start_over(self, reason: str) -> NoReturn:
        if not self.n_there():  # the whole file was requested: starting over would change nothing
            raise self.error(reason)
        forget(self.partial)
        raise _RetryError(reason, wait_s=0.0)

    def _require_fit(self, total: int | None, start: int) -> None:
        """Check the size of the file and the free space before anything is received."""
        if total is None:
            return
        if self.size_bytes is not None and total != self.size_bytes:
            raise self.error(f"the server offers {total:,} bytes, the file has {self.size_bytes:,}")
        self._require_small(total)
        with contextlib.suppress(OSError):
            if (free := shutil.disk_usage(self.partial.parent).free) < total - start:
                raise OutputError(
                    f"{self.partial.parent}: {total - start:,} bytes are needed, and {free:,} are free",
                    hint="free some space, or set DYMN_HOME to a folder on another disk",
                )

    def _require_small(self, n_bytes: int) -> None:
        if n_bytes > self.max_bytes:
            raise self.error(f"larger than such a model can be ({self.max_bytes:,} bytes)")

    def _take(self, response: HTTPResponse, start: int, total: int | None) -> None:
        """Append the body to what is there; fails unless all of it arrives."""
        n_bytes = start
        with os_errors(self.partial):
            if not start:
                self.partial.unlink(missing_ok=True)
            file = self.partial.open("r+b" if start else "xb", buffering=0)
        with file:
            with os_errors(self.partial):
                file.seek(start)
                _write_state(self.partial, self.address, response.headers, total)
            self.watch.at(n_bytes, total)
            while chunk := self._receive(response):
                if n_bytes == 0 and chunk.lstrip()[:1] == b"<":
                    raise self._is_page()
                _write(file, chunk, self.partial)
                n_bytes += len(chunk)
                self._require_small(n_bytes)
                self.watch.at(n_bytes, total)
        whole = total if total is not None else self.size_bytes
        if whole is not None and n_bytes < whole:
            raise _RetryError(f"the connection broke off at {n_bytes:,} of {whole:,} bytes")

    def _is_page(self) -> WeightsMissingError:
        """The error for a log-in page or an error page in place of the file."""
        return self.error(
            "the server sent a web page instead of a file",
            hint="is there a log-in page? Open the address in a browser, then use --from FILE",
        )

    def _receive(self, response: HTTPResponse) -> bytes:
        try:
            return response.read1(CHUNK)
        except (HTTPException, OSError) as exc:
            raise _RetryError(_words(exc, self.patience.timeout_s)) from exc


def _write(file: FileIO, chunk: bytes, path: Path) -> None:
    """Write all of a chunk; nothing is buffered, so that closing the file cannot fail on a full disk."""
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as exc:
        hint = "free some space; run the same command to continue" if exc.errno in DISK_FULL else None
        raise OutputError(os_error_text(path, exc), hint=hint) from exc


def _words(exc: Exception, timeout_s: float) -> str:
    if isinstance(exc, TimeoutError):
        return f"nothing came for {timeout_s:g} s"
    text = (getattr(exc, "strerror", None) or first_line(exc)).rstrip(".")
    return text[:1].lower() + text[1:]


def _retry_after(headers: Message) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, section 10.2.3), or None."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


# ---------------------------------------------------------------------- the state of a part


def _state_path(partial: Path) -> Path:
    return partial.with_suffix(".json")


def _read_state(partial: Path) -> _State | None:
    try:
        fields = json.loads(_state_path(partial).read_text("utf-8"))
        state = _State(fields["address"], fields["validator"], fields["total"])
    except (OSError, ValueError, TypeError, KeyError):
        return None  # so the download starts over
    is_number = state.total is None or type(state.total) is int
    return state if isinstance(state.validator, str) and state.validator and is_number else None


def _write_state(partial: Path, address: str, headers: HTTPMessage, total: int | None) -> None:
    """Record which file the part belongs to, before it is written."""
    if validator := _validator(headers):
        state = _State(_digest(address), validator, total)
        write_whole(_state_path(partial), json.dumps(asdict(state)) + "\n")
    else:
        _state_path(partial).unlink(missing_ok=True)


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()


def _validator(headers: HTTPMessage) -> str:
    """What tells one version of the file from another; a weak ETag does not (RFC 9110, section 8.8.1)."""
    etag = str(headers.get("ETag", "")).strip()
    if etag and not etag.startswith("W/"):
        return etag
    return "" if etag else str(headers.get("Last-Modified", "")).strip()


# ---------------------------------------------------------------------- urllib


class _Redirects(request.HTTPRedirectHandler):
    """Follows a few redirects, none of them from https to http, and none away from the web."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(
        self,
        req: request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> request.Request | None:
        """Follow a redirect, or refuse to."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise WeightsMissingError(
                f"{shown(req.full_url)}: redirects from {old} to {new or 'nowhere'}: not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """What this system trusts; reading it takes longer than a request to a server nearby."""
    return ssl.create_default_context()


def _opener() -> request.OpenerDirector:
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(context=_certificates()),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
