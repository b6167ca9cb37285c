"""One file from the web, over a line that may break: complete, or as a part that the next try goes on from.

    download.partial   what has come so far
    download.json      of which file that is: its address, its validator (ETag, else Last-Modified), its size

The part is only gone on from where the server says, by `If-Range` (RFC 9110, section 13.1.5), that it still
is the same file; a server that gives no validator is asked for the whole file again. What comes is held
against Content-Range and Content-Length, since Python's client ends a body that breaks off like one that is
complete. Whether it is the right file is for the caller to find out, from its content.

This is `urllib` and no HTTP library: one GET of one file at a time, and a redirect or two, is all that dymn
ever does on the web, and not worth a dependency of every installation. `urllib` honours `https_proxy`,
`http_proxy` and `no_proxy`, and `SSL_CERT_FILE`. Handlers for anything but HTTP(S) are left out, so that no
redirect leads to a local file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
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

from dymn_cli.errors import OutputError, UsageError, WeightsMissingError, os_error_text
from dymn_cli.store.local import os_errors, write_whole

__all__ = ["OFFLINE", "Patience", "Watch", "check_address", "download", "forget", "is_offline", "shown"]

OFFLINE = "DYMN_OFFLINE"
CHUNK = 1 << 16
NEWS = 1 << 16  # bytes that a try must bring for the tries before it to be forgotten
MAX_REDIRECTS = 5
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # RFC 9110, and 425 Too Early of RFC 8470
LARGEST_LENGTH = 10**15  # bytes; beyond any disk, and short enough to be shown
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)")
PAGES = ("text/html", "application/xhtml+xml")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server.

    Args:
        timeout_s: for the connection, and for the next bytes.
        waits_s: before the second try, the third, ...; after so many in a row that brought nothing more, the
            last error stands.
        longest_wait_s: a server that asks for more (Retry-After) is not waited for.
    """

    timeout_s: float = 30.0
    waits_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    longest_wait_s: float = 120.0


class Watch(Protocol):
    """Who is told how far it is."""

    def at(self, n_bytes: int, total: int | None) -> None:
        """So many bytes are there, of so many if that is known."""

    def note(self, text: str) -> None:
        """Something happened that takes time or trust."""


class _AgainError(Exception):
    """A try that failed, and that another may follow."""

    def __init__(self, reason: str, *, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


def is_offline() -> bool:
    """Whether the user forbids the network."""
    return os.environ.get(OFFLINE, "").strip().lower() not in ("", "0", "false", "no", "off")


def shown(address: str) -> str:
    """An address as it is told and remembered: without what may be a secret in it."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def check_address(address: str) -> None:
    """Refuse what is no address of a file on the web.

    Raises:
        UsageError: it is none.
    """
    hint = "https://HOST/PATH, or http:// within your own network"
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as exc:
        raise UsageError(f"{address!r} is no address: {exc}", hint=hint) from exc
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise UsageError(f"{address!r} is no address of a file on the web", hint=hint)
    if parts.username is not None:
        raise UsageError("an address with a user name is not taken: it would show in lists of processes")


def forget(partial: Path) -> None:
    """Remove a part and what is known of it.

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
    most_bytes: int,
    size_bytes: int | None = None,
    patience: Patience | None = None,
) -> None:
    """Bring a file to `partial`, going on from what lies there of it.

    Args:
        address: of the file; https, or http where the user says so.
        partial: a path in a folder that exists and that no other process writes to.
        watch: is told how far it is.
        most_bytes: a larger file is none of ours.
        size_bytes: of the file, where that is known.
        patience: how long to wait.

    Raises:
        UsageError: no address.
        WeightsMissingError: the network is forbidden, or the file cannot be had.
        OutputError: it cannot be written.
    """
    check_address(address)
    if is_offline():
        raise WeightsMissingError(
            f"{OFFLINE} is set, so nothing is fetched from the web",
            hint="unset it, or --from FILE for one that you carried here",
        )
    job = _Job(address, partial, watch, most_bytes, size_bytes, patience or Patience())
    n_failed, furthest = 0, job.n_there()
    while True:
        try:
            return job.attempt()
        except _AgainError as error:
            there = job.n_there()
            if there >= furthest + NEWS:
                n_failed = 0
            furthest = max(furthest, there)
            waits = job.patience.waits_s
            if n_failed >= len(waits):
                raise WeightsMissingError(f"{shown(address)}: {error.reason}") from error
            wait_s = waits[n_failed] if error.wait_s is None else error.wait_s
            n_failed += 1
            watch.note(f"{error.reason}; trying again{f' in {wait_s:.0f} s' if wait_s >= 1 else ''}")
            time.sleep(wait_s)


# ---------------------------------------------------------------------- one try


@dataclass(frozen=True, slots=True)
class _State:
    """Of which file there is a part; its address as a digest, since there may be a secret in it."""

    address: str
    validator: str
    total: int | None


@dataclass(frozen=True, slots=True)
class _Job:
    address: str
    partial: Path
    watch: Watch
    most_bytes: int
    size_bytes: int | None
    patience: Patience

    def n_there(self) -> int:
        """Bytes that have come; what a link leads to is not ours."""
        try:
            status = self.partial.lstat()
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def attempt(self) -> None:
        """Ask once for what is missing, and take what comes."""
        state, n_there = _read_state(self.partial), self.n_there()
        if state is None or state.address != _digest(self.address) or not n_there:
            state, n_there = None, 0
        elif state.total is not None and n_there == state.total:
            return
        with self._open(state, n_there) as response:
            start, total = self._place(response, state, n_there)
            _refuse_pages(response.headers.get_content_type() in PAGES, self.address)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise WeightsMissingError(f"{shown(self.address)}: the server sends it compressed, unasked")
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
            raise UsageError(f"{shown(self.address)!r} is no address of a file on the web: {exc}") from exc
        except (HTTPException, OSError) as exc:
            self._failed(exc)
        assert isinstance(response, HTTPResponse)  # no handler of ours gives anything else
        return response

    def _refused(self, error: HTTPError) -> NoReturn:
        """Tell what a status that is no success means.

        Raises:
            WeightsMissingError: it is final.
        """
        status = f"{error.code} {error.reason}".strip()
        if error.code == 416:  # Range Not Satisfiable: there is more here than there should be
            forget(self.partial)
            raise _AgainError("the server has less of the file than has come already", wait_s=0.0)
        if error.code in TRY_AGAIN:
            wait_s = _retry_after(error.headers)
            if wait_s is not None and wait_s > self.patience.longest_wait_s:
                raise WeightsMissingError(
                    f"{shown(self.address)}: the server answers {status} and wants to be left alone"
                    f" for {wait_s:.0f} s"
                )
            raise _AgainError(f"the server answers {status}", wait_s=wait_s)
        if 300 <= error.code < 400:
            raise WeightsMissingError(
                f"{shown(self.address)}: redirects in a circle, too often, or away from the web: not followed"
            )
        what = "no such file there" if error.code in (404, 410) else "the server refuses"
        raise WeightsMissingError(f"{shown(self.address)}: {what} ({status})")

    def _failed(self, exc: Exception) -> NoReturn:
        """Tell what broke on the way.

        Raises:
            WeightsMissingError: it is final.
        """
        reason = exc.reason if isinstance(exc, URLError) and isinstance(exc.reason, Exception) else exc
        where = shown(self.address)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise WeightsMissingError(
                f"{where}: the certificate of the server is not trusted: {reason.verify_message}"
            ) from exc
        if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
            raise WeightsMissingError(f"{where}: no server of that name can be found from here") from exc
        raise _AgainError(_words(reason, self.patience.timeout_s)) from exc

    def _place(self, response: HTTPResponse, state: _State | None, n_there: int) -> tuple[int, int | None]:
        """Where in the file the body begins, and how long the file is; what came before is put right."""
        length = response.length  # of this body; None where the server does not say
        if length is not None and length > LARGEST_LENGTH:
            raise WeightsMissingError(f"{shown(self.address)}: the server announces an impossible length")
        if response.status == 200:
            return 0, length
        if response.status != 206:
            raise WeightsMissingError(
                f"{shown(self.address)}: the server answers {response.status} {response.reason}"
            )
        match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        total = None if match is None or match[3] == "*" else int(match[3])
        if match is None or int(match[1]) != n_there or (total is not None and int(match[2]) >= total):
            self._start_over("the server sent another part than it was asked for")
        if length is not None and length != int(match[2]) + 1 - n_there:
            self._start_over("the server sent a part of another length than it says")
        if state is not None:
            other_size = total is not None and state.total not in (None, total)
            if other_size or _validator(response.headers) not in ("", state.validator):
                self._start_over("the file on the server has changed meanwhile")
            total = total or state.total
        return n_there, total

    def _start_over(self, reason: str) -> NoReturn:
        if not self.n_there():  # it was asked for the whole file: there is nothing to do without
            raise WeightsMissingError(f"{shown(self.address)}: {reason}")
        forget(self.partial)
        raise _AgainError(reason, wait_s=0.0)

    def _require_fit(self, total: int | None, start: int) -> None:
        """Find out before it comes whether it can be the file, and whether there is room for it."""
        where = shown(self.address)
        if total is None:
            return
        if self.size_bytes is not None and total != self.size_bytes:
            raise WeightsMissingError(
                f"{where}: the server offers {total:,} bytes, the file has {self.size_bytes:,}"
            )
        self._require_small(total)
        with contextlib.suppress(OSError):
            if (free := shutil.disk_usage(self.partial.parent).free) < total - start:
                raise OutputError(
                    f"{self.partial.parent}: {total - start:,} bytes are to come, and {free:,} are free",
                    hint="free some space, or DYMN_HOME=FOLDER on another disk",
                )

    def _require_small(self, n_bytes: int) -> None:
        if n_bytes > self.most_bytes:
            raise WeightsMissingError(
                f"{shown(self.address)}: larger than such a model can be ({self.most_bytes:,} bytes)"
            )

    def _take(self, response: HTTPResponse, start: int, total: int | None) -> None:
        """Append the body to what is there, and be content only with all of it."""
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
                    _refuse_pages(True, self.address)
                _write(file, chunk, self.partial)
                n_bytes += len(chunk)
                self._require_small(n_bytes)
                self.watch.at(n_bytes, total)
        whole = total if total is not None else self.size_bytes
        if whole is not None and n_bytes < whole:
            raise _AgainError(f"the connection broke off at {n_bytes:,} of {whole:,} bytes")

    def _receive(self, response: HTTPResponse) -> bytes:
        try:
            return response.read1(CHUNK)
        except (HTTPException, OSError) as exc:
            raise _AgainError(_words(exc, self.patience.timeout_s)) from exc


def _write(file: FileIO, chunk: bytes, path: Path) -> None:
    """Write all of a chunk; nothing is buffered, so that closing a file on a full disk fails no more."""
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as exc:
        hint = "free some space; the same command then goes on" if exc.errno in FULL else None
        raise OutputError(os_error_text(path, exc), hint=hint) from exc


def _refuse_pages(is_page: bool, address: str) -> None:
    """Tell a log-in page or an error page from a file.

    Raises:
        WeightsMissingError: it is a page.
    """
    if is_page:
        raise WeightsMissingError(
            f"{shown(address)}: the server sent a web page instead of a file",
            hint="a log-in page on the way? Open the address in a browser, then --from FILE",
        )


def _words(exc: Exception, timeout_s: float) -> str:
    if isinstance(exc, TimeoutError):
        return f"nothing came for {timeout_s:g} s"
    text = (getattr(exc, "strerror", None) or str(exc) or type(exc).__name__).rstrip(".")
    return text[:1].lower() + text[1:].splitlines()[0] if text else "the connection broke off"


def _retry_after(headers: Message) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, section 10.2.3), or None."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


# ---------------------------------------------------------------------- what is known of the part


def _state_path(partial: Path) -> Path:
    return partial.with_suffix(".json")


def _read_state(partial: Path) -> _State | None:
    try:
        fields = json.loads(_state_path(partial).read_text("utf-8"))
        state = _State(fields["address"], fields["validator"], fields["total"])
    except (OSError, ValueError, TypeError, KeyError):
        return None  # then the file is fetched from its beginning
    is_number = state.total is None or type(state.total) is int
    return state if isinstance(state.validator, str) and state.validator and is_number else None


def _write_state(partial: Path, address: str, headers: HTTPMessage, total: int | None) -> None:
    """Remember of which file the part will be, before the part is there."""
    if validator := _validator(headers):
        state = _State(_digest(address), validator, total)
        write_whole(_state_path(partial), json.dumps(asdict(state)) + "\n")
    else:
        _state_path(partial).unlink(missing_ok=True)


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()


def _validator(headers: HTTPMessage) -> str:
    """What tells one state of the file from another; weak ETags do not (RFC 9110, section 8.8.1)."""
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
        """Make the next request, or refuse to."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise WeightsMissingError(
                f"{shown(req.full_url)}: redirects from {old} to {new or 'nowhere'}, which is not followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> request.OpenerDirector:
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(context=ssl.create_default_context()),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
