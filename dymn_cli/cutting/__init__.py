"""Cut events out of recordings, a file each.

Event ──▶ choose (the best, or a sample) ──▶ Cutter ──▶ clips/NAME.wav ... and clips/clips.csv

choose    which events
names     what their files are called
table     what was cut, on disk from the first clip on
cutter    one event after the other, one open recording at a time
"""

from dymn_cli.cutting.choose import choose, events_of
from dymn_cli.cutting.cutter import CLIP_FORMATS, CutOptions, CutSummary, Cutter

__all__ = ["CLIP_FORMATS", "CutOptions", "CutSummary", "Cutter", "choose", "events_of"]
