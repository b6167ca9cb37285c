from __future__ import annotations

import numpy as np
import pytest
import sounds

from dymn_cli.frontend import LogMel
from dymn_cli.frontend.streaming import stream_log_mel


@pytest.mark.parametrize("block", [1_777, 32_000, 10_000_000])
@pytest.mark.parametrize("n_samples", [32_000 * 23, 32_000 * 20 + 5, 32_000])
def test_pieces_are_those_of_one_pass(block: int, n_samples: int) -> None:
    samples = sounds.noise(n_samples, level=0.1, seed=1)
    blocks = (samples[start : start + block] for start in range(0, len(samples), block))
    whole = LogMel()(samples)[0, 0]
    pieces = list(stream_log_mel(blocks, LogMel()))
    assert max(piece.shape[1] for piece in pieces) < 1_100
    together = np.concatenate(pieces, axis=1)
    assert together.shape == whole.shape
    assert np.abs(together - whole).max() < 1e-5


def test_what_is_too_short_gives_nothing() -> None:
    assert list(stream_log_mel(iter([np.zeros(10, np.float32)]), LogMel())) == []
    assert list(stream_log_mel(iter([]), LogMel())) == []
