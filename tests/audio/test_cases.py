"""Files that people really have: as much is read as players read of them, and what is wrong is said."""

from __future__ import annotations

import csv
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import to_mono_32k
from dymn_cli.errors import CorruptAudioError, InputError

CASES = Path(__file__).parent / "cases"
ROWS = list(csv.DictReader((CASES / "expected.csv").read_text(encoding="utf-8").splitlines()))
DAMAGED = [
    "flac_one_bit_flipped.flac",
    "flac_total_samples_half.flac",
    "mp3_hole_in_middle.mp3",
    "mp3_rate_change.mp3",
    "wav_header_claims_1s.wav",
    "wav_two_files_joined.wav",
]
WHOLE = ["opus_granule_ahead.opus", "chained_vorbis.ogg", "caf_unknown_size.caf", "rf64_sizes_zero.wav"]


@pytest.fixture
def install(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base installation whatever is installed here, or the one with the media extra."""
    if request.param == "base":
        monkeypatch.delitem(sys.modules, "dymn_cli.audio.media", raising=False)
        monkeypatch.delattr("dymn_cli.audio.media", raising=False)
        monkeypatch.setitem(sys.modules, "av", None)
    elif importlib.util.find_spec("av") is None:
        pytest.skip("needs the media extra")


@pytest.mark.parametrize(
    ("row", "install"),
    [pytest.param(row, row["install"], id=f"{row['install']}-{row['file']}") for row in ROWS],
    indirect=["install"],
)
@pytest.mark.usefixtures("install")
def test_what_decodes_is_read_and_what_does_not_is_said(
    row: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    seconds, warnings, error = 0.0, [], ""
    try:
        with open_audio(CASES / row["file"]) as reader:
            for _ in to_mono_32k(reader):
                pass
            seconds, warnings = reader.duration_s, reader.warnings
    except InputError as exc:
        error = f"{exc}; {exc.hint}"
    capfd.readouterr()  # mpg123 may say something
    is_read = not error and float(row["min_s"]) <= seconds <= float(row["max_s"])
    kind, _, pattern = row["says"].partition(":")
    is_said = bool(pattern and re.search(pattern, error, re.IGNORECASE))
    fulfilled = {
        "": is_read,
        "warning": is_read and warnings,
        "warning_if_short": is_read and (warnings or seconds > 9.5),
        "result_or_hint": (is_read and seconds > 4) or (is_said and "damaged" not in error),
        "warning_or_error": (warnings and seconds > 4) or is_said,
        "error": is_said,
    }
    assert fulfilled[kind], f"{seconds:.2f} s, {warnings}, {error}"


@pytest.mark.parametrize("name", DAMAGED)
def test_strict_refuses_what_is_damaged(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(CorruptAudioError, match="damaged"),
        open_audio(CASES / name, strict=True) as reader,
    ):
        for _ in reader.blocks(20_000):
            pass
    capfd.readouterr()


@pytest.mark.parametrize("name", WHOLE)
def test_strict_reads_what_is_whole(name: str) -> None:
    with open_audio(CASES / name, strict=True) as reader:
        assert sum(map(len, reader.blocks(20_000))) > 4 * reader.info.rate_hz
        assert reader.warnings == []


def test_a_hint_at_an_extra_comes_only_where_it_can_help() -> None:
    for name in ("wav_all_zero_bytes.wav", "m4a_no_moov.m4a"):
        with pytest.raises(CorruptAudioError) as caught:
            open_audio(CASES / name)
        assert caught.value.hint is None
