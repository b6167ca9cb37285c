"""The journal: what was done survives a kill at any byte, and nothing that was not done counts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dymn_cli.batch import journal as journal_module
from dymn_cli.batch.journal import Journal, Stamp
from dymn_cli.errors import OutputError

FINGERPRINT = {"model": "abc", "window_s": 10.0, "labels": ["Dog", "Bark"]}
STAMP = Stamp(100, 1_700_000_000_123_456_789)


def fill(path: Path, n: int = 5) -> None:
    with Journal.open(path, FINGERPRINT) as journal:
        for number in range(n):
            parts = [journal.add_part(f"{number}.wav", b"part %d" % part) for part in range(number)]
            journal.add_done(f"{number}.wav", STAMP, parts, b"body %d" % number)


def contents(journal: Journal, n: int = 5) -> dict[str, tuple[bytes, list[bytes]]]:
    found = {}
    for number in range(n):
        name = f"{number}.wav"
        if journal.has(name, STAMP):
            body, parts = journal.result(name)
            found[name] = (body, [journal.part(place) for place in parts])
    return found


def test_results_and_their_parts_come_back(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert contents(journal)["3.wav"] == (b"body 3", [b"part 0", b"part 1", b"part 2"])
        assert len(journal) == 5


def test_a_file_cut_at_any_byte_holds_the_whole_records_before_the_cut(tmp_path: Path) -> None:
    fill(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    with Journal.open(tmp_path / "whole", FINGERPRINT) as journal:
        whole = contents(journal)
    counts = set()
    for cut in range(len(data)):
        path = tmp_path / "cut"
        path.write_bytes(data[:cut])
        with Journal.open(path, FINGERPRINT) as journal:
            held = contents(journal)
            assert held.items() <= whole.items() if cut else not held
            counts.add(len(held))
            journal.add_done("new.wav", STAMP, [], b"after the cut")
        with Journal.open(path, FINGERPRINT) as journal:
            assert contents(journal) == held
            assert journal.result("new.wav")[0] == b"after the cut"
    assert counts == {0, 1, 2, 3, 4}


def test_a_record_with_a_flipped_bit_ends_what_counts(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    data = bytearray((tmp_path / "j").read_bytes())
    at = data.index(b"body 2")
    data[at] ^= 1
    (tmp_path / "j").write_bytes(bytes(data))
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert set(contents(journal)) == {"0.wav", "1.wav"}


@pytest.mark.parametrize("stamp", [Stamp(101, STAMP.mtime_ns), Stamp(100, STAMP.mtime_ns + 1), None])
def test_a_source_that_has_changed_is_not_done(tmp_path: Path, stamp: Stamp | None) -> None:
    fill(tmp_path / "j")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert journal.has("0.wav", STAMP)
        assert not journal.has("0.wav", stamp)


def test_the_later_record_of_a_source_counts(tmp_path: Path) -> None:
    later = Stamp(7, 8)
    fill(tmp_path / "j")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        journal.add_done("0.wav", later, [], b"again")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert not journal.has("0.wav", STAMP)
        assert journal.has("0.wav", later)
        assert journal.result("0.wav") == (b"again", [])


def test_other_options_are_refused_and_named(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with pytest.raises(OutputError, match=r"window_s was 10\.0, is 5\.0") as refusal:
        Journal.open(tmp_path / "j", {**FINGERPRINT, "window_s": 5.0})
    assert refusal.value.exit_code == 5
    assert "--no-resume" in str(refusal.value.hint)
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert len(journal) == 5, "a refusal must not change the journal"


def test_starting_over_forgets(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with Journal.open(tmp_path / "j", {"model": "other"}, start_over=True) as journal:
        assert len(journal) == 0
    with Journal.open(tmp_path / "j", {"model": "other"}) as journal:
        assert len(journal) == 0


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_bytes(b"Chapter 1\nIt was a dark and stormy night.\n")
    with pytest.raises(OutputError, match="not a journal"):
        Journal.open(path, FINGERPRINT)
    assert path.read_bytes().startswith(b"Chapter 1")


@pytest.mark.parametrize(
    "content", [b"Chapter 1, without an end of line", b'{"schema": "other/1"}\n', b"\x00" * 50]
)
def test_a_file_that_is_no_journal_survives_starting_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thesis"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="not a journal"):
        Journal.open(path, FINGERPRINT, start_over=True)
    assert path.read_bytes() == content


def test_a_journal_that_was_removed_while_we_waited_for_it_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that had it ends between our opening and our locking."""
    path = tmp_path / "j"
    fill(path)
    lock, calls = journal_module._lock, []

    def removed_before_locking(file: object, name: Path) -> None:
        calls.append(name)
        if len(calls) == 1:
            path.unlink()
        lock(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(journal_module, "_lock", removed_before_locking)
    with Journal.open(path, FINGERPRINT) as journal:
        assert len(calls) == 2
        assert len(journal) == 0
        journal.add_done("a.wav", STAMP, [], b"x")
    with Journal.open(path, FINGERPRINT) as journal:
        assert journal.has("a.wav", STAMP)


def test_a_journal_without_results_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path, FINGERPRINT) as journal:
        journal.add_part("a.wav", b"some")
        assert path.exists()
    assert not path.exists()


def test_a_record_that_did_not_fit_is_written_over_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    with Journal.open(path, FINGERPRINT) as journal:
        journal.add_done("a.wav", STAMP, [], b"first")
        whole, file = path.read_bytes(), journal._file

        class Filling:
            """Takes 5 bytes more, then is full."""

            def __getattr__(self, name: str) -> object:
                return getattr(file, name)

            def write(self, data: memoryview) -> int:
                if path.stat().st_size > len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return file.write(data[:5])  # type: ignore[arg-type, return-value]

        monkeypatch.setattr(journal, "_file", Filling())
        with pytest.raises(OutputError, match="no space left") as caught:
            journal.add_done("b.wav", STAMP, [], b"second")
        assert "kept" in str(caught.value.hint)
        assert not journal.has("b.wav", STAMP)
        monkeypatch.setattr(journal, "_file", file)
        journal.add_done("c.wav", STAMP, [], b"third")
        assert journal.result("c.wav") == (b"third", [])
    with Journal.open(path, FINGERPRINT) as journal:
        assert [journal.has(f"{name}.wav", STAMP) for name in "abc"] == [True, False, True]


def test_two_runs_cannot_share_one(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with (
        Journal.open(tmp_path / "j", FINGERPRINT),
        pytest.raises(OutputError, match="another run is using"),
    ):
        Journal.open(tmp_path / "j", FINGERPRINT)


def test_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    name = "caf\udce9 \n.wav"
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        journal.add_done(name, STAMP, [], b"x")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert journal.has(name, STAMP)


def test_a_full_disk_is_one_of_our_errors() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("r+b", buffering=0) as device:
        journal = Journal(device, Path("/dev/full"))
        with pytest.raises(OutputError, match="no space left"):
            journal.add_part("a.wav", b"x")


def test_discarding_removes_the_file_and_closing_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal.open(path, FINGERPRINT).close()
    assert path.exists()
    Journal.open(path, FINGERPRINT).close(discard=True)
    assert not path.exists()
    temporary = Journal.temporary()
    temporary.add_done("a.wav", None, [], b"held")
    assert temporary.result("a.wav") == (b"held", [])
    temporary.close(discard=True)


# ---------------------------------------------------------------------- what is taken back or written


def test_a_source_that_is_taken_back_is_not_done(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        journal.forget(["1.wav", "3.wav"])
        assert set(journal.names) == {"0.wav", "2.wav", "4.wav"}
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert set(journal.names) == set(contents(journal)) == {"0.wav", "2.wav", "4.wav"}
        journal.add_done("1.wav", STAMP, [], b"again")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert journal.result("1.wav") == (b"again", [])


def test_a_file_of_results_is_known_by_any_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "t.csv").touch()
    monkeypatch.chdir(tmp_path)
    fill(Path("j"))
    with Journal.open(Path("j"), FINGERPRINT) as journal:
        journal.add_result("./t.csv", Stamp.of("t.csv"))
    monkeypatch.chdir(tmp_path / "sub")
    with Journal.open(Path("../j"), FINGERPRINT) as journal:
        assert journal.is_ours("../t.csv")
        assert journal.is_ours(str(tmp_path / "t.csv"))
        assert not journal.knows("t.csv")


def test_only_a_file_that_is_as_it_was_left_is_ours(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    fill(tmp_path / "j")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert not journal.is_ours(str(out))
        journal.add_result(str(out), None)  # about to appear: a kill may come before the next record
        out.write_text("rows")
        assert journal.is_ours(str(out))
        journal.add_result(str(out), Stamp.of(str(out)))
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        assert journal.is_ours(str(out))
        out.write_text("rows and remarks")
        assert journal.knows(str(out))
        assert not journal.is_ours(str(out))


# ---------------------------------------------------------------------- what is no journal, or a forged one


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
@pytest.mark.parametrize("start_over", [False, True])
def test_links_and_pipes_are_refused_at_once(tmp_path: Path, kind: str, start_over: bool) -> None:
    path, target = tmp_path / "j", tmp_path / "target"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("target")
    if kind == "link":
        fill(target)
    before = target.read_bytes() if target.exists() else None
    with pytest.raises(OutputError, match=f"{path}: (a symbolic link|a pipe or a device), not a journal"):
        Journal.open(path, FINGERPRINT, start_over=start_over)
    assert (target.read_bytes() if target.exists() else None) == before


@pytest.mark.parametrize("fingerprint", ["[]", "[1]", '"text"', "7", "null", "{}", "[" * 100_000])
def test_a_header_that_says_nothing_is_refused(tmp_path: Path, fingerprint: str) -> None:
    (tmp_path / "j").write_text(f'{{"schema": "{journal_module.SCHEMA}", "fingerprint": {fingerprint}}}\n')
    with pytest.raises(OutputError, match="not a journal of this version"):
        Journal.open(tmp_path / "j", FINGERPRINT)


HUGE = (1 << 32) - 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"D", b""),
        (b"D", b"short"),
        (b"D", journal_module.DONE_HEAD.pack(1, 1, 1)),
        (b"D", journal_module.DONE_HEAD.pack(1, 1, HUGE) + bytes(24)),
        (b"D", journal_module.DONE_HEAD.pack(1, 1, 1) + journal_module.PLACE.pack(1 << 62, HUGE)),
        (b"D", journal_module.DONE_HEAD.pack(1, 1, 1) + journal_module.PLACE.pack(0, HUGE)),
        (b"R", b"no stamp"),
    ],
)
def test_a_forged_record_is_refused_in_a_line(tmp_path: Path, kind: bytes, body: bytes) -> None:
    fill(tmp_path / "j")
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        journal._append(kind, "forged.wav", body)
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(OutputError, match=r"j: what it holds of forged\.wav is damaged"):
        Journal.open(tmp_path / "j", FINGERPRINT)
    assert (tmp_path / "j").read_bytes() == before
