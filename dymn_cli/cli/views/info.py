"""What `dymn info` finds out about a source, and its forms: table, tsv, json, jsonl.

tsv and jsonl come source by source. A table and an array of JSON come at the end: a table must know its
widest cells.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from dymn_cli.audio.decode import open_audio
from dymn_cli.cli.batch_run.sources import open_source
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import MAX_WIDTH, draw, print_bytes
from dymn_cli.remote.store import stat as stat_uri
from dymn_cli.remote.uri import is_uri
from dymn_cli.results import AudioInfo, Failure
from dymn_cli.values import bytes_text
from dymn_cli.writers.spelling import readable, seconds, visible
from dymn_cli.writers.to_json import error_object, json_lines, json_text, source_fields
from dymn_cli.writers.to_table import duration_text
from dymn_cli.writers.to_tsv import tsv_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dymn_cli.audio.decode import Source

__all__ = ["FORMS", "Printer", "Probe", "printer", "probe"]

FORMS = ("table", "tsv", "json", "jsonl")
SCHEMA = "dymn.info/1"
COLUMNS = ("source", "container", "codec", "rate_hz", "channels", "duration_s", "size_bytes")
DECODED_COLUMNS = ("decoded_s", "warnings")
NAME = "name"
HEADINGS = ("format", "rate", "channels", "duration", "size")
RIGHT = ("rate", "duration", "size")
UNKNOWN = "?"
GAP = 2
MIN_NAME = 16
N_BLOCK = 1 << 16  # samples per channel that are decoded at a time


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known of a source.

    Args:
        source: its name.
        audio: what its header says.
        size_bytes: of the file; None where it is no file.
        decoded_s: seconds that were really there; None where it was not decoded.
        warnings: what decoding found, one line each.
    """

    source: str
    audio: AudioInfo
    size_bytes: int | None
    decoded_s: float | None = None
    warnings: tuple[str, ...] = ()


def probe(name: str, *, decode: bool, most_bytes: int | None = None, strict: bool = False) -> Probe:
    """Read the header of a source, or all of it.

    Raises:
        InputError: it cannot be read.
    """
    source = open_source(name, most_bytes=most_bytes)
    with open_audio(source, name=name, strict=strict) as reader:
        decoded_s = None
        if decode:
            for _ in reader.blocks(N_BLOCK):
                pass
            decoded_s = reader.duration_s
        # Last, because it moves the position of what was copied from standard input.
        return Probe(name, reader.info, _size(source), decoded_s, (*reader.warnings, *reader.remarks))


def _size(source: Source) -> int | None:
    if isinstance(source, str) and is_uri(source):
        return stat_uri(source).size
    if isinstance(source, str):
        status = os.stat(source)  # noqa: PTH116 - names may be bytes that no Path holds
        return status.st_size if stat.S_ISREG(status.st_mode) else None
    assert not isinstance(source, tuple | os.PathLike)
    return source.seek(0, os.SEEK_END)


class Printer:
    """Takes probes and failures in order."""

    def begin(self) -> None:
        """Print what comes before the first source."""

    def write(self, probe: Probe) -> None:
        """Take what one source is."""

    def fail(self, failure: Failure) -> None:
        """Take that a source is nothing that can be read; the forms that show it are JSON's."""

    def end(self) -> None:
        """Print what comes after the last source."""


def printer(form: str, messages: Messages, *, decode: bool, header: bool) -> Printer:
    """The printer of a form."""
    if form == "tsv":
        return TsvProbes(decode=decode, header=header)
    if form == "jsonl":
        return JsonlProbes()
    return JsonProbes() if form == "json" else TableProbes(messages)


class TsvProbes(Printer):
    """A row a source."""

    def __init__(self, *, decode: bool, header: bool) -> None:
        self._decode = decode
        self._header = header

    def begin(self) -> None:
        """Print the names of the columns where they are wanted."""
        if self._header:
            print_bytes(tsv_line((*COLUMNS, *(DECODED_COLUMNS if self._decode else ()))))

    def write(self, probe: Probe) -> None:
        """Print its row."""
        audio, duration_s = probe.audio, probe.audio.duration_s
        cells: list[object] = [probe.source, audio.container, audio.codec, audio.rate_hz, audio.channels]
        cells.append("" if duration_s is None else seconds(duration_s))
        cells.append("" if probe.size_bytes is None else probe.size_bytes)
        if probe.decoded_s is not None:
            cells += [seconds(probe.decoded_s), "; ".join(probe.warnings)]
        print_bytes(tsv_line(cells))


class JsonlProbes(Printer):
    """An object a line, of sources that failed too."""

    def write(self, probe: Probe) -> None:
        """Print its line."""
        self._put(_object(probe))

    def fail(self, failure: Failure) -> None:
        """Print the line of a failure."""
        self._put(error_object(failure))

    def _put(self, document: dict[str, Any]) -> None:
        print_bytes(json_lines([document]))


class JsonProbes(JsonlProbes):
    """One array of those objects, an object a line."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def _put(self, document: dict[str, Any]) -> None:
        self._lines.append(f"  {json_text(document)}".encode())

    def end(self) -> None:
        """Print the array."""
        print_bytes(b"[\n" + b",\n".join(self._lines) + b"\n]\n" if self._lines else b"[]\n")


def _object(probe: Probe) -> dict[str, Any]:
    audio = probe.audio
    document = {
        "schema": SCHEMA,
        **source_fields(probe.source),
        "container": audio.container,
        "codec": audio.codec,
        "rate_hz": audio.rate_hz,
        "channels": audio.channels,
        "duration_s": None if audio.duration_s is None else seconds(audio.duration_s),
        "size_bytes": probe.size_bytes,
    }
    if probe.decoded_s is not None:
        document["decoded_s"] = seconds(probe.decoded_s)
        document["warnings"] = [readable(line) for line in probe.warnings]
    return document


class TableProbes(Printer):
    """Names and facts in columns, and below each name what is to be noted."""

    def __init__(self, messages: Messages) -> None:
        self._console = messages.stdout_console()
        self._probes: list[Probe] = []

    def write(self, probe: Probe) -> None:
        """Keep it: columns are as wide as their widest cell."""
        self._probes.append(probe)

    def end(self) -> None:
        """Draw the table."""
        from rich.text import Text

        if not self._probes:
            return
        rows = [_facts(probe) for probe in self._probes]
        widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
        names = [visible(probe.source, self._console.encoding) for probe in self._probes]
        room = min(self._console.width, MAX_WIDTH) - sum(widths) - GAP * len(widths)
        name_width = min(max(cell_len(name) for name in (*names, NAME)), max(room, MIN_NAME))
        lines = [Text(f"{NAME.ljust(name_width)}{_aligned(HEADINGS, widths)}", "bold")]
        for name, facts, probe in zip(names, rows, self._probes, strict=True):
            shown = Text(name, "bold cyan")
            if shown.cell_len > name_width:  # on a line of its own, so that it can be copied whole
                lines.append(shown)
                shown = Text("")
            lines.append(Text.assemble(shown, " " * (name_width - shown.cell_len), _aligned(facts, widths)))
            lines += [Text(f"  note: {visible(line)}", "yellow") for line in probe.warnings]
        draw(self._console, *lines, wrap=False)


def _facts(probe: Probe) -> tuple[str, ...]:
    """The cells of a source, as `HEADINGS` says; the duration is the one that is really there, if known."""
    audio = probe.audio
    duration_s = audio.duration_s if probe.decoded_s is None else probe.decoded_s
    return (
        f"{audio.container} {audio.codec}",
        f"{audio.rate_hz / 1000:g} kHz",
        {1: "mono", 2: "stereo"}.get(audio.channels, str(audio.channels)),
        UNKNOWN if duration_s is None else duration_text(duration_s),
        UNKNOWN if probe.size_bytes is None else bytes_text(probe.size_bytes),
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if heading in RIGHT else cell.ljust(width)
        for cell, width, heading in zip(cells, widths, HEADINGS, strict=True)
    ]
    return "".join(" " * GAP + cell for cell in padded)
