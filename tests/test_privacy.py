"""Nothing leaves the machine, and no file appears but results: on the real process, with a trap as the proxy.

Libraries that speak HTTP ask the proxy of the environment first. So the proxy is a server of ours, which
answers nobody and remembers who came.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
LISTEN_S = 13.0  # onnxruntime 1.32 first sent its events after nine

TAG_AND_STAY = f"""
import sys, time
from dymn_cli import Tagger

with Tagger() as tagger:
    tagger.tag(sys.argv[1])
    time.sleep({LISTEN_S})
"""


class Trap:
    """A proxy that answers nobody."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._server.accept()
            except OSError:
                return
            with visitor:
                self.heard.append(visitor.recv(200))

    def close(self) -> None:
        self._server.close()


class Place:
    """A clip, and home and temporary folders that begin empty."""

    def __init__(self, folder: Path, repository: Path, trap: Trap) -> None:
        self.folder = folder
        self.clip = folder / "clip.wav"
        noise = np.random.default_rng(6).uniform(-0.3, 0.3, 10 * 32_000)
        soundfile.write(self.clip, noise, 32_000)
        self.homes = {name: folder / name.lower() for name in ("HOME", "TMPDIR", "DYMN_HOME")}
        for home in self.homes.values():
            home.mkdir()
        # Not ORT_DISABLE_TELEMETRY of this suite: the program has to see to that.
        kept = {k: v for k, v in os.environ.items() if k.lower() != "no_proxy" and not k.startswith("ORT_")}
        self.env = kept | {name: str(path) for name, path in self.homes.items()}
        self.env |= dict.fromkeys(PROXIES, trap.url) | {"PYTHONPATH": str(repository)}

    def left(self) -> list[str]:
        """What lies in the home and temporary folders."""
        return [str(path) for home in self.homes.values() for path in home.rglob("*")]


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


@pytest.fixture
def place(tmp_path: Path, repository: Path, trap: Trap) -> Place:
    return Place(tmp_path, repository, trap)


@pytest.fixture(scope="module")
def stays(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, trap: Trap
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that tags and stays for a while, watched by strace where that is there; others may go on."""
    place = Place(tmp_path_factory.mktemp("stays"), repository, trap)
    log = place.folder / "network"
    strace = shutil.which("strace")
    watched = [strace, "-f", "-qq", "-e", "trace=network", "-o", str(log)] if strace else []
    command = [*watched, sys.executable, "-c", TAG_AND_STAY, str(place.clip)]
    with subprocess.Popen(command, env=place.env, stderr=subprocess.PIPE) as process:
        process.log = log if strace else None  # type: ignore[attr-defined]
        yield process
        process.kill()


@pytest.mark.parametrize(
    "arguments",
    [
        ("tag",),
        ("tag", "-j", "2", "--limit-per-file", "60"),  # in a process of its own
        pytest.param(("tag", "--backend", "torch"), marks=pytest.mark.slow),
        ("embed",),
        ("events",),
        ("info",),
    ],
    ids=" ".join,
)
def test_a_run_leaves_no_file_but_its_result(place: Place, trap: Trap, arguments: tuple[str, ...]) -> None:
    if "torch" in arguments:
        pytest.importorskip("torch")
    subprocess.run(
        [sys.executable, "-m", "dymn_cli", *arguments, str(place.clip)],
        env=place.env,
        cwd=place.folder,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )
    assert place.left() == []
    assert sorted(path.name for path in place.folder.iterdir()) == ["clip.wav", "dymn_home", "home", "tmpdir"]
    assert trap.heard == []


@pytest.mark.slow
def test_the_self_test_of_the_installation_leaves_none_either(place: Place, trap: Trap) -> None:
    subprocess.run(
        [sys.executable, "-m", "dymn_cli", "doctor"],
        env=place.env,
        cwd=place.folder,
        stdout=subprocess.DEVNULL,
        timeout=120,
        check=False,  # what it finds does not matter here
    )
    assert [path for path in place.left() if "Microsoft" in path or ".ses" in path] == []
    assert trap.heard == []


def test_the_runtime_writes_through_no_link_in_the_temporary_folder(place: Place) -> None:
    precious = place.folder / "precious"
    precious.write_text("mine")
    (place.homes["TMPDIR"] / ".ses").symlink_to(precious)
    command = [sys.executable, "-m", "dymn_cli", "tag", str(place.clip)]
    subprocess.run(command, env=place.env, stdout=subprocess.DEVNULL, check=True, timeout=120)
    assert precious.read_text() == "mine"


@pytest.mark.process
def test_a_process_that_stays_speaks_to_nobody(stays: subprocess.Popen[bytes], trap: Trap) -> None:
    _, errors = stays.communicate(timeout=LISTEN_S + 120)
    assert stays.returncode == 0, errors.decode()
    assert trap.heard == []
    log: Path | None = stays.log  # type: ignore[attr-defined]
    if log is not None:
        calls = log.read_text()
        assert re.findall(r".*\b(?:connect|sendto|sendmsg)\(.*AF_INET.*", calls) == []
