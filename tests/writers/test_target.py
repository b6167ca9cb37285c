from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from dymn_cli.errors import OutputError, UsageError
from dymn_cli.writers.target import (
    check_target,
    is_stdout,
    open_target,
    require_distinct,
    seekable_stream,
    together,
)

posix = pytest.mark.skipif(os.name != "posix", reason="devices and permissions of POSIX")


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(out: Path | str, data: bytes = b"new\n", *, force: bool = False) -> None:
    with open_target(str(out), force=force) as target:
        target.stream.write(data)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "tags.csv"
    with open_target(str(out)) as target:
        target.stream.write(b"a row\n")
        target.stream.flush()
        assert not out.exists()
        (part,) = listing(tmp_path)
        assert part.startswith(".")
    assert listing(tmp_path) == ["tags.csv"]
    assert out.read_bytes() == b"a row\n"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ValueError, BrokenPipeError])
def test_an_interruption_leaves_everything_as_it_was(
    interruption: type[BaseException], tmp_path: Path
) -> None:
    old = tmp_path / "old.csv"
    old.write_bytes(b"old\n")
    for out in (tmp_path / "new.csv", old):
        with pytest.raises(interruption), open_target(str(out), force=True) as target:
            target.stream.write(b"half a r")
            raise interruption
    assert listing(tmp_path) == ["old.csv"]
    assert old.read_bytes() == b"old\n"


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    out = tmp_path / "tags.csv"
    out.write_bytes(b"old\n")
    with pytest.raises(OutputError) as caught:
        open_target(str(out))
    assert caught.value.message == f"{out}: the file exists"
    assert caught.value.hint == "--force replaces it"
    assert caught.value.exit_code == 5
    save(out, force=True)
    assert out.read_bytes() == b"new\n"
    assert listing(tmp_path) == ["tags.csv"]


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "tags.csv"
    with pytest.raises(OutputError, match="exists"), open_target(str(out)) as target:
        target.stream.write(b"ours\n")
        out.write_bytes(b"theirs\n")
    assert out.read_bytes() == b"theirs\n"
    assert listing(tmp_path) == ["tags.csv"]


@pytest.mark.parametrize("appears", [False, True])
def test_without_hard_links(appears: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    out = tmp_path / "tags.csv"
    if not appears:
        save(out)
        assert out.read_bytes() == b"new\n"
    else:
        with pytest.raises(OutputError, match="exists"), open_target(str(out)):
            out.write_bytes(b"theirs\n")
        assert out.read_bytes() == b"theirs\n"
    assert listing(tmp_path) == ["tags.csv"]


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@posix
@pytest.mark.usefixtures("umask_027")
def test_permissions(tmp_path: Path) -> None:
    out = tmp_path / "tags.csv"
    save(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    out.chmod(0o600)
    save(out, force=True)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600, "a private file stays private"


@posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("there.csv", "not yet.csv"):
        (tmp_path / name).symlink_to(Path("disk", name))
    (tmp_path / "disk" / "there.csv").write_bytes(b"old\n")
    save(tmp_path / "there.csv", force=True)
    save(tmp_path / "not yet.csv")
    assert listing(tmp_path / "disk") == ["not yet.csv", "there.csv"]
    assert all((tmp_path / name).is_symlink() for name in ("there.csv", "not yet.csv"))
    assert (tmp_path / "there.csv").read_bytes() == b"new\n"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("folder", "a folder, not a file"),
        ("results/", "a folder, not a file"),
        ("missing/tags.csv", "there is no folder"),
        ("file/tags.csv", "is not a folder"),
        ("file/below/tags.csv", "there is no folder"),
        ("n" * 300 + ".csv", "file name too long"),
        ("nul\0.csv", "no name for a file"),
    ],
)
def test_places_where_no_file_can_be(out: str, message: str, force: bool, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"a recording")
    with pytest.raises(OutputError, match=message) as caught:
        check_target(f"{tmp_path}/{out}", force=force)
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match=message):
        open_target(f"{tmp_path}/{out}", force=force)
    assert listing(tmp_path) == ["file", "folder"]


def test_no_name_at_all() -> None:
    with pytest.raises(OutputError, match="empty"):
        open_target("")


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may not write to, even where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.rmdir()


@posix
def test_a_folder_that_may_not_be_written_to(read_only_folder: Path) -> None:
    out = f"{read_only_folder}/tags.csv"
    with pytest.raises(OutputError, match=r"not writable|permission denied") as caught, open_target(out):
        pass
    assert caught.value.message.startswith(f"{out}: ")
    assert caught.value.hint == "choose a folder that you may write to"


@posix
def test_a_folder_in_which_nothing_can_be_made() -> None:
    with pytest.raises(OutputError) as caught, open_target("/proc/self/tags.csv"):
        pass
    assert caught.value.message.startswith("/proc/self/tags.csv: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk() -> None:
    with pytest.raises(OutputError) as caught:
        save("/dev/full")
    assert caught.value.message == "/dev/full: no space left on device"
    assert caught.value.hint is not None


@posix
def test_a_file_that_may_grow_no_further(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "emb.npy"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(OutputError, match=r"emb\.npy: file too large"):
            save(out, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert listing(tmp_path) == []


@posix
def test_a_device_is_written_to_as_it_is(tmp_path: Path) -> None:
    save("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        save(fifo, b"through the pipe\n")
        assert reader.communicate(timeout=10)[0] == b"through the pipe\n"
    assert listing(tmp_path) == ["fifo"]


@posix
def test_files_that_belong_together_appear_main_file_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    link = os.link

    def watched(source: Path, name: Path) -> None:
        order.append(Path(name).name)
        link(source, name)

    monkeypatch.setattr(os, "link", watched)
    names = ["emb.npy", "emb.index.csv", "emb.meta.json"]
    targets = [open_target(str(tmp_path / name)) for name in names]
    with together(*targets):
        for target in targets:
            target.stream.write(b"x")
    assert order == ["emb.meta.json", "emb.index.csv", "emb.npy"]
    assert listing(tmp_path) == sorted(names)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_when_one_of_them_fails_none_appears(tmp_path: Path) -> None:
    main, full = open_target(str(tmp_path / "emb.npy")), open_target("/dev/full")
    with pytest.raises(OutputError, match="no space"), together(main, full):
        main.stream.write(b"x")
        full.stream.write(b"x")
    assert listing(tmp_path) == []


def run(code: str, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
    script = "import sys\nfrom dymn_cli.writers.target import open_target, seekable_stream\n"
    return subprocess.run(
        [sys.executable, "-c", script + textwrap.dedent(code)],
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        **kwargs,
    )


@pytest.mark.parametrize("out", [None, "-", "/dev/stdout"])
def test_standard_output_takes_bytes(out: str | None) -> None:
    done = run(
        f"""
        print("first")
        with open_target({out!r}) as target:
            target.stream.write(b"na\\xefve\\n")
        print("last")
        """,
        stdout=subprocess.PIPE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"first\nna\xefve\nlast\n", b"")


def test_standard_output_under_a_test_harness(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_target(None) as target:
        assert not target.is_file
        target.stream.write(b"na\xefve\n")
    assert capsysbinary.readouterr().out == b"na\xefve\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_behind_standard_output_is_reported_once() -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(
            """
            from dymn_cli.errors import OutputError
            try:
                with open_target(None) as target:
                    target.stream.write(b"a row")
            except OutputError as exc:
                print(exc.message, file=sys.stderr)
                sys.exit(exc.exit_code)
            """,
            stdout=full,
        )
    assert (done.returncode, done.stderr) == (5, b"standard output: no space left on device\n")


@posix
def test_a_reader_that_is_gone_is_for_the_caller_to_judge() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run(
        """
        try:
            with open_target(None) as target:
                target.stream.write(b"a row")
        except BrokenPipeError:
            sys.exit(0)
        """,
        stdout=write_end,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


@posix
def test_a_pipe_that_does_not_block_loses_nothing() -> None:
    """Standard output may be shared with a program that made it non-blocking."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with subprocess.Popen(["wc", "-c"], stdin=read_end, stdout=subprocess.PIPE) as reader:
        os.close(read_end)
        done = run(
            """
            with open_target(None) as target:
                for _ in range(1000):
                    target.stream.write(bytes(10_000))
            """,
            stdout=write_end,
        )
        os.close(write_end)
        counted = reader.communicate(timeout=30)[0]
    assert (done.returncode, done.stderr, counted.strip()) == (0, b"", b"10000000")


@posix
def test_standard_output_that_is_closed() -> None:
    command = f'exec "{sys.executable}" -c "$CODE" >&-'
    code = "from dymn_cli.writers.target import open_target\nopen_target(None).__enter__()"
    done = subprocess.run(
        ["sh", "-c", command], env={**os.environ, "CODE": code}, stderr=subprocess.PIPE, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert b"OutputError: standard output is closed" in done.stderr


def test_a_stream_that_cannot_seek_is_spooled() -> None:
    done = run(
        """
        with open_target(None) as target, seekable_stream(target) as stream:
            stream.write(b"0 rows")
            stream.seek(0)
            stream.write(b"7")
        """,
        stdout=subprocess.PIPE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"7 rows", b"")


def test_a_file_is_patched_in_place(tmp_path: Path) -> None:
    out = tmp_path / "emb.npy"
    with open_target(str(out)) as target, seekable_stream(target) as stream:
        assert stream is target.stream
        stream.write(b"0 rows")
        stream.seek(0)
        stream.write(b"7")
    assert out.read_bytes() == b"7 rows"


class InterruptedRaw:
    """Takes what it is given, and Ctrl-C comes before it can say so."""

    def __init__(self) -> None:
        self.taken = b""

    def write(self, data: memoryview) -> int:
        self.taken += bytes(data)
        if self.taken == b"first":
            raise KeyboardInterrupt
        return len(data)


def test_what_was_handed_over_when_ctrl_c_came_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = InterruptedRaw()
    stdout = type("Stdout", (), {"buffer": type("Buffer", (), {"raw": raw}), "flush": lambda self: None})
    monkeypatch.setattr(sys, "stdout", stdout())
    with open_target(None) as target:
        with pytest.raises(KeyboardInterrupt):
            target.stream.write(b"first")
        target.stream.write(b"last")
    assert raw.taken == b"firstlast"


@pytest.mark.parametrize(
    ("out", "expected"), [(None, True), ("-", True), ("tags.csv", False), ("./-", False)]
)
def test_what_means_standard_output(out: str | None, expected: bool) -> None:
    assert is_stdout(out) is expected


# ---------------------------------------------------------------------- terminals


HOSTILE = "evil\x1b]0;x\x07\u202egpj\u200f\u061c.wav\trow\n".encode() + b"\xff\n"
HARMLESS = b"evil\\x1b]0;x\\x07\\u202egpj\\u200f\\u061c.wav\trow\n\\xff\n"


@posix
@pytest.mark.parametrize("styled", [False, True])
def test_a_terminal_gets_control_characters_made_visible_unless_they_are_our_own(styled: bool) -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        name = os.ttyname(theirs)
        with open_target(name, styled=styled) as target:
            for n in range(len(HOSTILE)):  # a character may come in pieces
                target.stream.write(HOSTILE[n : n + 1])
        wanted = HOSTILE if styled else HARMLESS
        written = b""
        while len(written.replace(b"\r\n", b"\n")) < len(wanted):  # a terminal hands on what it has so far
            written += os.read(ours, 1000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert written.replace(b"\r\n", b"\n") == wanted


def test_files_keep_every_byte(tmp_path: Path) -> None:
    save(tmp_path / "tags.csv", HOSTILE)
    assert (tmp_path / "tags.csv").read_bytes() == HOSTILE


@posix
@pytest.mark.parametrize("is_there", [False, True])
def test_a_link_is_refused_where_none_is_to_be_followed(tmp_path: Path, is_there: bool) -> None:
    if is_there:
        (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(OutputError, match="a symbolic link"):
        open_target(str(tmp_path / "link"), force=True, follow=False)
    assert (tmp_path / "there").exists() == is_there


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    one, other = str(tmp_path / "a.csv"), str(tmp_path / "link" / "a.csv")
    with pytest.raises(UsageError, match=r"link/a\.csv: --out and --plot would both write it$"):
        require_distinct({"--out": [None, one], "--plot": [other]})
    with pytest.raises(UsageError, match=r"^s3://b/a\.csv: --out and --plot"):
        require_distinct({"--out": ["s3://b/a.csv"], "--plot": ["s3://b/a.csv"]})
    for shared in ("-", "/dev/null", None):
        require_distinct({"--out": [one, shared], "--plot": [str(tmp_path / "b.csv"), shared]})
