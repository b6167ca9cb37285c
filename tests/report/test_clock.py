from __future__ import annotations

from datetime import datetime

import pytest

from dymn_cli.report.clock import clock_of


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        ("20190522_020000.WAV", datetime(2019, 5, 22, 2)),
        ("/data/card 3/SITE-A_20190522_233015.wav", datetime(2019, 5, 22, 23, 30, 15)),
        ("C:\\cards\\20190522T020000Z.wav", datetime(2019, 5, 22, 2)),
        ("2019-05-22_02-00-30.flac", datetime(2019, 5, 22, 2, 0, 30)),
        ("meadow 2019-05-22 02.00.30 (1).flac", datetime(2019, 5, 22, 2, 0, 30)),
        ("20190101_000000 copied 20190522_020000.wav", datetime(2019, 5, 22, 2)),
        ("20191322_020000.wav", None),  # there is no thirteenth month
        ("20190522_020000123.wav", None),
        ("120190522_020000.wav", None),
        ("20190522_020000/clip.wav", None),
        ("clip.wav", None),
    ],
)
def test_names_of_recorders(name: str, clock: datetime | None) -> None:
    assert clock_of(name) == clock
