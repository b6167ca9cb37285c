from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.live.clips import ClipKeeper, ClipKeeping
from dymn_cli.live.sources import Sound
from dymn_cli.results import Event

RATE_HZ = 48_000


@pytest.mark.parametrize("name", ["ogg", "opus"])
def test_the_same_sound_gives_the_same_bytes_however_it_comes(name: str, tmp_path: Path) -> None:
    heard = np.random.default_rng(0).normal(0, 0.1, (4 * RATE_HZ, 1)).astype(np.float32)
    saved = []
    for n_parts in (1, 7):
        keeper = ClipKeeper(str(tmp_path / str(n_parts)), ClipKeeping(format=name))
        end = 0
        for part in np.array_split(heard, n_parts):
            end += len(part)
            keeper.hear(Sound(part, RATE_HZ), end / RATE_HZ)
        event = Event("microphone", "mix", 1.5, 3.0, 0, "Owl", "/m/09d5_", 0.8, 0.8, 1)
        saved.append(Path(keeper.save(event, datetime(2024, 5, 22))))
    one, other = saved
    assert one.read_bytes() == other.read_bytes()
    assert soundfile.info(one).duration == pytest.approx(3.0, abs=0.01)
