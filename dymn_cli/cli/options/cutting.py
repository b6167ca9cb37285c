"""The options of cutting, for each command that cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.panels import OUTPUT

if TYPE_CHECKING:
    from dymn_cli.cutting import CutOptions

__all__ = ["CLIPS", "CLIP_FORMAT_TEXT", "ClipOptions", "CutFolder"]

CLIPS = "Clips"
CLIP_FORMAT_TEXT = "Format of clips (default: flac of a FLAC recording, else wav)."


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """How clips are cut."""

    pad: Annotated[float, opt("--pad", "S", "Seconds before and after each event.", CLIPS)] = 0.0
    max_length: Annotated[
        float | None, opt("--max-length", "S", "Of a longer event, cut the first S seconds.", CLIPS)
    ] = None
    per_label: Annotated[bool, flag("--per-label", "A folder for each label.", CLIPS)] = False
    mirror: Annotated[bool, flag("--mirror", "Folders as those of the recordings.", CLIPS)] = False

    def options(self, format_name: str | None, *, min_length: float = 0.0, force: bool = False) -> CutOptions:
        """These options as the library takes them.

        Raises:
            UsageError: a value out of range, or two layouts.
        """
        from dymn_cli.cutting import CutOptions
        from dymn_cli.errors import UsageError

        if self.per_label and self.mirror:
            raise UsageError("--per-label and --mirror are two layouts", hint="give one of them")
        return CutOptions(
            pad_s=self.pad,
            min_length_s=min_length,
            max_length_s=self.max_length,
            format=None if format_name is None else format_name.lower().lstrip("."),
            layout="label" if self.per_label else "mirror" if self.mirror else "flat",
            force=force,
        )


CutFolder = Annotated[str | None, opt("--cut", "DIR", "Also cut events out into DIR: see dymn cut.", OUTPUT)]
