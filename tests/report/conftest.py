"""Pages, and a real browser to open them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from dymn_cli.report.gather import Gathering, Sampling
from dymn_cli.report.model import Sound, Span, Tile
from dymn_cli.report.page import write_page
from dymn_cli.report.spectrogram import spectrogram

RATE_HZ = 32_000
HOSTILE = '<script>alert(1)<!-- & "x".wav'
HEADER = "source,channel,start_s,end_s,label,mid,score,mean_score,n_windows\n"
EVENTS = f"""{HEADER}20240522_235900.wav,mix,1.000,2.500,Owl,/m/09d5_,0.8123,0.6,1
20240522_235900.wav,mix,2.000,3.000,Hoot,/m/07r_k2n,0.4500,0.3,1
20240522_235900.wav,mix,6.000,7.000,Dog,/m/0bt9lr,0.2500,0.2,1
"<script>alert(1)<!-- & ""x"".wav",mix,0.500,1.500,Dog,/m/0bt9lr,0.6000,0.4,1
2024-05-23_00-10-00_gone.wav,mix,0.000,1.000,"</script><img src=x onerror=alert(2)>",,0.9000,0.9,1
"""


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A result of events beside two of its three recordings."""
    t = np.arange(8 * RATE_HZ) / RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    for name in ("20240522_235900.wav", HOSTILE):
        soundfile.write(tmp_path / name, tone, RATE_HZ, subtype="PCM_16")
    (tmp_path / "events.csv").write_text(EVENTS)
    return tmp_path


@pytest.fixture
def large_page() -> Callable[[int, int], bytes]:
    """Makes a page of so many recordings with so many events each."""
    return _large_page


def _large_page(n_sources: int, n_each: int) -> bytes:
    """A page of many recordings, whose pictures are one and the same."""
    gathering = Gathering(Sampling(limit=n_sources * n_each))
    labels = [
        "Speech",
        "Bird",
        "Dog",
        "Car",
        "Music",
        "Wind",
        "Rain",
        "Owl",
        "Insect",
        "Engine",
        "Bell",
        "Siren",
    ]
    rng = np.random.default_rng(0)
    for n in range(n_sources):
        starts = np.sort(rng.uniform(0, 55, n_each))
        gathering.add(
            f"site-{n % 7}/AM{n:04d}_2024{1 + n // 28 % 12:02d}{1 + n % 28:02d}_{n % 24:02d}0000.wav",
            [
                Span(round(start, 3), round(start + length, 3), labels[int(label)], "", round(score, 4))
                for start, length, label, score in zip(
                    starts.tolist(),
                    rng.uniform(0.3, 5, n_each).tolist(),
                    (rng.uniform(0, 1, n_each) ** 2 * len(labels)).tolist(),
                    rng.uniform(0.15, 1, n_each).tolist(),
                    strict=True,
                )
            ],
            duration_s=60.0,
            rate_hz=48_000,
            channels=1,
        )
    noise = rng.standard_normal(60 * RATE_HZ).astype(np.float32) * 0.01
    tiles: tuple[Tile, ...] = tuple(spectrogram([noise], width=200, duration_s=60.0))
    report = gathering.finish()
    sounds = [Sound("x.wav", tiles, 60.0)] * n_sources
    return write_page(report, sounds, Sampling(), title="A year of recordings", made_by="Found by a test")


@pytest.fixture(scope="session")
def start_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Any]]:
    """Starts headless Chromium; its downloads go to `driver.downloads`."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium with its driver on this machine")
    started = []

    def start() -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in (
            "--headless=new",
            "--no-sandbox",  # Chromium refuses one to root, as which containers run
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--mute-audio",
            "--autoplay-policy=no-user-gesture-required",
            "--window-size=1280,900",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        made.downloads = tmp_path_factory.mktemp("downloads")
        made.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(made.downloads)}
        )
        started.append(made)
        return made

    yield start
    for one in started:
        one.quit()
