"""What stores are asked, on stores in memory, archives, and fakes that are registered as drivers."""

from __future__ import annotations

import importlib
import io
import random
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.audio.discover import FoundList, find, share_of
from dymn_cli.errors import AudioNotFoundError, InputError, OutputError
from dymn_cli.remote import store
from dymn_cli.remote.reading import open_uri
from dymn_cli.remote.uri import named

fsspec = pytest.importorskip("fsspec", reason="the extra `remote`")
DRIVERS = importlib.import_module("fsspec.registry")._registry


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WAITS_S", (0.0, 0.0, 0.0))
    monkeypatch.delenv("DYMN_OFFLINE", raising=False)


@pytest.fixture
def memory() -> Iterator[Any]:
    """The store in memory, empty."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    yield memory
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def names(*given: str, **options: Any) -> list[str]:
    found = list(find(given, **options))
    assert [one for one in found if one.problem is not None] == []
    return [one.name for one in found]


# ---------------------------------------------------------------------- listing


KEYS = [
    "b.wav",
    "a/2.wav",
    "a/10.wav",
    "a.wav",
    "a-b/1.wav",
    "a/in/x.flac",
    "a0.wav",
    "Z.wav",
    "é.wav",
    "a b.wav",
]
HIDDEN = [".x.wav", "a/.y.wav", ".git/z.wav"]


def test_a_folder_comes_in_the_order_of_its_keys(memory: Any) -> None:
    for key in random.Random(2).sample([*KEYS, *HIDDEN, "notes.txt", "a/table.csv"], len(KEYS) + 5):
        memory.pipe_file(f"/site/{key}", b"x")
    assert names("memory://site/") == [f"memory://site/{key}" for key in sorted(KEYS)]
    assert names("memory://site") == names("memory://site/")
    assert names("memory://site/", recurse=False) == [
        f"memory://site/{key}" for key in sorted(KEYS) if "/" not in key
    ]
    assert names("memory://site/a/") == [
        f"memory://site/{key}" for key in sorted(KEYS) if key.startswith("a/")
    ]


def test_what_a_listing_says_is_what_a_look_says(memory: Any) -> None:
    memory.pipe_file("/site/a.wav", b"1234")
    (found,) = find(["memory://site/"])
    assert found.stat == store.stat("memory://site/a.wav")
    assert found.stat is not None
    assert found.stat.size == 4
    assert found.stat.version is not None


def test_nothing_is_read_twice(memory: Any) -> None:
    for key in ("a/1.wav", "a/2.wav", "b/3.wav", "b/4.txt"):
        memory.pipe_file(f"/{key}", b"x")
    given = ("memory://a/2.wav", "memory://a/", "memory://a/1.wav", "memory://b/4.txt", "memory://b/")
    assert names(*given, "memory://b/3.wav", "memory://b/4.txt", "memory://a", "memory://b/4.txt") == [
        "memory://a/2.wav",
        "memory://a/1.wav",
        "memory://b/4.txt",  # it is named itself
        "memory://b/3.wav",
    ]


def test_a_folder_without_audio_says_so(memory: Any) -> None:
    memory.pipe_file("/a/notes.txt", b"x")
    (found,) = find(["memory://a/"])
    assert isinstance(found.problem, InputError)
    assert found.problem.message == "memory://a/: no audio files in this folder"
    (found,) = find(["memory://none/a.wav"])
    assert isinstance(found.problem, AudioNotFoundError)
    assert found.problem.message == "memory://none/a.wav: no such file"
    (found,) = find(["memory://none/"])
    assert isinstance(found.problem, AudioNotFoundError)


def test_two_addresses_with_one_name_are_no_duplicates() -> None:
    first, second, third = find(
        ["https://h/get?token=one", "https://h/get?token=two", "https://h/get?token=one", "https://h/a.wav"]
    )
    assert (first.problem, third.problem) == (None, None)
    assert second.name == "https://h/get"
    assert second.problem is not None
    assert "credentials" in second.problem.message


# ---------------------------------------------------------------------- archives


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("in/b.wav", "in/a.wav", "c.flac", "notes.txt"):
            archive.writestr(name, name.encode() * 1000)
    for mode in ("gz", "xz", "bz2", ""):
        with tarfile.open(tmp_path / f"x.tar{mode}", f"w:{mode}") as tar:
            for name in ("in/b.wav", "in/a.wav", "c.flac"):
                member = tarfile.TarInfo(name)
                member.size = 1000 * len(name)
                tar.addfile(member, io.BytesIO(name.encode() * 1000))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["zip://::{}/x.zip", *(f"tar://::{{}}/x.tar{mode}" for mode in ("", "gz", "xz", "bz2"))]
)
def test_members_of_an_archive(archives: Path, name: str) -> None:
    name = name.format(archives)
    found = names(name)
    scheme, archive = name.split("::")
    assert found == [f"{scheme}{member}::{archive}" for member in ("c.flac", "in/a.wav", "in/b.wav")]
    with open_uri(found[1]) as file:
        assert file.seek(0, 2) == 8000
        assert file.seek(7000) == 7000
        assert file.read(2000) == b"in/a.wav" * 125
        file.seek(8)
        assert file.read(16) == b"in/a.wav" * 2
    assert names(f"{scheme}in/::{archive}") == found[1:]
    assert names(found[1]) == [found[1]]


def test_an_archive_in_a_store(archives: Path, memory: Any) -> None:
    memory.pipe_file("/b/x.zip", (archives / "x.zip").read_bytes())
    first = names("zip://::memory://b/x.zip")[0]
    assert first == "zip://c.flac::memory://b/x.zip"
    with open_uri(first) as file:
        assert file.read(6) == b"c.flac"


def test_a_member_is_another_one_when_its_content_is(archives: Path) -> None:
    name = f"zip://c.flac::{archives}/x.zip"
    before = store.stat(name)
    assert store.stat(name) == before
    with zipfile.ZipFile(archives / "y.zip", "w") as archive:
        archive.writestr("c.flac", b"C.flac" * 1000)
    after = store.stat(f"zip://c.flac::{archives}/y.zip")
    assert after.size == before.size
    assert after.version != before.version


def test_what_is_no_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no archive at all")
    for scheme in ("zip", "tar"):
        (found,) = find([f"{scheme}://a.wav::{tmp_path}/x.zip"])
        assert found.problem is not None
        assert found.problem.message == f"{tmp_path}/x.zip: not a {scheme} archive, or a damaged one"
    (found,) = find(["zip://a.wav"])
    assert found.problem is not None
    assert "names no archive" in found.problem.message
    (found,) = find([f"zip://a.wav::{tmp_path}/none.zip"])
    assert isinstance(found.problem, AudioNotFoundError)


# ---------------------------------------------------------------------- drivers


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("s3://b/a.wav", "s3fs"),
        ("gs://b/a.wav", "gcsfs"),
        ("az://b/a.wav", "adlfs"),
        ("hf://datasets/o/n/a.wav", "huggingface_hub"),
        ("https://h/a.wav", "aiohttp"),
        ("zip://a.wav::s3://b/x.zip", "s3fs"),
        ("sftp://h/a.wav", "paramiko"),
    ],
)
def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    real = fsspec.get_filesystem_class

    def missing(scheme: str) -> Any:
        if scheme != "zip":
            raise ImportError("Please install it")
        return real(scheme)

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(InputError) as caught:
        store.stat(name)
    assert f"needs the package {package}" in caught.value.message
    assert caught.value.hint == f"pip install {package}"
    assert "\n" not in caught.value.message


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError) as caught:
        store.stat("s3://b/a.wav")
    assert caught.value.hint == "pip install 'dymn[remote]'"


def test_an_unknown_scheme_is_no_store() -> None:
    with pytest.raises(InputError, match="no kind of store"):
        store.stat("xyz://b/a.wav")


@pytest.mark.parametrize(
    "name", ["s3://b/a.wav", "https://h/a.wav", "zip://a.wav::https://h/x.zip", "hf://datasets/o/n/a"]
)
def test_offline_is_offline(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("DYMN_OFFLINE", "1")
    monkeypatch.setattr(fsspec, "url_to_fs", lambda *args, **options: pytest.fail("it went there"))
    with pytest.raises(InputError, match="DYMN_OFFLINE is set"):
        store.stat(name)
    with pytest.raises(InputError, match="DYMN_OFFLINE is set"):
        open_uri(name)


def test_what_is_on_this_machine_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, archives: Path, memory: Any
) -> None:
    monkeypatch.setenv("DYMN_OFFLINE", "1")
    assert len(names(f"zip://::{archives}/x.zip")) == 3
    memory.pipe_file("/a.wav", b"x")
    assert store.stat("memory://a.wav").size == 1


# ---------------------------------------------------------------------- stores that fail


class Flaky(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Two objects; answers with the errors it is given first."""

    protocol = "flaky"
    cachable = False
    errors: list[Exception] = []  # noqa: RUF012 - of one test at a time
    n_asked = 0

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        self._fail()
        return {"name": path, "size": 4, "type": "file", "ETag": "x"}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        self._fail()
        return [
            {"name": f"{path}/{name}", "size": 4, "type": "file", "ETag": "x"} for name in ("b.wav", "a.wav")
        ]

    def _fail(self) -> None:
        type(self).n_asked += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def flaky() -> Iterator[type[Flaky]]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.n_asked, Flaky.errors = 0, []
    yield Flaky
    del DRIVERS["flaky"]


def test_what_may_pass_is_tried_again(flaky: type[Flaky]) -> None:
    flaky.errors = [TimeoutError(), ConnectionResetError("reset by peer"), OSError("busy")]
    assert store.stat("flaky://b/a.wav").size == 4
    assert flaky.n_asked == 4
    flaky.errors = [TimeoutError()]
    assert names("flaky://b/") == ["flaky://b/a.wav", "flaky://b/b.wav"]


def test_a_store_is_given_up_in_one_line(flaky: type[Flaky]) -> None:
    flaky.errors = [OSError("no route\nsecond line") for _ in range(4)]
    with pytest.raises(InputError) as caught:
        store.stat("flaky://b/a.wav")
    assert caught.value.message == "flaky://b/a.wav: cannot be read: no route"
    assert flaky.n_asked == 4


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError("b/a.wav"), "no such file"),
        (PermissionError("Access Denied"), "no permission to read it"),
        (RuntimeError("no credentials"), "cannot be read: no credentials"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(flaky: type[Flaky], error: Exception, text: str) -> None:
    flaky.errors = [error]
    with pytest.raises(InputError) as caught:
        store.stat("flaky://b/a.wav")
    assert caught.value.message == f"flaky://b/a.wav: {text}"
    assert flaky.n_asked == 1


def test_an_error_shows_no_credentials(flaky: type[Flaky]) -> None:
    address = "flaky://me:pass@b/a.wav?sig=abcd"
    flaky.errors = [RuntimeError(f"no answer from {address}")]
    with pytest.raises(InputError) as caught:
        store.stat(named(address))
    assert caught.value.message == "flaky://b/a.wav: cannot be read: no answer from flaky://b/a.wav"
    assert caught.value.__cause__ is None, "a trace would show the address"


# ---------------------------------------------------------------------- pages of S3


class Pages(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A bucket that gives its keys in pages, as the driver of S3 passes them on."""

    protocol = "s3"
    cachable = False
    keys: list[str] = []  # noqa: RUF012 - of one test at a time

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("s3://").rstrip("/")

    def call_s3(self, method: str, **asked: Any) -> dict[str, Any]:
        assert method == "list_objects_v2"
        assert asked["Bucket"] == "bucket"
        prefix, after = asked["Prefix"], asked.get("ContinuationToken", "")
        inner = [key for key in sorted(self.keys) if key.startswith(prefix) and key > after]
        if asked.get("Delimiter"):
            inner = [key for key in inner if "/" not in key[len(prefix) :]]
        page = [{"Key": key, "Size": 3, "ETag": f'"{key}"'} for key in inner[:3]]
        more = {"IsTruncated": True, "NextContinuationToken": inner[2]} if len(inner) > 3 else {}
        return {"Contents": page, **more} if page else {}


@pytest.fixture
def pages() -> Iterator[type[Pages]]:
    before = DRIVERS.pop("s3", None)
    fsspec.register_implementation("s3", Pages, clobber=True)
    yield Pages
    del DRIVERS["s3"]
    if before is not None:
        DRIVERS["s3"] = before


def test_pages_follow_one_another(pages: type[Pages]) -> None:
    pages.keys = [f"in/{key}" for key in [*KEYS, *HIDDEN, "notes.txt", "folder/"]] + ["in-other/x.wav"]
    assert names("s3://bucket/in/") == [f"s3://bucket/in/{key}" for key in sorted(KEYS)]
    assert names("s3://bucket/in/", recurse=False) == [
        f"s3://bucket/in/{key}" for key in sorted(KEYS) if "/" not in key
    ]
    assert len(names("s3://bucket/")) == len(KEYS) + 1
    (found,) = find(["s3://bucket/none/"])
    assert found.problem is not None


# ---------------------------------------------------------------------- writing


def test_an_object_is_not_replaced_unasked(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"new")
    store.upload(str(tmp_path / "x"), "memory://b/x.csv", replace=False)
    assert memory.cat_file("/b/x.csv") == b"new"
    (tmp_path / "x").write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        store.upload(str(tmp_path / "x"), "memory://b/x.csv", replace=False)
    assert memory.cat_file("/b/x.csv") == b"new"
    store.upload(str(tmp_path / "x"), "memory://b/x.csv", replace=True)
    assert memory.cat_file("/b/x.csv") == b"newer"
    assert store.exists("memory://b/x.csv")
    store.remove("memory://b/x.csv")
    store.remove("memory://b/x.csv")
    assert not store.exists("memory://b/x.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("https://h/x.csv", "results are not written to https://"),
        ("sftp://h/x.csv", "results are not written to sftp://"),
        ("file:///x.csv", "results are not written to file://"),
        ("zip://x.csv::x.zip", "results are not written to zip://"),
        ("memory://b/", "a folder, not a file"),
        ("memory://me:pass@b/x.csv", "credentials in the name of a result"),
    ],
)
def test_where_results_cannot_go(name: str, text: str) -> None:
    with pytest.raises(OutputError) as caught:
        store.require_writable(name)
    assert text in caught.value.message
    assert "pass@" not in caught.value.message


# ---------------------------------------------------------------------- many


def test_a_list_of_sources_gives_back_what_it_took(memory: Any) -> None:
    memory.pipe_file("/in/a.wav", b"x")
    memory.pipe_file("/in/b.wav", b"xx")
    given = ["memory://in/", "memory://none.wav", "local.wav", "http://h/x.wav"]
    found = list(find(given))
    held = FoundList(found)
    assert len(held) == 5
    for one, other in zip(held, found, strict=True):
        assert (one.name, one.problem, one.n_folder, one.stat) == (
            other.name,
            other.problem,
            other.n_folder,
            other.stat,
        )
    assert list(share_of(held, 2, 2)) == found[2:]
    assert held[-3] == found[-3]
    assert held[-3].problem is found[-3].problem is not None
