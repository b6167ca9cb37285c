"""The time of day at which a recording begins, as recorders write it into the names of files.

20190522_020000.WAV              AudioMoth
SITE-A_20190522_020000.wav       Song Meter
2019-05-22_02-00-00.flac         and with T, a space, dots or colons

None of them says a zone.
"""

from __future__ import annotations

import re
from datetime import datetime

__all__ = ["clock_of"]

_FORMS = (
    re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)[_T$ -](\d\d)(\d\d)(\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(\d{4})-(\d\d)-(\d\d)[_T -](\d\d)[-.:](\d\d)[-.:](\d\d)(?!\d)"),
)


def clock_of(name: str) -> datetime | None:
    """The time that the name of a recording says, without a zone; None where it says none.

    Of several in a name the last one counts; folders are no part of it.
    """
    last = re.split(r"[/\\]", name)[-1]
    found = [match for form in _FORMS for match in form.finditer(last)]
    for match in sorted(found, key=lambda match: -match.start()):
        try:
            return datetime(*map(int, match.groups()))  # type: ignore[arg-type]  # six numbers
        except ValueError:  # a serial number that looks like a date
            continue
    return None
