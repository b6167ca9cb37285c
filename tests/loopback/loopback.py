"""A web server on loopback that serves files as badly as it is told to.

    web.serve("model.pt", data, cut(1000), status(503))    breaks off, then is busy, then serves it well
    web.asked                                              what it was asked for, in order

Each request takes the next step of its file; without one, the file is served well.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest
from quiet_server import QuietHandler, QuietServer, forget_network_settings

BODY = 1 << 14


@dataclass
class Served:
    """A file as it is on the server; a step may change it."""

    data: bytes
    steps: list[Step]
    etag: str | None = '"one"'
    modified: str | None = None
    takes_ranges: bool = True
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class Asked:
    """A request: its path (all of the address, if it came as to a proxy) and headers in lower case."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        """What part was asked for."""
        return self.headers.get("range")


Step = Callable[["Handler", Served], None]


class Handler(QuietHandler, BaseHTTPRequestHandler):
    """Answers GET; what it does is said by the steps of the file."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = re.sub(r"^http://[^/]+", "", self.path).partition("?")[0]
        self.server.asked.append(
            Asked(self.path, {key.lower(): value for key, value in self.headers.items()})
        )
        served = self.server.files.get(path)
        if served is None:
            status(404)(self, Served(b"", []))
        else:
            (served.steps.pop(0) if served.steps else well)(self, served)
        self.close_connection = True

    def part(self, served: Served) -> tuple[int, dict[str, str]] | None:
        """Where the part begins that is asked for and the headers for it; None for the whole file."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if wanted is None or not served.takes_ranges or condition not in (None, served.etag, served.modified):
            return None
        start, size = int(wanted[1]), len(served.data)
        return start, {"Content-Range": f"bytes {start}-{size - 1}/{size}"}

    def begin(self, code: int, served: Served, length: int | None, **headers: str) -> None:
        """Send the status and the headers."""
        self.send_response(code)
        self.send_header("Content-Type", served.content_type)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in (("ETag", served.etag), ("Last-Modified", served.modified)):
            if value is not None:
                self.send_header(name, value)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, data: bytes) -> None:
        """Send some of the body; a client that has gone is none of our business."""
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def reset(self) -> None:
        """End the connection as a line that breaks does."""
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class Server(QuietServer):
    """Holds the files, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.closing = threading.Event()


# ---------------------------------------------------------------------- steps


def well(handler: Handler, served: Served) -> None:
    """As a good server does."""
    cut(len(served.data))(handler, served)


def cut(n_bytes: int) -> Step:
    """Break off when so many bytes of the file are out."""

    def step(handler: Handler, served: Served) -> None:
        found = handler.part(served)
        if found is None:
            handler.begin(200, served, len(served.data))
            handler.send(served.data[:n_bytes])
        elif found[0] >= len(served.data):
            handler.begin(416, served, 0, Content_Range=f"bytes */{len(served.data)}")
        else:
            start, headers = found
            handler.begin(206, served, len(served.data) - start, **headers)
            handler.send(served.data[start:n_bytes])
        handler.reset()

    return step


def status(code: int, body: bytes = b"", **headers: str) -> Step:
    """Answer with a status."""

    def step(handler: Handler, served: Served) -> None:
        handler.begin(code, Served(b"", [], etag=None), len(body), **headers)
        handler.send(body)

    return step


def redirect(address: str, code: int = 302) -> Step:
    """Send the client elsewhere."""
    return status(code, Location=address)


def length(n_bytes: int | None) -> Step:
    """Send the whole file with a Content-Length of so much, or none."""

    def step(handler: Handler, served: Served) -> None:
        handler.begin(200, served, n_bytes, Connection="close")
        handler.send(served.data)
        handler.reset()

    return step


def another_part(shift: int) -> Step:
    """Send a part that begins elsewhere than it was asked for, and say so."""

    def step(handler: Handler, served: Served) -> None:
        found = handler.part(served)
        assert found is not None
        start, size = found[0] + shift, len(served.data)
        handler.begin(206, served, size - start, Content_Range=f"bytes {start}-{size - 1}/{size}")
        handler.send(served.data[start:])

    return step


def stall(n_bytes: int) -> Step:
    """Send so many bytes, and then nothing until the server is closed."""

    def step(handler: Handler, served: Served) -> None:
        handler.begin(200, served, len(served.data))
        handler.send(served.data[:n_bytes])
        handler.server.closing.wait(30)

    return step


def slowly(pause_s: float) -> Step:
    """Pause between the pieces."""

    def step(handler: Handler, served: Served) -> None:
        handler.begin(200, served, len(served.data))
        for n in range(0, len(served.data), BODY):
            handler.send(served.data[n : n + BODY])
            handler.server.closing.wait(pause_s)

    return step


def page(handler: Handler, served: Served) -> None:
    """Send a page such as one has to log in on."""
    text = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n"
    handler.begin(200, Served(b"", [], etag=None, content_type="text/html; charset=utf-8"), len(text))
    handler.send(text)


def changed(data: bytes, etag: str | None, then: Step = well) -> Step:
    """From here on it is another file."""

    def step(handler: Handler, served: Served) -> None:
        served.data, served.etag = data, etag
        then(handler, served)

    return step


# ---------------------------------------------------------------------- fixture


@dataclass
class Web:
    """The server, for tests."""

    server: Server = field(default_factory=Server)

    @property
    def address(self) -> str:
        """Of its folder of files, without a slash at the end."""
        return f"http://{self.server.host}"

    @property
    def asked(self) -> list[Asked]:
        """What it was asked for, in order."""
        return self.server.asked

    def serve(self, name: str, data: bytes, *steps: Step, **settings: object) -> str:
        """Put a file on it; its address."""
        self.server.files[f"/{name}"] = Served(data, list(steps), **settings)  # type: ignore[arg-type]
        return f"{self.address}/{name}"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server on loopback."""
    forget_network_settings(monkeypatch)
    found = Web()
    with found.server.running():
        yield found
        found.server.closing.set()
