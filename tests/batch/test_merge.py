"""Shares put together are the whole, byte for byte; what does not belong together is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.batch.merge import merge
from dymn_cli.errors import InputError, OutputError, UsageError
from dymn_cli.results import AudioInfo, ClipResult, Failure, ModelInfo, Tag
from dymn_cli.writers import (
    EmbeddingOptions,
    EmbeddingRow,
    Provenance,
    WriterOptions,
    open_embeddings,
    open_tags,
    write_failures,
    write_warnings,
)

MODEL = ModelInfo("m", "ab" * 32, "onnx", "CPUExecutionProvider")
MADE = Provenance("1.0", MODEL, (("window_s", 10.0), ("top", 2)))
NAMES = ["a.wav", 'b "x",\ny.wav', "bad.wav", "caf\udce9.wav", "source", "e.wav", "f\r.wav"]


def clip(name: str, model: ModelInfo = MODEL) -> ClipResult:
    score = (sum(name.encode("utf-8", "surrogateescape")) % 100) / 100
    tags = (Tag(1, 0, "Speech", "/m/09x0r", score), Tag(2, 7, "Sound, other", "", score / 2))
    return ClipResult(
        name, "mix", AudioInfo(8_000, 1, 8_000, "WAV", "PCM_16"), 1.0, tags, np.zeros(2, np.float32),
        np.full(4, score, np.float32), 1, (), (), model,
    )  # fmt: skip


def write(out: Path, names: Iterable[str], suffix: str, made: Provenance = MADE, size: int = 4) -> str:
    failures = [Failure(n, "InputError", f"{n}: bad", None, 3) for n in names if n.startswith("bad")]
    if suffix == "npy":
        with open_embeddings(str(out), suffix, EmbeddingOptions(provenance=made, size=size)) as embeddings:
            for name in names:
                if not name.startswith("bad"):
                    vector = np.resize(clip(name).embedding, size)
                    embeddings.write([EmbeddingRow(name, "mix", n, n + 1.0, vector) for n in (0.0, 1.0)])
    else:
        with open_tags(str(out), suffix, WriterOptions(provenance=made)) as tags:
            for name in names:
                if name.startswith("bad"):
                    tags.fail(failures[0])
                else:
                    tags.write(clip(name, made.model))
    if failures:
        write_failures(f"{out}.failures.csv", failures, force=True)
    return str(out)


def files(folder: Path, stem: str) -> dict[str, bytes]:
    return {
        path.name.removeprefix(stem): path.read_bytes()
        for path in folder.iterdir()
        if path.name.startswith(stem)
    }


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "npy"])
@pytest.mark.parametrize("cuts", [(3,), (0, 1), (2, 2, 7)], ids=["two", "first empty", "empty between"])
def test_the_shares_are_the_whole(tmp_path: Path, suffix: str, cuts: tuple[int, ...]) -> None:
    write(tmp_path / f"all.{suffix}", NAMES, suffix)
    edges = (0, *cuts, len(NAMES))
    shares = [
        write(tmp_path / f"share{n}.{suffix}", NAMES[start:end], suffix)
        for n, (start, end) in enumerate(pairwise(edges))
    ]
    merged = merge(shares, str(tmp_path / f"merged.{suffix}"))
    assert files(tmp_path, "merged.") == files(tmp_path, "all.")
    assert merged.failures == str(tmp_path / f"merged.{suffix}.failures.csv")


def test_a_merged_matrix_is_read_by_numpy_and_its_index_fits(tmp_path: Path) -> None:
    shares = [write(tmp_path / f"{n}.npy", [name], "npy") for n, name in enumerate(NAMES[:2])]
    merge(shares, str(tmp_path / "all.npy"))
    matrix = np.load(tmp_path / "all.npy", mmap_mode="r")
    assert matrix.shape == (4, 4)
    np.testing.assert_array_equal(matrix[2], clip(NAMES[1]).embedding)
    index = (tmp_path / "all.index.csv").read_text()
    assert [line[0] for line in index.replace("\ny", " y").splitlines()[1:]] == ["0", "1", "2", "3"]


def test_tables_without_column_names_stay_without(tmp_path: Path) -> None:
    for n, row in enumerate(("a.wav,mix\n", "b.wav,mix\n")):
        (tmp_path / f"{n}.csv").write_text(row)
    merge([str(tmp_path / "0.csv"), str(tmp_path / "1.csv")], str(tmp_path / "all.csv"))
    assert (tmp_path / "all.csv").read_text() == "a.wav,mix\nb.wav,mix\n"
    assert not (tmp_path / "all.csv.meta.json").exists()


OTHER_WINDOW = dataclasses.replace(MADE, options=(("window_s", 5.0), ("top", 2)))
OTHER_MODEL = dataclasses.replace(MADE, model=dataclasses.replace(MODEL, sha256="cd" * 32))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "npy"])
@pytest.mark.parametrize(
    ("made", "what"), [(OTHER_WINDOW, "window_s is 5.0, not 10.0"), (OTHER_MODEL, "sha256 is")]
)
def test_shares_of_other_options_or_models_are_refused(
    tmp_path: Path, suffix: str, made: Provenance, what: str
) -> None:
    shares = [
        write(tmp_path / f"0.{suffix}", ["bad.wav", "a.wav"], suffix),
        write(tmp_path / f"1.{suffix}", ["b.wav"], suffix, made),
    ]
    whole = tmp_path / f"all.{suffix}"
    with pytest.raises(InputError, match=what):
        merge(shares, str(whole))
    assert files(tmp_path, "all") == {}


def share(number: int, of: int) -> Provenance:
    return dataclasses.replace(MADE, share=(number, of))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "npy"])
def test_shares_know_their_place_whatever_the_order_they_are_given_in(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"all.{suffix}", NAMES, suffix)
    shares = [
        write(tmp_path / f"{n}.{suffix}", NAMES[start:end], suffix, share(n, 3))
        for n, start, end in ((3, 4, 7), (1, 0, 2), (2, 2, 4))
    ]
    assert merge(shares, str(tmp_path / f"merged.{suffix}")).missing == ()
    assert files(tmp_path, "merged.") == files(tmp_path, "all.")
    whole = str(tmp_path / f"part.{suffix}")
    assert merge([shares[0], shares[1]], whole).missing == ("2/3",)
    assert b"shard" not in b"".join(files(tmp_path, "part.").values())


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "npy"])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_share_and_the_whole_are_refused(tmp_path: Path, suffix: str, is_known: bool) -> None:
    made = share(1, 2) if is_known else MADE
    one = write(tmp_path / f"1.{suffix}", NAMES[:4], suffix, made)
    whole = write(tmp_path / f"whole.{suffix}", NAMES, suffix)
    what = "does not say which share it is" if is_known else "a.wav is in .* and in "
    for given in ((one, whole), (whole, one)):
        with pytest.raises(InputError, match=what):
            merge(given, str(tmp_path / f"all.{suffix}"))
    assert files(tmp_path, "all") == {}


@pytest.mark.parametrize(
    ("others", "what"),
    [((1, 3), r"is share 1/3, as .* is"), ((2, 2), r"2\.csv is share 2/2, and .* is 1/3")],
)
def test_shares_of_other_runs_are_refused(tmp_path: Path, others: tuple[int, int], what: str) -> None:
    one = write(tmp_path / "1.csv", ["a.wav"], "csv", share(1, 3))
    two = write(tmp_path / "2.csv", ["b.wav"], "csv", share(*others))
    with pytest.raises(InputError, match=what):
        merge([one, two], str(tmp_path / "all.csv"))


DAMAGED = [b"", b"{", b"[1]", b"7", b"\xff", b"NaN", b'{"shard": 7}', b'{"shard": [3, 2]}', b"[" * 100_000]


@pytest.mark.parametrize("suffix", ["csv", "npy", "jsonl"])
@pytest.mark.parametrize("damaged", DAMAGED)
def test_damaged_provenance_is_said_in_a_line(tmp_path: Path, suffix: str, damaged: bytes) -> None:
    shares = [write(tmp_path / f"{n}.{suffix}", NAMES[n : n + 1], suffix, share(n + 1, 2)) for n in (0, 1)]
    (tmp_path / ("1.meta.json" if suffix == "npy" else f"1.{suffix}.meta.json")).write_bytes(damaged)
    with pytest.raises(InputError, match=r"1\.(\w+\.)?meta\.json: .*damaged"):
        merge(shares, str(tmp_path / f"all.{suffix}"))
    assert files(tmp_path, "all") == {}


def _spoilt(data: bytes, suffix: str) -> Iterable[bytes]:
    """Damage that leaves the end as it is: what is cut short is told apart."""
    middle = len(data) // 2
    yield data[:middle] + b"\0" * 8 + data[middle + 8 :]
    if suffix in ("json", "jsonl"):
        yield data.replace(b'"source"', b'"sauce"', 1)
        yield data.replace(b'"tags": ', b'"tags": ' + b"[" * 100_000, 1)
        yield data.replace(b'"options": {', b'"options": [', 1)
        yield data.replace(b'"dymn": "', b'"dymn": ', 1)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_damaged_shares_are_said_in_a_line(tmp_path: Path, suffix: str) -> None:
    shares = [write(tmp_path / f"{n}.{suffix}", NAMES[n : n + 1], suffix) for n in (0, 1)]
    for spoilt in _spoilt(Path(shares[1]).read_bytes(), suffix):
        Path(shares[1]).write_bytes(spoilt)
        with pytest.raises(InputError, match=r"1\.\w+"):
            merge(shares, str(tmp_path / f"all.{suffix}"))
        assert files(tmp_path, "all") == {}


@pytest.mark.parametrize(
    "header", [b"{'descr': ", b"{" * 500, b"{'descr': '<f4', 'shape': 7}", b"1 if", b"[" * 900, b"\xff\0"]
)
def test_a_damaged_matrix_is_said_in_a_line(tmp_path: Path, header: bytes) -> None:
    shares = [write(tmp_path / f"{n}.npy", NAMES[n : n + 1], "npy") for n in (0, 1)]
    text = header.ljust(1_000) + b"\n"
    Path(shares[1]).write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(32))
    with pytest.raises(InputError, match=r"1\.npy: not a matrix that dymn wrote"):
        merge(shares, str(tmp_path / "all.npy"))


def test_lists_of_damage_are_put_together_and_no_others(tmp_path: Path) -> None:
    shares = [write(tmp_path / f"{n}.csv", NAMES[n : n + 1], "csv", share(n + 1, 2)) for n in (0, 1)]
    for n in (0, 1):
        write_warnings(f"{shares[n]}.warnings.csv", {NAMES[n]: ("cut short",)})
    merged = merge(shares[::-1], str(tmp_path / "all.csv"))
    write_warnings(str(tmp_path / "expected"), dict.fromkeys(NAMES[:2], ("cut short",)))
    assert merged.warnings == str(tmp_path / "all.csv.warnings.csv")
    assert Path(merged.warnings).read_bytes() == (tmp_path / "expected").read_bytes()
    Path(f"{shares[0]}.warnings.csv").write_text("my remarks\n")
    with pytest.raises(OutputError, match="is not a list of warnings"):
        merge(shares, str(tmp_path / "all.csv"), force=True)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "npy"])
def test_a_share_that_was_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    shares = [write(tmp_path / f"{n}.{suffix}", [f"{n}.wav"], suffix) for n in range(3)]
    path = Path(shares[1])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"1\.\w+: (cut short|not a complete)"):
        merge(shares, str(tmp_path / f"all.{suffix}"))
    assert files(tmp_path, "all") == {}


def test_matrices_of_other_widths_are_refused(tmp_path: Path) -> None:
    shares = [write(tmp_path / f"{size}.npy", ["a.wav"], "npy", size=size) for size in (4, 6)]
    with pytest.raises(InputError, match="6 columns"):
        merge(shares, str(tmp_path / "all.npy"))


def test_what_makes_no_sense_is_said(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"{n}.csv", [f"{n}.wav"], "csv") for n in (1, 2))
    whole = str(tmp_path / "all.csv")
    with pytest.raises(UsageError, match="only one share, "):
        merge([one], whole)
    with pytest.raises(UsageError, match="given twice"):
        merge([one, two, one], whole)
    with pytest.raises(UsageError, match="is also an input"):
        merge([one, two], two, force=True)
    with pytest.raises(UsageError, match="unknown format"):
        merge([one, two], str(tmp_path / "all.parquet"))
    with pytest.raises(InputError, match="no such file"):
        merge([one, str(tmp_path / "3.csv")], whole)
    (tmp_path / "2.csv.meta.json").unlink()
    with pytest.raises(InputError, match="other shares have theirs"):
        merge([one, two], whole)
    Path(whole).write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        merge([one, two], whole)
    assert Path(whole).read_text() == "mine"


def test_a_list_of_failures_of_an_earlier_whole_goes(tmp_path: Path) -> None:
    shares = [write(tmp_path / f"{n}.csv", [f"{n}.wav"], "csv") for n in range(2)]
    stale = tmp_path / "all.csv.failures.csv"
    stale.write_text("source,error,message,hint\n")
    assert merge(shares, str(tmp_path / "all.csv")).failures is None
    assert not stale.exists()


@pytest.mark.parametrize("form", ["csv", "npy"])
def test_what_is_left_of_an_earlier_whole_is_replaced(tmp_path: Path, form: str) -> None:
    shares = [write(tmp_path / f"{n}.{form}", [f"{n}.wav"], form) for n in range(2)]
    whole = tmp_path / f"all.{form}"
    merge(shares, str(whole))
    fresh = {path.name: path.read_bytes() for path in tmp_path.glob("all.*")}
    whole.unlink()
    merge(shares, str(whole))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("all.*")} == fresh


def test_the_whole_is_of_the_format_of_its_shares(tmp_path: Path) -> None:
    shares = [write(tmp_path / f"{n}.csv", NAMES[n : n + 1], "csv") for n in (0, 1)]
    for whole, form in (("all.jsonl", None), ("all.csv", "jsonl")):
        with pytest.raises(UsageError, match=r"0\.csv is csv by its name, but the output would be jsonl"):
            merge(shares, str(tmp_path / whole), format_name=form)


@pytest.mark.parametrize("broken", [b"{", b"[1]"])
def test_a_damaged_provenance_is_said(tmp_path: Path, broken: bytes) -> None:
    shares = [write(tmp_path / f"{n}.csv", NAMES[n : n + 1], "csv") for n in (0, 1)]
    (tmp_path / "1.csv.meta.json").write_bytes(broken)
    with pytest.raises(InputError, match=r"1\.csv\.meta\.json: .*damaged"):
        merge(shares, str(tmp_path / "all.csv"))


def test_nothing_lies_beside_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    shares = [write(tmp_path / f"{n}.csv", NAMES[n : n + 2], "csv") for n in (0, 2)]
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert merge(shares, "-").failures is None
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert capfdbinary.readouterr().out.startswith(b"source,")


def test_no_file_of_another_kind_is_taken_for_a_list_of_failures(tmp_path: Path) -> None:
    shares = [write(tmp_path / f"{n}.csv", NAMES[n : n + 1], "csv") for n in (0, 1)]
    diary = tmp_path / "all.csv.failures.csv"
    diary.write_text("my failures\n")
    with pytest.raises(OutputError, match="is not a list of failures"):
        merge(shares, str(tmp_path / "all.csv"), force=True)
    assert diary.read_text() == "my failures\n"
