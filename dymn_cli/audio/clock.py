"""When a recording began: from its name, from what its recorder wrote into it, or as its user says.

    auto     a WAV file's GUANO timestamp or AudioMoth's comment; else a time in the file's name; else the
             origination time of its Broadcast Wave or iXML metadata
    FORMAT   a pattern of `strptime` such as %Y%m%d_%H%M%S, looked for in the name, or with a / in the path
    START    an ISO 8601 time such as 2019-05-22T02:00:00+02:00, of the one recording

In names, these are times: `20190522_020000` (AudioMoth, Song Meter, also with T, $, - or a blank in between),
`2019-05-22_02-00-00`, and `2019-05-22T020000` with `Z` or an offset such as `+0200` behind it. Of several,
the first one counts if it is the earliest; else nothing does.

A time has an offset from UTC where its source states one (`Z`, GUANO, AudioMoth's comment, %z); otherwise it
is the local time of whoever set the recorder's clock, and no offset is made up.

Sources: GUANO metadata specification 1.0; EBU Tech 3285 (bext); the iXML specification 3.0; the comment that
AudioMoth's firmware writes ("Recorded at 19:20:00 12/05/2023 (UTC+2) by AudioMoth ...").
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta, timezone
from pathlib import Path

from dymn_cli.audio.chunks import wav_metadata
from dymn_cli.errors import InputError, UsageError
from dymn_cli.remote.reading import open_uri
from dymn_cli.remote.uri import base_name, is_uri

__all__ = ["Clock"]

AUTO = "auto"
EXAMPLE = "%Y%m%d_%H%M%S"
NAMED = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<date>[-_.]?)(?P<month>\d\d)(?P=date)(?P<day>\d\d)"
    r"(?P<between>[T_$ -])"
    r"(?P<hour>\d\d)(?P<time>[-_.:]?)(?P<minute>\d\d)(?P=time)(?P<second>\d\d)(?!\d)"
    r"(?P<zone>Z|[+-]\d\d:?\d\d(?!\d))?"
)
DIRECTIVES = {
    "Y": r"\d{4}", "y": r"\d\d", "m": r"\d\d", "d": r"\d\d", "j": r"\d{3}", "H": r"\d\d", "I": r"\d\d",
    "M": r"\d\d", "S": r"\d\d", "f": r"\d{1,6}", "p": r"[AaPp][Mm]", "b": r"[^\W\d_]+", "B": r"[^\W\d_]+",
    "z": r"(?:Z|[+-]\d\d:?\d\d)", "%": "%",
}  # fmt: skip
AUDIOMOTH = re.compile(
    r"Recorded at (\d\d:\d\d:\d\d(?:\.\d+)?) (\d\d)/(\d\d)/(\d{4}) \(UTC(?:([+-])(\d\d?)(?::(\d\d))?)?\)"
)
GUANO_TIME = re.compile(r"^Timestamp:[ \t]*(\S.*?)\s*$", re.MULTILINE)
MAX_OFFSET_H = 14
SAME_CLOCK = timedelta(seconds=2)  # the time reference is that of the origination time if they are so close


class Clock:
    """Finds out when recordings began.

    Args:
        text: "auto", a pattern of `strptime`, or the ISO 8601 time when the one recording began.

    Raises:
        UsageError: it is none of these, or leaves the day or the hour open.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._start: datetime | None = None
        self._started: str | None = None  # the recording that began then
        self._pattern: re.Pattern[str] | None = None
        if text == AUTO:
            return
        if "%" in text:
            self._pattern = _pattern(text)
            return
        with contextlib.suppress(ValueError):
            self._start = datetime.fromisoformat(text)
        if self._start is None or len(text) < len("20190522T02"):
            raise UsageError(
                f"--clock {text!r} is no time",
                hint=f"auto, a pattern such as {EXAMPLE}, or 2019-05-22T02:00:00",
            )

    def require_fit(self, names: Iterable[str]) -> None:
        """See that the inputs have a clock as it is asked for.

        Args:
            names: of all sources.

        Raises:
            UsageError: a start and several recordings, or a pattern that no name matches.
        """
        names = list(names)
        if self._start is not None and len(names) > 1:
            raise UsageError(
                f"--clock {self.text} is when one recording began, and there are {len(names)}",
                hint=f"auto, or a pattern of their names such as {EXAMPLE}",
            )
        if self._pattern is not None and names and not any(map(self._by_pattern, names)):
            raise UsageError(
                f"--clock {self.text!r} matches no name, for example {Path(names[0]).name}",
                hint=f"{EXAMPLE} matches {datetime(2019, 5, 22, 2).strftime(EXAMPLE)}",
            )

    def start_of(self, source: str) -> datetime | None:
        """When a recording began; None where nothing tells. A START is that of the first source."""
        if self._start is not None:
            self._started = source if self._started is None else self._started
            return self._start if source == self._started else None
        if self._pattern is not None:
            return self._by_pattern(source)
        metadata = {} if source == "-" else _metadata(source)
        return _stated(metadata) or _by_name(source) or _bext(metadata)

    def _by_pattern(self, source: str) -> datetime | None:
        assert self._pattern is not None
        name = Path(source).as_posix() if "/" in self.text else _file_name(source)
        for found in self._pattern.finditer(name):
            with contextlib.suppress(ValueError):  # no such day
                return datetime.strptime(found[0], self.text)
        return None


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"%(.?)", text)
    found = parts[1::2]
    unknown = next((name for name in found if name not in DIRECTIVES), None)
    if unknown is not None:
        raise UsageError(f"--clock {text!r}: no directive %{unknown}", hint=f"for example {EXAMPLE}")
    names = set(found)
    has_day = "j" in names or (names & {"m", "b", "B"} and "d" in names)
    if not (names & {"Y", "y"} and has_day and ("H" in names or {"I", "p"} <= names)):
        raise UsageError(
            f"--clock {text!r} leaves the day or the hour open", hint=f"%Y, %m, %d and %H: {EXAMPLE}"
        )
    pieces = [DIRECTIVES[part] if n % 2 else re.escape(part) for n, part in enumerate(parts)]
    # Digits before or behind it would make it a part of a longer number.
    return re.compile(rf"(?<!\d){''.join(pieces)}(?!\d)")


def _file_name(source: str) -> str:
    return base_name(source) if is_uri(source) else Path(source).name


def _by_name(source: str) -> datetime | None:
    found = [start for match in NAMED.finditer(_file_name(source)) if (start := _named(match)) is not None]
    if not found:
        return None
    # A name may say from when to when; compared without zones, as only one of the two may have one.
    first = found[0]
    return first if first.replace(tzinfo=None) == min(one.replace(tzinfo=None) for one in found) else None


def _named(match: re.Match[str]) -> datetime | None:
    try:
        start = _time(*(match[part] for part in ("year", "month", "day", "hour", "minute", "second")))
    except ValueError:
        return None
    zone = match["zone"]
    if zone == "Z":
        return start.replace(tzinfo=UTC)
    if not zone or match["between"] != "T":  # elsewhere, -0100 may be a number
        return start
    offset = _offset(zone[0], zone[1:3], zone[-2:])
    return start if offset is None else start.replace(tzinfo=offset)


def _time(year: str, month: str, day: str, hour: str, minute: str, second: str) -> datetime:
    return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))


def _offset(sign: str, hours: str, minutes: str) -> timezone | None:
    if int(hours) > MAX_OFFSET_H or int(minutes) % 15 or int(minutes) > 45:
        return None
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset)


def _metadata(source: str) -> dict[bytes, bytes]:
    try:
        with open_uri(source) if is_uri(source) else Path(source).open("rb") as stream:
            return wav_metadata(stream, (b"guan", b"LIST", b"bext", b"iXML"))
    except (InputError, OSError, ValueError):  # it cannot be read, or its name is none
        return {}


def _stated(metadata: dict[bytes, bytes]) -> datetime | None:
    """The start that the recorder states as such."""
    stamp = GUANO_TIME.search(metadata.get(b"guan", b"").decode("utf-8", "replace"))
    if stamp is not None:
        with contextlib.suppress(ValueError):
            start = datetime.fromisoformat(stamp[1])
            if len(stamp[1]) > len("2019-05-22"):
                return start
    found = AUDIOMOTH.search(metadata.get(b"LIST", b"").decode("latin-1"))
    if found is None:
        return None
    clock, day, month, year, sign, hours, minutes = found.groups()
    zone = _offset(sign, hours, minutes or "0") if sign else UTC
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(f"{year}-{month}-{day}T{clock}").replace(tzinfo=zone)
    return None


def _bext(metadata: dict[bytes, bytes]) -> datetime | None:
    """The origination time of a Broadcast Wave; the time reference adds its fraction of a second."""
    chunk, ixml = metadata.get(b"bext", b""), metadata.get(b"iXML", b"").decode("utf-8", "replace")
    day, clock = chunk[320:330].decode("latin-1"), chunk[330:338].decode("latin-1")
    samples = int.from_bytes(chunk[338:346], "little")
    if not day.strip("\0 "):
        day, clock = _tag(ixml, "BWF_ORIGINATION_DATE"), _tag(ixml, "BWF_ORIGINATION_TIME")
        low, high = _tag(ixml, "BWF_TIME_REFERENCE_LOW"), _tag(ixml, "BWF_TIME_REFERENCE_HIGH")
        samples = (int(high or 0) << 32) + int(low or 0) if (low + high).isdecimal() else 0
    numbers = re.fullmatch(r"(\d{4})\D(\d\d)\D(\d\d)", day), re.fullmatch(r"(\d\d)\D(\d\d)\D(\d\d)", clock)
    if numbers[0] is None or numbers[1] is None:
        return None
    try:
        start = _time(*numbers[0].groups(), *numbers[1].groups())
    except ValueError:
        return None
    rate_hz = int.from_bytes(metadata.get(b"fmt ", b"")[4:8], "little")
    if samples and rate_hz:
        exact = datetime.combine(start, time()) + timedelta(seconds=min(samples / rate_hz, 1e6))
        if abs(exact - start) <= SAME_CLOCK:
            return exact
    return start


def _tag(xml: str, name: str) -> str:
    """The text of an element; the first of that name counts."""
    found = re.search(rf"<{name}>\s*([^<]{{1,40}}?)\s*</{name}>", xml)
    return found[1] if found else ""
