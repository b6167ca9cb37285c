"""Downloading: the whole file or a part that the next try goes on from, whatever the server does."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from loopback import (
    Web,
    another_part,
    changed,
    cut,
    length,
    page,
    redirect,
    slowly,
    stall,
    status,
)

from dymn_cli.errors import DymnError, OutputError, UsageError, WeightsMissingError
from dymn_cli.store import download as download_module
from dymn_cli.store.download import Patience, check_address, download, forget, is_offline, shown

DATA = b"PK" + os.urandom(299_996) + b"PK"  # a page begins with "<", as one in 256 random files would
QUICK = Patience(timeout_s=5.0, waits_s=(0.0, 0.0, 0.0))


class Notes:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.places: list[tuple[int, int | None]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def at(self, n_bytes: int, total: int | None) -> None:
        self.places.append((n_bytes, total))


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "download.partial"


@pytest.fixture
def get(partial: Path) -> Callable[..., Notes]:
    """Downloads to `partial` without waiting between tries."""

    def run(address: str, **options: Any) -> Notes:
        watch = Notes()
        settings = {"max_bytes": 1_000_000, "patience": QUICK} | options
        download(address, partial, watch=watch, **settings)
        return watch

    return run


def begin(get: Callable[..., Notes], web: Web, n_bytes: int = 100_000, **settings: Any) -> str:
    """A download of DATA of which so much has come before the line went dead."""
    address = web.serve("x.pt", DATA, *[cut(n_bytes)] * 4, **settings)
    with pytest.raises(WeightsMissingError, match="broke off"):
        get(address)
    web.server.files["/x.pt"].steps.clear()
    web.asked.clear()
    return address


def test_a_file_comes_whole(web: Web, get: Callable[..., Notes], partial: Path) -> None:
    watch = get(web.serve("x.pt", DATA), size_bytes=len(DATA))
    assert partial.read_bytes() == DATA
    assert watch.places[0] == (0, len(DATA))
    assert watch.places[-1] == (len(DATA), len(DATA))
    assert watch.notes == []
    (asked,) = web.asked
    assert asked.range is None
    assert asked.headers["user-agent"].startswith("dymn/")
    assert asked.headers["accept-encoding"] == "identity"


def test_a_line_that_breaks_is_gone_on_with_where_it_broke(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    watch = get(web.serve("x.pt", DATA, cut(100_000), cut(250_000)))
    assert partial.read_bytes() == DATA
    assert [asked.range for asked in web.asked] == [None, "bytes=100000-", "bytes=250000-"]
    assert web.asked[1].headers["if-range"] == '"one"'
    assert len(watch.notes) == 2
    assert "broke off at 100,000 of 300,000 bytes" in watch.notes[0]


def test_what_brings_something_is_not_given_up(web: Web, get: Callable[..., Notes], partial: Path) -> None:
    data = b"PK" + os.urandom(899_998)
    get(web.serve("x.pt", data, *(cut(n) for n in range(70_000, 900_000, 70_000))))
    assert len(web.asked) > 2 * len(QUICK.waits_s)
    assert partial.read_bytes() == data


def test_a_later_run_goes_on_from_the_part(web: Web, get: Callable[..., Notes], partial: Path) -> None:
    address = begin(get, web)
    assert partial.read_bytes() == DATA[:100_000]
    watch = get(address)
    assert partial.read_bytes() == DATA
    assert [asked.range for asked in web.asked] == ["bytes=100000-"]
    assert watch.places[0] == (100_000, 300_000)


def test_last_modified_will_do_where_there_is_no_etag(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    modified = formatdate(1e9, usegmt=True)
    address = begin(get, web, etag=None, modified=modified)
    get(address)
    assert partial.read_bytes() == DATA
    assert web.asked[0].headers["if-range"] == modified


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_it_begins_again(
    etag: str | None, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = begin(get, web, etag=etag)
    get(address)
    assert partial.read_bytes() == DATA
    assert web.asked[0].range is None


def test_a_server_without_ranges_is_asked_for_all_of_it(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = begin(get, web, takes_ranges=False)
    get(address)
    assert partial.read_bytes() == DATA
    assert len(web.asked) == 1


@pytest.mark.parametrize("size", [300_000, 200_000, 50_000])
def test_a_file_that_has_changed_meanwhile_is_fetched_from_its_beginning(
    size: int, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address, new = begin(get, web), b"PK" + os.urandom(size)[2:]
    web.serve("x.pt", new, etag='"two"')
    get(address)
    assert partial.read_bytes() == new


def test_a_server_that_ignores_the_condition_is_found_out_by_its_etag(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    def careless(handler: Any, served: Any) -> None:
        start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
        handler.begin(206, served, len(new) - start, Content_Range=f"bytes {start}-{len(new) - 1}/{len(new)}")
        handler.send(new[start:])

    address, new = begin(get, web), b"PK" + os.urandom(len(DATA) - 2)
    web.serve("x.pt", new, careless, etag='"two"')
    watch = get(address)
    assert partial.read_bytes() == new
    assert "changed meanwhile" in watch.notes[0]


@pytest.mark.parametrize("shift", [-5, 7])
def test_a_part_that_was_not_asked_for_is_not_taken(
    shift: int, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = begin(get, web)
    web.server.files["/x.pt"].steps.append(another_part(shift))
    watch = get(address)
    assert partial.read_bytes() == DATA
    assert [asked.range for asked in web.asked] == ["bytes=100000-", None]
    assert "another part" in watch.notes[0]


def test_a_part_longer_than_the_file_is_dropped(web: Web, get: Callable[..., Notes], partial: Path) -> None:
    address = begin(get, web)
    web.server.files["/x.pt"].data = DATA[:50_000]  # and the same ETag
    get(address)
    assert partial.read_bytes() == DATA[:50_000]


def test_a_part_of_another_address_is_not_gone_on_with(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    begin(get, web)
    get(web.serve("y.pt", DATA[::-1]))
    assert partial.read_bytes() == DATA[::-1]
    assert web.asked[0].range is None


@pytest.mark.parametrize("state", [b"", b"[]", b'{"address": 1}', b"\xff", None])
def test_a_part_of_which_nothing_is_known_is_fetched_anew(
    state: bytes | None, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = begin(get, web)
    beside = partial.with_suffix(".json")
    beside.unlink() if state is None else beside.write_bytes(state)
    get(address)
    assert partial.read_bytes() == DATA
    assert web.asked[0].range is None


def test_what_is_complete_is_not_asked_for_again(web: Web, get: Callable[..., Notes], partial: Path) -> None:
    address = web.serve("x.pt", DATA)
    get(address)
    get(address)
    assert len(web.asked) == 1
    forget(partial)
    assert list(partial.parent.iterdir()) == []


def test_a_secret_in_the_address_is_not_written_down(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = web.serve("x.pt", DATA, status(403))
    with pytest.raises(WeightsMissingError) as caught:
        get(f"{address}?token=hush")
    get(f"{address}?token=hush")
    assert "hush" not in caught.value.message + partial.with_suffix(".json").read_text()
    assert web.asked[0].path.endswith("?token=hush")


# ---------------------------------------------------------------------- servers that lie


def test_a_length_that_is_too_large_is_a_line_that_breaks(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    with pytest.raises(WeightsMissingError, match="broke off at 300,000 of 300,001"):
        get(web.serve("x.pt", DATA, *[length(len(DATA) + 1)] * 9, takes_ranges=False))


def test_a_length_that_is_not_that_of_the_file_is_refused_before_it_comes(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = web.serve("x.pt", DATA, length(1000))
    with pytest.raises(WeightsMissingError, match="offers 1,000 bytes, the file has 300,000"):
        get(address, size_bytes=len(DATA))
    assert not partial.exists()


def test_a_body_without_a_length_that_ends_early_is_noticed_where_the_size_is_known(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    def no_length(handler: Any, served: Any) -> None:
        handler.begin(200, served, None, Connection="close")
        handler.send(DATA[:120_000])
        handler.reset()

    get(web.serve("x.pt", DATA, no_length), size_bytes=len(DATA))
    assert partial.read_bytes() == DATA
    assert web.asked[1].range == "bytes=120000-"
    get(web.serve("z.pt", DATA, length(None)))
    assert partial.read_bytes() == DATA


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_larger_than_any_model_is_refused(
    announced: bool, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = web.serve("x.pt", DATA, length(len(DATA) if announced else None))
    with pytest.raises(WeightsMissingError, match="larger than such a model"):
        get(address, max_bytes=200_000)


@pytest.mark.parametrize("content_type", ["text/html", "application/octet-stream"])
def test_a_web_page_is_no_file(content_type: str, web: Web, get: Callable[..., Notes], partial: Path) -> None:
    address = web.serve("x.pt", b"\n <html><body>Please log in", content_type=content_type)
    with pytest.raises(WeightsMissingError, match="a web page instead of a file") as caught:
        get(address)
    assert "--from" in (caught.value.hint or "")
    assert len(web.asked) == 1
    assert not partial.exists() or partial.stat().st_size == 0


def test_a_web_page_does_not_replace_the_part(web: Web, get: Callable[..., Notes], partial: Path) -> None:
    address = begin(get, web)
    web.server.files["/x.pt"].steps.append(page)
    with pytest.raises(WeightsMissingError, match="web page"):
        get(address)
    assert partial.read_bytes() == DATA[:100_000]
    get(address)
    assert partial.read_bytes() == DATA


def test_what_was_compressed_unasked_is_refused(web: Web, get: Callable[..., Notes]) -> None:
    with pytest.raises(WeightsMissingError, match="compressed"):
        get(web.serve("x.pt", DATA, status(200, DATA, Content_Encoding="gzip")))


# ---------------------------------------------------------------------- servers that refuse


@pytest.mark.parametrize(("code", "words"), [(404, "no such file"), (410, "no such file"), (403, "refuses")])
def test_what_is_not_there_is_asked_for_once(
    code: int, words: str, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = web.serve("x.pt", DATA, status(code))
    with pytest.raises(WeightsMissingError, match=words) as caught:
        get(address)
    assert str(code) in caught.value.message
    assert address in caught.value.message
    assert len(web.asked) == 1
    assert not partial.exists()


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(
    code: int, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    watch = get(web.serve("x.pt", DATA, status(code), status(code)))
    assert partial.read_bytes() == DATA
    assert len(watch.notes) == 2
    assert str(code) in watch.notes[0]


def test_a_server_that_stays_in_trouble_is_given_up(web: Web, get: Callable[..., Notes]) -> None:
    address = web.serve("x.pt", DATA, *[status(500)] * 9)
    with pytest.raises(WeightsMissingError, match="500"):
        get(address)
    assert len(web.asked) == 1 + len(QUICK.waits_s)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited."""
    seconds: list[float] = []
    monkeypatch.setattr(download_module.time, "sleep", seconds.append)
    return seconds


def test_waits_grow_and_a_server_may_say_how_long(
    web: Web, get: Callable[..., Notes], waited: list[float]
) -> None:
    soon = formatdate(time.time() + 40, usegmt=True)
    steps = [status(503), status(503, Retry_After="7"), status(503, Retry_After=soon), status(503)]
    get(web.serve("x.pt", DATA, *steps), patience=Patience())
    assert waited[:2] == [1.0, 7.0]
    assert 30 < waited[2] <= 41
    assert waited[3] == 8.0


def test_a_server_that_wants_an_hour_is_not_waited_for(
    web: Web, get: Callable[..., Notes], waited: list[float]
) -> None:
    with pytest.raises(WeightsMissingError, match="3600 s"):
        get(web.serve("x.pt", DATA, status(429, Retry_After="3600")))
    assert waited == []


def test_a_server_that_falls_silent_is_left_after_a_while(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    patience = Patience(timeout_s=0.3, waits_s=(0.0,))
    watch = get(web.serve("x.pt", DATA, stall(100_000)), patience=patience)
    assert partial.read_bytes() == DATA
    assert web.asked[1].range == "bytes=100000-"
    assert "nothing came for 0.3 s" in watch.notes[0]


def test_a_server_that_is_slow_is_waited_for(web: Web, get: Callable[..., Notes], partial: Path) -> None:
    watch = get(web.serve("x.pt", DATA, slowly(0.01)), patience=Patience(timeout_s=2.0, waits_s=()))
    assert partial.read_bytes() == DATA
    assert len(watch.places) > 5


def test_nobody_listening_is_told_in_a_line(get: Callable[..., Notes]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(WeightsMissingError, match="refused") as caught:
        get(f"http://127.0.0.1:{port}/x.pt")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("answer", [b"", b"\n", b"\r\n", b"x", b"HTTP"])
def test_what_answers_without_http_is_told_in_a_line(get: Callable[..., Notes], answer: bytes) -> None:
    n_tries = 1 + len(QUICK.waits_s)

    def serve(listening: socket.socket) -> None:
        for _ in range(n_tries):
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with pytest.raises(WeightsMissingError) as caught:
            get(f"http://127.0.0.1:{listening.getsockname()[1]}/x.pt")
        thread.join()
    assert re.fullmatch(r".+: .*\w", caught.value.message)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "no server of that name"),
        (ssl.SSLCertVerificationError("self-signed certificate"), "server's certificate is not trusted"),
    ],
)
def test_what_no_second_try_mends_is_tried_once(
    reason: Exception, words: str, get: Callable[..., Notes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opener:
        def open(self, *args: object, **options: object) -> None:
            raise URLError(reason)

    if isinstance(reason, ssl.SSLCertVerificationError):
        reason.verify_message = "self-signed certificate"
    monkeypatch.setattr(download_module, "_opener", Opener)
    with pytest.raises(WeightsMissingError, match=words):
        get("https://models.example/x.pt")


# ---------------------------------------------------------------------- redirects, proxies, addresses


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_keep_the_range(
    code: int, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    target = web.serve("target", DATA, cut(100_000))
    get(web.serve("x.pt", b"", redirect(target, code), redirect("/target", code)))
    assert partial.read_bytes() == DATA
    assert [asked.range for asked in web.asked] == [None, None, "bytes=100000-", "bytes=100000-"]


def test_a_circle_of_redirects_ends(web: Web, get: Callable[..., Notes]) -> None:
    address = web.serve("x.pt", b"")
    web.server.files["/x.pt"].steps.extend([redirect(address)] * 20)
    with pytest.raises(WeightsMissingError, match="in a circle"):
        get(address)
    assert len(web.asked) <= 7


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_no_redirect_leads_away_from_the_web(target: str, web: Web, get: Callable[..., Notes]) -> None:
    with pytest.raises(WeightsMissingError, match="not followed"):
        get(web.serve("x.pt", b"", redirect(target)))


def test_no_redirect_leads_from_https_to_http() -> None:
    from http.client import HTTPMessage
    from io import BytesIO
    from urllib.request import Request

    handler = download_module._Redirects()
    secure = Request("https://models.example/x.pt")
    with pytest.raises(WeightsMissingError, match="from https to http"):
        handler.redirect_request(secure, BytesIO(), 302, "Found", HTTPMessage(), "http://models.example/x.pt")
    followed = handler.redirect_request(
        secure, BytesIO(), 302, "Found", HTTPMessage(), "https://elsewhere.example/x.pt"
    )
    assert followed is not None


def test_a_proxy_is_used_where_the_environment_has_one(
    web: Web, get: Callable[..., Notes], partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.serve("x.pt", DATA)
    monkeypatch.setenv("http_proxy", web.address)
    get("http://models.invalid/x.pt")
    assert web.asked[0].path == "http://models.invalid/x.pt"
    assert partial.read_bytes() == DATA


@pytest.mark.parametrize(
    "address",
    [
        "x.pt",
        "file:///etc/passwd",
        "ftp://a/b",
        "https://",
        "https://u:p@host/x",
        "http://[::1/x",
        "http://a:b/x",
    ],
)
def test_what_is_no_address_of_a_file_on_the_web_is_a_usage_error(address: str) -> None:
    with pytest.raises(UsageError):
        check_address(address)


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert shown("https://u:p@models.example:8443/a/b.pt?sig=1#x") == "https://models.example:8443/a/b.pt"


def test_an_address_may_have_letters_of_any_language(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    web.serve("mod%C3%A8le%20(1).pt", DATA)
    get(f"{web.address}/modèle (1).pt")
    assert partial.read_bytes() == DATA


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline_is_offline(
    value: str, offline: bool, web: Web, get: Callable[..., Notes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYMN_OFFLINE", value)
    address = web.serve("x.pt", DATA)
    assert is_offline() == offline
    if offline:
        with pytest.raises(WeightsMissingError, match="DYMN_OFFLINE"):
            get(address)
        assert web.asked == []
    else:
        get(address)


# ---------------------------------------------------------------------- the disk


def test_a_full_disk_keeps_what_there_is(
    web: Web, get: Callable[..., Notes], partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = download_module._write

    def write(file: Any, chunk: bytes, path: Path) -> None:
        class Full:
            def write(self, data: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        real(Full() if file.tell() > 100_000 else file, chunk, path)  # type: ignore[arg-type]

    monkeypatch.setattr(download_module, "_write", write)
    address = web.serve("x.pt", DATA)
    with pytest.raises(OutputError, match="no space left") as caught:
        get(address)
    assert "run the same command to continue" in (caught.value.hint or "")
    monkeypatch.undo()
    n_bytes = partial.stat().st_size
    assert n_bytes > 100_000
    get(address)
    assert partial.read_bytes() == DATA
    assert web.asked[-1].range == f"bytes={n_bytes}-"


def test_too_little_room_is_said_before_it_begins(
    web: Web, get: Callable[..., Notes], partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="1,000 are free"):
        get(web.serve("x.pt", DATA))
    assert not partial.exists()


def test_a_folder_that_is_not_there_is_an_output_error(web: Web, tmp_path: Path) -> None:
    address = web.serve("x.pt", DATA)
    with pytest.raises(OutputError):
        download(address, tmp_path / "no" / "x.partial", watch=Notes(), max_bytes=10**6, patience=QUICK)


def test_an_interruption_leaves_a_part_to_go_on_from(
    web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    class Impatient(Notes):
        def at(self, n_bytes: int, total: int | None) -> None:
            if n_bytes > 100_000:
                raise KeyboardInterrupt

    address = web.serve("x.pt", DATA)
    with pytest.raises(KeyboardInterrupt):
        download(address, partial, watch=Impatient(), max_bytes=10**6, patience=QUICK)
    n_bytes = partial.stat().st_size
    assert n_bytes > 100_000
    assert json.loads(partial.with_suffix(".json").read_text())["total"] == len(DATA)
    get(address)
    assert partial.read_bytes() == DATA
    assert web.asked[-1].range == f"bytes={n_bytes}-"


def test_every_error_is_one_line(web: Web, get: Callable[..., Notes]) -> None:
    address = web.serve("x.pt", DATA)
    for step in (
        status(404),
        status(403),
        page,
        redirect("file:///x"),
        status(204),
        changed(b"<html>", None),
    ):
        web.server.files["/x.pt"].steps.append(step)
        with pytest.raises(DymnError) as caught:
            get(address, size_bytes=len(DATA))
        assert "\n" not in caught.value.message


# ---------------------------------------------------------------------- numbers that are none


def lying(code: int, **headers: str) -> Any:
    """Answer with headers that no server sends, and the file."""

    def step(handler: Any, served: Any) -> None:
        handler.begin(code, served, None, Connection="close", **headers)
        handler.send(served.data)
        handler.reset()

    return step


@pytest.mark.parametrize("digits", [16, 19, 400, 5_000])
@pytest.mark.parametrize("form", ["bytes {n}-{n}/{n}", "bytes 100000-{n}/*", "bytes 100000-299999/{n}"])
def test_a_content_range_of_many_digits_is_none(
    digits: int, form: str, web: Web, get: Callable[..., Notes], partial: Path
) -> None:
    address = begin(get, web)
    web.server.files["/x.pt"].steps.append(lying(206, Content_Range=form.format(n="9" * digits)))
    watch = get(address)
    assert partial.read_bytes() == DATA
    assert any("another part" in note for note in watch.notes)


@pytest.mark.parametrize("digits", [16, 19, 400])
def test_a_length_of_many_digits_is_refused(digits: int, web: Web, get: Callable[..., Notes]) -> None:
    address = web.serve("x.pt", DATA, *[lying(200, Content_Length="9" * digits)] * 4)
    with pytest.raises(WeightsMissingError, match="impossible length") as caught:
        get(address)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "value", ["9" * 5_000, "Mon, 01 Jan 2026 00:00:00 +99999999999999", "Mon, 01 Jan 99999999 00:00:00 GMT"]
)
def test_a_wait_that_is_no_time_is_not_waited_for(value: str, web: Web, get: Callable[..., Notes]) -> None:
    address = web.serve("x.pt", DATA, *[lying(503, Retry_After=value)] * 4)
    with pytest.raises(WeightsMissingError):
        get(address)
