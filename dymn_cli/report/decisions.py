"""What a reviewer has decided, as the page exports it.

    source,channel,start_s,end_s,label,mid,score,decision,found
    night.wav,mix,12.34,15.60,Owl,/m/09d5_,0.8123,keep,Owl
    night.wav,mix,80.10,81.02,Dog,/m/0bt9lr,0.3310,reject,Dog
    night.wav,mix,99.00,99.80,"Chirp, tweet",/m/07pggtn,0.2507,keep,Bird

`label` is what the sound is, or of a rejected event what it is not; `found` is what the model said. So the
table is a table of true events and of labels of recordings as well: whoever reads it as such leaves out what
is rejected, or not decided.

A table of one's own needs only `REQUIRED`: its events are those of the mix, found with their label.
"""

from __future__ import annotations

import csv
import io

from dymn_cli.errors import InputError
from dymn_cli.report.model import Decision
from dymn_cli.small_files import LARGE, read_small_text
from dymn_cli.values import score_of, time_of

__all__ = ["COLUMNS", "read_decisions"]

COLUMNS = ("source", "channel", "start_s", "end_s", "label", "mid", "score", "decision", "found")
REQUIRED = ("source", "start_s", "end_s", "label", "decision")
DECISIONS = ("keep", "reject", "")
_HINT = f"a table that a report has exported, or one with the columns {','.join(REQUIRED)}"


def read_decisions(path: str) -> tuple[Decision, ...]:
    """Read decisions back; of several about one event the last one counts.

    Raises:
        InputError: it cannot be read, is no such table, or is cut short.
    """
    text = read_small_text(path, InputError, max_bytes=LARGE, errors="surrogateescape")
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    found: dict[object, Decision] = {}
    try:
        header = next(reader, [])
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise InputError(f"{path}: not a table of decisions: no column {missing[0]!r}", hint=_HINT)
        for cells in reader:
            if cells:
                where = f"{path}, line {reader.line_num}"
                if len(cells) != len(header):
                    raise InputError(
                        f"{where}: {len(cells)} cells for {len(header)} columns",
                        hint="is it cut short?",
                    )
                one = _decision(dict(zip(header, cells, strict=True)), where)
                if one is not None:
                    found[one.key] = one
    except csv.Error as exc:
        raise InputError(f"{path}, line {reader.line_num}: not a table: {exc}") from exc
    return tuple(found.values())


def _decision(cells: dict[str, str], where: str) -> Decision | None:
    decided = cells["decision"].strip().lower()
    if decided not in DECISIONS:
        raise InputError(f"{where}: the decision is {cells['decision']!r}, neither keep nor reject")
    if not decided:
        return None
    if not cells["label"].strip():
        raise InputError(f"{where}: no label")
    cells = {"channel": "mix", "found": cells["label"], "mid": "", "score": "", **cells}
    start, end = (time_of(cells[name], where) for name in ("start_s", "end_s"))
    score = score_of(cells["score"], where) if cells["score"] else None
    key = (cells["source"], cells["channel"], round(start * 1000), round(end * 1000), cells["found"])
    verdict = "relabel" if decided == "keep" and cells["label"] != cells["found"] else decided
    return Decision(key, verdict, cells["label"], cells["mid"], score)
