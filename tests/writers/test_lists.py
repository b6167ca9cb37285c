from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dymn_cli.errors import OutputError
from dymn_cli.results import Failure
from dymn_cli.writers.lists import FAILURES, WARNINGS, Kind, write_failures, write_warnings


def test_a_row_a_source_that_can_be_tried_again(failure: Failure, tmp_path: Path) -> None:
    out = tmp_path / "failed.csv"
    plain = Failure('a "b", c.wav', "EmptyAudioError", "no samples", None, 3)
    write_failures(str(out), [failure, plain])
    assert out.read_bytes() == (
        b"source,error,message,hint\n"
        b"br\xf6ken.wav,CorruptAudioError,br\xf6ken.wav: cut short,decode it again\n"
        b'"a ""b"", c.wav",EmptyAudioError,no samples,\n'
    )
    # Not as pandas' own strings, which cannot hold bytes that are no UTF-8.
    frame = pd.read_csv(out, encoding_errors="surrogateescape", keep_default_na=False, dtype=object)
    assert frame["source"].tolist() == [failure.source, plain.source]
    assert frame["hint"].tolist() == ["decode it again", ""]


def test_a_safe_list_holds_no_formula(tmp_path: Path) -> None:
    failure = Failure("=1+2.wav", "CorruptAudioError", "=1+2.wav: cut short", "-x", 3)
    write_failures(str(tmp_path / "plain.csv"), [failure])
    write_failures(str(tmp_path / "safe.csv"), [failure], csv_safe=True)
    plain, safe = ((tmp_path / name).read_bytes().splitlines() for name in ("plain.csv", "safe.csv"))
    assert plain[1] == b"=1+2.wav,CorruptAudioError,=1+2.wav: cut short,-x"
    assert safe == [plain[0], b"'=1+2.wav,CorruptAudioError,'=1+2.wav: cut short,'-x"]


def test_no_failures_is_an_answer_too(tmp_path: Path) -> None:
    write_failures(str(tmp_path / "failed.csv"), [])
    assert (tmp_path / "failed.csv").read_bytes() == b"source,error,message,hint\n"


def test_an_older_list_is_kept_without_force(tmp_path: Path, failure: Failure) -> None:
    write_failures(str(tmp_path / "failed.csv"), [failure])
    with pytest.raises(OutputError, match="exists"):
        write_failures(str(tmp_path / "failed.csv"), [])
    write_failures(str(tmp_path / "failed.csv"), [], force=True)
    assert (tmp_path / "failed.csv").read_bytes().count(b"\n") == 1


def test_what_is_damaged_has_a_row_for_each_warning(tmp_path: Path) -> None:
    damage = {"a, b.wav": ("3 ms at 6.79 s, say",), "=br\udcf6ken.wav": ("-1", "the header claims 10.2 s")}
    write_warnings(str(tmp_path / "plain.csv"), damage)
    assert (tmp_path / "plain.csv").read_bytes() == (
        b"source,warning\n"
        b'"a, b.wav","3 ms at 6.79 s, say"\n'
        b"=br\xf6ken.wav,-1\n"
        b"=br\xf6ken.wav,the header claims 10.2 s\n"
    )
    write_warnings(str(tmp_path / "safe.csv"), damage, csv_safe=True)
    assert b"\n'=br\xf6ken.wav,'-1\n" in (tmp_path / "safe.csv").read_bytes()


@pytest.mark.parametrize("kind", [FAILURES, WARNINGS])
def test_only_a_list_of_its_kind_may_be_replaced(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "list.csv"
    kind.require_replaceable(str(path))
    for content in (b"", kind.header, kind.header + b"a.wav,x\n"):
        path.write_bytes(content)
        kind.require_replaceable(str(path))
    for content in (b"my notes\n", b"source,", b"source,channel,start_s\n"):
        path.write_bytes(content)
        with pytest.raises(OutputError, match=f"is not a list of {kind.name}"):
            kind.require_replaceable(str(path))
