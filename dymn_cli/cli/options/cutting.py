"""The options of cutting, for each command that cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from dymn_cli.cli.options.declare import flag, opt

if TYPE_CHECKING:
    from dymn_cli.cutting import CutOptions, Cutter

__all__ = ["CLIPS", "CLIP_FORMAT_TEXT", "ClipOptions", "EventClipOptions"]

CLIPS = "Clips"
CLIP_FORMAT_TEXT = "Format of clips (default: flac of a FLAC recording, else wav)."


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """How clips are cut."""

    pad: Annotated[float, opt("--pad --clip-pad", "S", "Seconds before and after each event.", CLIPS)] = 0.0
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


@dataclass(frozen=True, slots=True)
class EventClipOptions:
    """Whether events are cut out while they are found, and how."""

    cut: Annotated[
        str | None, opt("--cut", "DIR", "Also cut each event out, into DIR: see dymn cut.", CLIPS)
    ] = None
    clip_pad: Annotated[
        float, opt("--clip-pad", "S", "Seconds before and after each event in its clip.", CLIPS)
    ] = 0.0
    clip_format: Annotated[
        str | None, opt("--clip-format", "wav|flac|ogg|opus|mp3|...", CLIP_FORMAT_TEXT, CLIPS)
    ] = None
    per_label: Annotated[bool, flag("--per-label", "A folder of clips for each label.", CLIPS)] = False

    def cutter(self, *, force: bool) -> Cutter | None:
        """What cuts; None where that was not asked for.

        Raises:
            UsageError: a value out of range.
        """
        if self.cut is None:
            return None
        from dymn_cli.audio.locate import Locator
        from dymn_cli.cutting import Cutter

        clips = ClipOptions(pad=self.clip_pad, per_label=self.per_label)
        return Cutter(self.cut, clips.options(self.clip_format, force=force), Locator())
