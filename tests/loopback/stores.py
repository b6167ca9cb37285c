"""A web server on loopback that keeps objects as stores do: HEAD, ranges, an index page, and errors to order.

address = objects.put("night.wav", data)
objects.n_sent                              bytes of bodies that it has sent

Also an S3 server, which is kept by others, in a process of its own.

client, env = s3                            client("...") runs lines of Python with the boto3 client `c`
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from quiet_server import QuietHandler, QuietServer, forget_network_settings

PIECE = 1 << 18
SECRET = "wJalrXUtnFEMIK7MDENG"

Read = Callable[[int, int], bytes]
Bucket = tuple[Any, dict[str, str | None]]


@dataclass
class Object:
    """What is kept under a path: its size, and what gives a range of it."""

    size: int
    read: Read
    etag: str | None = '"one"'
    gives_ranges: bool = True
    login: str | None = None  # what the header Authorization must be
    statuses: list[int] = field(default_factory=list)  # answers to the next requests for bytes
    breaks_off: int = 0  # so many answers end in the middle
    shift: int = 0  # ranges begin so much earlier than asked for, and say so
    stalls: threading.Event | None = None  # answers wait for it in the middle
    location: str | None = None  # where it is redirected to


class Handler(QuietHandler, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        found = self.server.objects.get(path)
        if found is None and path.endswith("/"):
            return self.index(path, with_body=with_body)
        if found is None:
            return self.refuse(404)
        if found.login is not None and self.headers.get("Authorization") != found.login:
            return self.refuse(401)
        if with_body and found.statuses:
            return self.refuse(found.statuses.pop(0))
        if found.location is not None:
            return self.refuse(302, Location=found.location)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = 0, found.size
        if wanted is not None and found.gives_ranges:
            start, end = int(wanted[1]), min(int(wanted[2]) + 1, found.size)
            start, end = max(0, start - found.shift), max(1, end - found.shift)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{found.size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Type", "application/octet-stream")
        if found.etag is not None:
            self.send_header("ETag", found.etag)
        self.end_headers()
        if with_body:
            self.send(found, start, end)
        return None

    def send(self, found: Object, start: int, end: int) -> None:
        if found.breaks_off:
            found.breaks_off -= 1
            end = start + (end - start) // 2
            self.close_connection = True
        with contextlib.suppress(OSError):
            while start < end:
                piece = found.read(start, min(start + PIECE, end))
                self.wfile.write(piece)
                self.server.n_sent += len(piece)
                start += len(piece)
                if found.stalls is not None:
                    found.stalls.wait()

    def index(self, path: str, *, with_body: bool) -> None:
        below = {name[len(path) :] for name in self.server.objects if name.startswith(path)}
        names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below})
        page = "".join(f'<a href="{name}">{name}</a>\n' for name in names).encode()
        self.send_response(200 if names else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if with_body:
            self.wfile.write(page)

    def refuse(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


class Server(QuietServer):
    def __init__(self) -> None:
        super().__init__(Handler)
        self.objects: dict[str, Object] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.n_sent = 0


@dataclass
class Objects:
    """The server, for tests."""

    server: Server = field(default_factory=Server)

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def asked(self) -> list[tuple[str, str, str | None]]:
        """Method, path and range of each request."""
        return self.server.asked

    @property
    def n_sent(self) -> int:
        return self.server.n_sent

    def put(self, name: str, data: bytes | tuple[int, Read], **settings: object) -> str:
        """Keep an object, given as bytes or as its size and what reads it; its address."""
        size, read = data if isinstance(data, tuple) else (len(data), lambda start, end: data[start:end])
        self.server.objects[f"/{name}"] = Object(size, read, **settings)  # type: ignore[arg-type]
        return f"http://{self.host}/{name}"

    def __getitem__(self, name: str) -> Object:
        return self.server.objects[f"/{name}"]


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """A server on loopback, with nothing in it."""
    pytest.importorskip("aiohttp", reason="the driver for the web")
    forget_network_settings(monkeypatch)
    found = Objects()
    with found.server.running():
        yield found


@pytest.fixture(scope="module")
def s3() -> Iterator[Bucket]:
    """A client of an S3 server on loopback with an empty bucket, and the environment that leads to it."""
    pytest.importorskip("s3fs", reason="the driver for S3")
    pytest.importorskip("moto.server", reason="the S3 server on loopback")
    code = "from moto.server import ThreadedMotoServer as S; s = S(port=0, verbose=False); s.start();"
    code += "print(s.get_host_and_port()[1], flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        env: dict[str, str | None] = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }
        script = "import json, sys, boto3; c = boto3.client('s3'); exec(sys.stdin.read())"

        def client(lines: str) -> Any:
            """Run lines that use the client `c`, and hand back what they print as JSON."""
            ran = subprocess.run(
                [sys.executable, "-c", script],
                input=lines,
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, **{key: value or "" for key, value in env.items()}},
            )
            return json.loads(ran.stdout or "null")

        client("c.create_bucket(Bucket='rec'); c.create_bucket(Bucket='out')")
        yield client, env
        server.kill()
