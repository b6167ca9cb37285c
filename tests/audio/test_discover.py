"""Discovery: which files a name leads to, in which order, and what is told of those that lead nowhere."""

from __future__ import annotations

import io
import os
import socket
from itertools import permutations
from pathlib import Path

import pytest

from dymn_cli.audio import discover
from dymn_cli.audio.discover import SkippedFiles, find, natural_key, parse_extensions, read_names, share_of
from dymn_cli.errors import AudioNotFoundError, InputError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str, **options: object) -> list[str]:
    found = list(find(given, **options))  # type: ignore[arg-type]
    assert [f.problem for f in found] == [None] * len(found)
    return [f.name for f in found]


def test_a_folder_gives_its_audio_in_natural_order_files_before_folders(here: Path) -> None:
    touch(here, "d/take10.wav", "d/take2.wav", "d/take1.FLAC", "d/notes.txt", "d/b/2.mp3", "d/a/10.ogg")
    touch(here, "d/a/9.ogg", "d/README")
    assert names("d") == [
        "d/take1.FLAC",
        "d/take2.wav",
        "d/take10.wav",
        "d/a/9.ogg",
        "d/a/10.ogg",
        "d/b/2.mp3",
    ]


def test_names_keep_the_order_and_the_spelling_they_are_given_in(here: Path) -> None:
    touch(here, "b.wav", "a.wav", "d/c.wav")
    assert names("b.wav", "d/", "./a.wav") == ["b.wav", "d/c.wav", "./a.wav"]


def test_what_is_named_is_taken_whatever_its_suffix(here: Path) -> None:
    touch(here, "recording.bin", ".hidden.wav")
    assert names("recording.bin", ".hidden.wav", "not there") == ["recording.bin", ".hidden.wav", "not there"]


def test_hidden_files_and_folders_are_skipped_but_a_hidden_folder_can_be_named(here: Path) -> None:
    touch(here, "d/a.wav", "d/.b.wav", "d/.cache/c.wav", "d/.x/y/z.wav")
    assert names("d") == ["d/a.wav"]
    assert names("d/.cache") == ["d/.cache/c.wav"]


def test_without_recursion_only_the_folder_itself_is_looked_into(here: Path) -> None:
    touch(here, "d/a.wav", "d/e/b.wav")
    assert names("d", recurse=False) == ["d/a.wav"]


def test_a_folder_that_is_no_input_is_not_entered_from_another(here: Path) -> None:
    touch(here, "d/a.wav", "d/clips/b.wav", "d/more/c.wav")
    (here / "d" / "link").symlink_to("clips")
    assert names("d", without="d/clips") == ["d/a.wav", "d/more/c.wav"]
    assert names("d/clips", without="d/clips") == ["d/clips/b.wav"]


def test_extensions_replace_the_known_ones_in_folders_and_do_not_touch_named_files(here: Path) -> None:
    touch(here, "d/a.wav", "d/b.flac", "d/c.raw", "e.ogg")
    assert names("d", "e.ogg", extensions=frozenset({"flac", "raw"})) == ["d/b.flac", "d/c.raw", "e.ogg"]


def test_a_file_reached_twice_is_read_once_under_its_first_name(here: Path) -> None:
    touch(here, "d/a.wav", "d/b.wav")
    (here / "d/link.wav").symlink_to("a.wav")
    (here / "same").symlink_to("d")
    assert names("d/b.wav", "d", "./d/a.wav", str(here / "d/a.wav"), "same") == ["d/b.wav", "d/a.wav"]


def test_standard_input_is_read_once_and_is_no_file_of_that_name(here: Path) -> None:
    touch(here, "-")
    assert names("-", "./-", "-") == ["-", "./-"]


def test_loops_of_links_end(here: Path) -> None:
    touch(here, "d/a.wav", "d/e/b.wav")
    (here / "d/e/up").symlink_to("../../d")
    (here / "d/self").symlink_to("self")
    assert names("d") == ["d/a.wav", "d/e/b.wav"]


def test_links_that_lead_nowhere_are_named_so_that_they_are_told_of(here: Path) -> None:
    touch(here, "d/a.wav")
    (here / "d/dangling.wav").symlink_to("gone.wav")
    (here / "d/self.wav").symlink_to("self.wav")
    assert names("d") == ["d/a.wav", "d/dangling.wav", "d/self.wav"]


def test_pipes_and_sockets_and_devices_in_folders_are_skipped_for_they_might_never_end(here: Path) -> None:
    touch(here, "d/a.wav")
    os.mkfifo(here / "d/pipe.wav")
    (here / "d/zero.wav").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("d/socket.wav")
        assert names("d", "d/pipe.wav") == ["d/a.wav", "d/pipe.wav"]


def test_a_folder_called_like_a_file_is_a_folder(here: Path) -> None:
    touch(here, "d/x.wav/inner.wav")
    assert names("d") == ["d/x.wav/inner.wav"]


def test_a_folder_deeper_than_the_stack_is_walked(here: Path) -> None:
    touch(here, "d/a.wav")
    folders = ["d" + "/d" * depth for depth in range(1, 1_200)]
    for folder in folders:
        os.mkdir(folder)  # noqa: PTH102 - Path is recursive itself
    assert names("d") == ["d/a.wav"]
    for folder in reversed(folders):  # for whoever clears up after us may be recursive, too
        os.rmdir(folder)  # noqa: PTH106


@pytest.mark.parametrize(
    ("extensions", "what"), [(None, "no audio files"), (frozenset({"wav", "flac"}), "no flac, wav files")]
)
def test_a_folder_without_audio_is_told_of_once(
    here: Path, extensions: frozenset[str] | None, what: str
) -> None:
    touch(here, "d/notes.txt", "a.wav")
    found = list(find(["d", "a.wav", "./d"], extensions=extensions))
    assert [f.name for f in found] == ["d", "a.wav"]
    assert isinstance(found[0].problem, InputError)
    assert found[0].problem.message == f"d: {what} in this folder"
    assert found[0].problem.hint is not None


def test_a_folder_that_cannot_be_listed_is_a_failure_and_the_others_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(here, "d/a.wav", "d/locked/b.wav", "d/open/c.wav")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(discover.os, "scandir", refuse)
    found = list(find(["d", "d/locked"]))
    assert [f.name for f in found] == ["d/a.wav", "d/locked", "d/open/c.wav"]
    problem = found[1].problem
    assert isinstance(problem, AudioNotFoundError)
    assert problem.message == "d/locked: this folder cannot be listed: permission denied"


def test_names_that_are_no_text_survive(here: Path) -> None:
    raw = b"d/\xff\xfe \n[1].wav"
    (here / "d").mkdir()
    Path(os.fsdecode(raw)).touch()
    assert [os.fsencode(name) for name in names("d")] == [raw]


@pytest.mark.parametrize(
    "order",
    [
        ["take1", "take2", "take10", "take10a", "take10b"],
        ["1", "9", "10", "a", "a1", "b"],
        ["A", "B", "a", "b"],
        ["2024-01-02", "2024-01-10", "2024-02-01"],
        ["x1y2", "x1y10", "x2y1"],
    ],
)
def test_natural_order(order: list[str]) -> None:
    assert all(sorted(shuffled, key=natural_key) == order for shuffled in permutations(order))


def test_superscripts_are_no_numbers() -> None:
    assert sorted(["x²", "x10", "x9"], key=natural_key) == ["x9", "x10", "x²"]


def test_extensions_are_read_in_any_spelling() -> None:
    assert parse_extensions("wav,.FLAC, Ogg ,") == {"wav", "flac", "ogg"}
    assert parse_extensions(None) is None
    for text in ("", ",", " . , "):
        with pytest.raises(UsageError):
            parse_extensions(text)


def test_a_list_has_a_name_a_line_with_any_line_end_and_none_for_empty_lines() -> None:
    stream = io.BytesIO(b"a.wav\r\n\n  b.wav \n\r\nc\xff.wav\nlast")
    assert list(read_names(stream, null=False)) == ["a.wav", "  b.wav ", "c\udcff.wav", "last"]


def test_with_nul_bytes_everything_else_belongs_to_the_name() -> None:
    stream = io.BytesIO(b"a\nb.wav\0\0c\r\0 d ")
    assert list(read_names(stream, null=True)) == ["a\nb.wav", "c\r", " d "]


@pytest.mark.parametrize("null", [False, True])
def test_a_byte_order_mark_is_no_part_of_the_first_name(null: bool) -> None:
    names = ["müde.wav", "b.wav"]
    text = ("\0" if null else "\r\n").join(names)
    assert list(read_names(io.BytesIO(text.encode("utf-8-sig")), null=null)) == names
    with pytest.raises(UsageError, match="UTF-16"):
        list(read_names(io.BytesIO(text.encode("utf-16")), null=null))


def test_nul_bytes_without_their_option_are_explained() -> None:
    with pytest.raises(UsageError) as caught:
        list(read_names(io.BytesIO(b"a.wav\0b.wav\0"), null=False))
    assert caught.value.hint == "add -0"


def test_names_come_as_soon_as_they_are_there() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as sink:
        listed = read_names(stream, null=False)
        sink.write(b"a.wav\nb.wav\nc.")
        assert [next(listed), next(listed)] == ["a.wav", "b.wav"]
        sink.write(b"wav\n")
        assert next(listed) == "c.wav"


def test_long_lists_are_cut_nowhere() -> None:
    many = [f"folder/{n:06d} with a longish name.wav" for n in range(20_000)]
    assert list(read_names(io.BytesIO("\n".join(many).encode()), null=False)) == many


def test_shares_are_contiguous_complete_and_even() -> None:
    found = list(find([f"{n}.wav" for n in range(11)]))
    shares = [share_of(found, index, 4) for index in (1, 2, 3, 4)]
    assert [*shares[0], *shares[1], *shares[2], *shares[3]] == found
    assert {len(share) for share in shares} == {2, 3}


def test_a_list_without_end_is_refused_before_it_fills_the_memory() -> None:
    class Endless(io.RawIOBase):
        n_read = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
            self.n_read += len(buffer)
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    endless = Endless()
    with pytest.raises(UsageError, match="no end"):
        list(read_names(io.BufferedReader(endless), null=False))
    assert endless.n_read < 1 << 20


# ---------------------------------------------------------------------- what is left out


@pytest.fixture(params=[False, True], ids=["base", "media"])
def has_media(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether PyAV is installed."""
    there = bool(request.param)
    monkeypatch.setattr(discover, "find_spec", lambda name: object() if there else None)
    return there


def test_a_folder_gives_what_can_be_read_and_counts_the_rest(here: Path, has_media: bool) -> None:
    touch(
        here,
        "d/a.wv",
        "d/x/b.WV",
        "d/c.tta",
        "d/d.weba",
        "d/e.sph",
        "d/f.wav",
        "d/g.mqa",
        "d/h.txt",
        "d/.i.wv",
    )
    skipped = SkippedFiles()
    found = names("d", skipped=skipped)
    read = {"d/d.weba", "d/e.sph", "d/f.wav"}
    media = {"d/a.wv", "d/x/b.WV", "d/c.tta"}
    assert set(found) == (read | media if has_media else read)
    said = list(skipped.sentences())
    if not has_media:
        text, hint = said.pop(0)
        assert text == ".tta, .wv: 3 files left out"
        assert "dymn[media]" in hint
    assert said == [(".mqa: 1 file left out", "name them with --ext")]


HEADS = {
    "wave": b"RIFF\x24\0\0\0WAVEfmt ",
    "flac": b"fLaC\0\0\0\x22",
    "ogg": b"OggS\0\2",
    "mp3": b"ID3\4\0\0",
    "mp4": b"\0\0\0\x20ftypM4A ",
    "webm": b"\x1a\x45\xdf\xa3",
    "wavpack": b"wvpk\0",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_audio_under_other_names_is_counted_too(here: Path, head: bytes) -> None:
    touch(here, "d/a.wav", "d/readme.txt", "d/LICENSE")
    for name in ("d/REC0001", "d/b.bin", "d/c.bin"):
        (here / name).write_bytes(head + bytes(20))
    skipped = SkippedFiles()
    assert names("d", skipped=skipped) == ["d/a.wav"]
    ((text, hint),) = skipped.sentences()
    assert text == "no suffix, .bin: 3 files left out"
    assert "--ext" in hint


def test_few_files_are_opened_to_find_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(here, *(f"d/{n}.json" for n in range(100)))
    looked_at = []
    sniff = discover.SkippedFiles._is_audio

    def noted(self: SkippedFiles, entry: os.DirEntry[str], suffix: str) -> bool:
        before = dict(self._n_opened)
        found = sniff(self, entry, suffix)
        looked_at.extend([entry.name] if self._n_opened != before else [])
        return found

    monkeypatch.setattr(discover.SkippedFiles, "_is_audio", noted)
    list(find(["d"], skipped=SkippedFiles()))
    assert 0 < len(looked_at) < 10


def test_what_is_left_out_of_links_and_devices_is_counted(here: Path) -> None:
    touch(here, "d/b.wav", "d/c.wav", "d/x/e.wav")
    (here / "d/a.wav").symlink_to("b.wav")  # comes first, so b.wav is the one that is left out
    (here / "d/z.wav").symlink_to("x/e.wav")
    (here / "d/up").symlink_to("../d")
    (here / "d/gone.wav").symlink_to("nowhere.wav")
    (here / "d/zero.wav").symlink_to("/dev/zero")
    os.mkfifo(here / "d/pipe.wav")
    os.mkfifo(here / "d/pipe")
    skipped = SkippedFiles()
    assert names("d/c.wav", "d", skipped=skipped) == ["d/c.wav", "d/a.wav", "d/gone.wav", "d/z.wav"]
    assert [text for text, _ in skipped.sentences()] == [
        "further names of files, by links: 2 left out",
        "pipes, sockets, devices: 2 left out",
    ]


def test_nothing_is_said_where_the_suffixes_were_named(here: Path) -> None:
    touch(here, "d/a.wv", "d/b.flac")
    skipped = SkippedFiles()
    assert names("d", extensions=frozenset({"flac"}), skipped=skipped) == ["d/b.flac"]
    assert list(skipped.sentences()) == []
