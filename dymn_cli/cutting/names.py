"""What the files of clips are called: names that sort, survive any shell and any file system.

    night_003723.450_003727.000_dog.wav          recording, from when to when in seconds, label

Letters, digits, dots, hyphens and underscores only; no dash or dot in front; of bounded length. Names are
data: nothing in that of a recording leads out of the folder.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from dymn_cli.labels import Label
from dymn_cli.writers.spelling import name_bytes, readable

__all__ = ["clip_name", "folders_of", "portable"]

MAX_STEM, MAX_LABEL, MAX_FOLDER = 80, 60, 80
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices of Windows


def portable(text: str, longest: int, *, empty: str = "x") -> str:
    """A text as a part of a file name: accents go, everything else that is not portable is a hyphen."""
    parts = unicodedata.normalize("NFKD", readable(text))
    plain = "".join(char for char in parts if not unicodedata.combining(char))
    kept = re.sub(r"[^A-Za-z0-9._-]+|-{2,}", "-", plain).strip("-._")[:longest].rstrip("-._")
    return f"{kept}-" if RESERVED.fullmatch(kept) else kept or empty


def clip_name(
    source: str,
    start_s: float,
    end_s: float,
    label: str,
    channel: str,
    suffix: str,
    *,
    distinct: bool = False,
) -> str:
    """The name of a clip's file.

    Args:
        source: its recording.
        start_s: where the clip starts in it.
        end_s: where it ends.
        label: what is heard.
        channel: "mix", or the number of one.
        suffix: of the format, without a dot.
        distinct: tell it from the clip of another recording or label that would have the same name.
    """
    name = re.split(r"[/\\]", source)[-1]
    stem = "stdin" if source == "-" else portable(re.sub(r"\.[A-Za-z0-9]{1,5}$", "", name), MAX_STEM)
    if distinct:
        digest = hashlib.sha256(name_bytes(f"{source}\0{label}")).hexdigest()[:8]
        stem = f"{stem}-{digest}"
    at = "" if channel == "mix" else f"_ch{portable(channel, 4)}"
    return f"{stem}_{start_s:010.3f}_{end_s:010.3f}{at}_{label_part(label)}.{suffix}"


def label_part(label: str) -> str:
    """A label as a part of a file name: its slug."""
    return portable(Label(0, "", label).slug, MAX_LABEL, empty="sound")


def folders_of(source: str) -> list[str]:
    """The folders of a recording, as folders that clips can go to."""
    parts = re.split(r"[/\\]", source)[:-1]
    return [portable(part, MAX_FOLDER) for part in parts if part not in ("", ".", "..")]
