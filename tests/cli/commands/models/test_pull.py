"""`dymn models pull` and `remove`, against a server on loopback; no test goes further."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest
from checkpoints import checkpoint_of
from loopback import cut, length, page, redirect, slowly, stall, status

from dymn_cli.cli.terminal.progress import Bar, Download, Lines
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store import local, registry
from dymn_cli.store.registry import model_spec

FILE = "mn01_as_mAP_298.pt"


@pytest.fixture(scope="module")
def original() -> bytes:
    """A checkpoint such as is published as mn01_as."""
    return checkpoint_of(ARCHITECTURES["mn01"])


@pytest.fixture
def no_torch(tmp_path):
    """The environment of a process in which torch cannot be imported."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "torch.py").write_text("raise ImportError('torch is blocked here')\n")
    return folder


@pytest.fixture
def pull(dymn, web, no_torch):
    """`pull("mn01_as")`: in a process of its own, without torch, from the server on loopback."""
    dymn.env["PYTHONPATH"] = f"{no_torch}:{dymn.env['PYTHONPATH']}"
    dymn.env["DYMN_MIRROR"] = web.address

    def call(*arguments, env=None):
        return dymn("models", "pull", *arguments, env=env)

    return call


@pytest.fixture
def here(tmp_path, monkeypatch, web, models):
    """`here("pull", "mn01_as")`: in this process, from the server on loopback."""
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DYMN_MIRROR", web.address)
    return models


def files_of(name: str) -> set[str]:
    folder = local.model_folder(name)
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


# ---------------------------------------------------------------------- the whole way


def test_a_model_that_was_pulled_tags_embeds_and_verifies_without_torch(
    pull, dymn, in_process, web, original, record
):
    web.serve(FILE, original)
    ran = pull("mn01_as")
    assert (ran.returncode, ran.stdout) == (0, b"")
    told, ready = ran.err.splitlines()
    assert "its hash is not known" in told
    assert re.fullmatch(r"dymn: mn01_as: ready, \d+ kB, a file without a published hash", ready)
    clip = record("a.wav", (81, 1))
    tagged = dymn("tag", clip, "-m", "mn01_as", "-k", 3)
    assert tagged.returncode == 0
    assert len(tagged.rows) == 3
    assert len(json.loads(in_process("embed", clip, "-m", "mn01_as").stdout)["embedding"]) == 96
    verified = dymn("models", "verify")
    assert [row[:2] for row in verified.rows] == [["dymn04_kd", "ok"], ["mn01_as", "ok"]]
    assert "torch is blocked here" in verified.err + verified.out or "PyTorch not asked" in verified.out
    (row,) = [row for row in in_process("models", "list").rows if row[0] == "mn01_as"]
    assert row[1] == "ready"
    assert Path(in_process("models", "path", "mn01_as").out.strip()).stat().st_size == int(row[2])
    table = dymn.terminal("models", "list", env={"NO_COLOR": "1"}).out
    assert re.search(r"^mn01_as +pulled +\d+ kB ", table, re.MULTILINE)


@pytest.mark.slow
def test_the_published_mn04_gives_its_published_scores_without_torch(pull, dymn, web, shared):
    web.serve("mn04_as_mAP_432.pt", (shared / "weights/mn04_as_mAP_432.pt").read_bytes(), cut(2_000_000))
    ran = pull("mn04_as")
    assert ran.returncode == 0, ran.err
    assert ran.err.splitlines()[-1] == "dymn: mn04_as: ready, 4.0 MB, recognised by its SHA-256"
    assert web.asked[1].range == "bytes=2000000-"
    golden = json.loads((shared / "golden/mn04_as_top10.json").read_text())
    clips = [shared / f"audio/{name}.wav" for name in golden]
    tagged = dymn("tag", *clips, "-m", "mn04_as", "-k", 10, "-f", "json")
    for result, expected in zip(json.loads(tagged.stdout), golden.values(), strict=True):
        assert [tag["label"] for tag in result["tags"]] == [label for label, _ in expected]
        scores = [tag["score"] for tag in result["tags"]]
        assert scores == pytest.approx([score for _, score in expected], abs=5e-4)
    clip = shared / "audio/metro_station-paris.wav"
    verified = dymn("models", "verify", "--clip", clip, "-f", "json")
    assert verified.returncode == 0
    (verdict,) = json.loads(verified.stdout)["models"]
    assert verdict["name"] == "mn04_as"
    assert verdict["example"]["difference"] < 5e-4
    other = dymn("models", "verify", "mn04_as", "--clip", shared / "audio/speech.wav")
    assert (other.returncode, other.rows[0][1]) == (1, "failed")


def test_a_published_model_that_is_not_here_says_how_to_get_it(in_process, record):
    ran = in_process("tag", record("a.wav", (81, 1)), "-m", "dymn20_as")
    assert (ran.returncode, ran.stdout) == (4, b"")
    assert ran.err == "dymn: error: dymn20_as is not on this machine yet; dymn models pull dymn20_as\n"


def test_a_full_disk_is_one_line_and_the_next_pull_goes_on(pull, dymn, web, original):
    web.serve(FILE, original)
    ran = dymn.shell("ulimit -f 60; dymn models pull mn01_as")  # no file of more than 60 kB
    assert ran.returncode == 5
    assert len(ran.err.splitlines()) == 1
    assert "download.partial" in ran.err
    assert "free some space" in ran.err
    assert pull("mn01_as").returncode == 0
    assert web.asked[-1].range == f"bytes={60 * 1024}-"


@pytest.fixture
def stalled(pull, dymn, web, original):
    """A pull of mn01_as in a process, which waits for more than the 200 kB that have come."""
    web.serve(FILE, original, stall(200_000))
    process = dymn.start("models", "pull", "mn01_as")
    partial = Path(dymn.env["DYMN_HOME"]) / "models/mn01_as/download.partial"
    until = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size == 200_000):
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


@pytest.mark.process
def test_ctrl_c_keeps_what_has_come(pull, stalled, web):
    stalled.send_signal(signal.SIGINT)
    _, err = stalled.communicate(timeout=60)
    assert stalled.returncode == 130
    assert b"what has come is kept" in err
    assert err.endswith(b"dymn: interrupted\n")
    assert pull("mn01_as").returncode == 0
    assert web.asked[-1].range == "bytes=200000-"


@pytest.mark.process
def test_a_killed_pull_leaves_a_part_and_no_lock(pull, stalled, web):
    stalled.kill()
    stalled.communicate(timeout=60)
    assert pull("mn01_as").returncode == 0
    assert web.asked[-1].range == "bytes=200000-"


@pytest.mark.process
def test_two_processes_at_once_fetch_it_once(pull, dymn, web, original):
    web.serve(FILE, original, slowly(0.1))
    first = dymn.start("models", "pull", "mn01_as")
    until = time.monotonic() + 60
    while not web.asked:
        assert time.monotonic() < until
        time.sleep(0.02)
    second = pull("mn01_as")
    _, err = first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert b"ready" in err
    assert "waiting for another dymn process" in second.err
    assert "already here" in second.err
    assert len(web.asked) == 1


def test_a_bar_on_a_terminal_goes_when_it_is_done(pull, dymn, web, original):
    web.serve(FILE, original, slowly(0.08))
    ran = dymn.terminal("models", "pull", "mn01_as", streams="err", env={"NO_COLOR": "1"})
    assert ran.returncode == 0
    assert "MB/s" in ran.err or "kB/s" in ran.err
    assert "━" in ran.err
    assert "ready, " in ran.err.splitlines()[-1]


# ---------------------------------------------------------------------- what may go wrong


FAULTS = {
    "404": (status(404), 4, "no such file there"),
    "a page": (page, 4, "a web page instead of a file"),
    "a circle": (redirect(f"/{FILE}"), 4, "in a circle"),
    "a local file": (redirect("file:///etc/passwd"), 4, "not followed"),
    "forbidden": (status(403), 4, "refuses"),
    "cut short and said so": (length(1000), 4, ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_leaves_no_model(here, web, original, fault):
    step, code, words = FAULTS[fault]
    web.serve(FILE, original, *[step] * 20)
    ran = here("pull", "mn01_as")
    assert (ran[0], ran[1]) == (code, "")
    *_, line = ran[2].splitlines()
    assert line.startswith("dymn: error: ")
    assert words in line
    assert files_of("mn01_as") <= {"download.partial", "download.json"}
    assert here("path", "mn01_as")[0] == 4


def test_wrong_bytes_are_refused_and_the_model_stays(here, web, original):
    web.serve(FILE, original)
    assert here("pull", "mn01_as")[0] == 0
    before = {name: (local.model_folder("mn01_as") / name).read_bytes() for name in files_of("mn01_as")}
    web.serve(FILE, checkpoint_of(ARCHITECTURES["mn01"], seed=1))
    code, _, err = here("pull", "mn01_as", "--force")
    assert code == 4
    assert "not the file that was seen first" in err
    assert {
        name: (local.model_folder("mn01_as") / name).read_bytes() for name in files_of("mn01_as")
    } == before
    assert here("verify")[0] == 0
    code, _, err = here("pull", "mn01_as", "--repin")
    assert code == 0
    assert "taken on trust" in err


def test_what_is_here_is_said_to_be(here, web, original):
    web.serve(FILE, original)
    here("pull", "mn01_as")
    code, _, err = here("pull", "mn01_as")
    assert (code, err) == (0, "dymn: mn01_as: already here (--force downloads it again)\n")


def test_an_address_of_ones_own_and_a_file_carried_by_hand(here, web, original, tmp_path, monkeypatch):
    assert here("pull", "mn01_as", "--url", web.serve("elsewhere/x.bin", original))[0] == 0
    (tmp_path / FILE).write_bytes(original)
    monkeypatch.setenv("DYMN_OFFLINE", "1")
    for source in (tmp_path / FILE, tmp_path):
        assert here("remove", "mn01_as")[0] == 0
        code, _, err = here("pull", "mn01_as", "--from", source)
        assert code == 0
        assert "the same file as when it was first seen" in err
    assert here("remove", "mn01_as")[0] == 0
    code, _, err = here("pull", "mn01_as")
    assert code == 4
    assert "DYMN_OFFLINE is set" in err
    assert len(web.asked) == 1


def test_one_that_fails_does_not_keep_the_others_from_coming(here, web, original):
    web.serve(FILE, original)
    code, _, err = here("pull", "mn02_as", "mn01_as", "mn01_as")
    assert code == 6
    assert "error: mn02_as: " in err
    assert "mn01_as: ready" in err
    assert here("pull", "mn02_as", "mn05_as")[0] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mn1_as"], "nearest: "),
        (["dymn04_kd"], "ships with dymn"),
        (["mn01_as", "mn02_as", "--url", "https://models.example/x"], "one file cannot be 2 models"),
        (["mn01_as", "mn02_as", "--from", "x.pt"], "one file cannot be 2 models"),
        (["mn01_as", "--url", "ftp://models.example/x"], "not the address of a file on the web"),
        (["mn01_as", "--url", "https://models.example/x", "--from", "x.pt"], "exclude each other"),
        ([], "missing argument"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_fetched(here, web, arguments, words):
    code, _, err = here("pull", *arguments)
    assert code == 2
    assert words in err
    assert web.asked == []


def test_quiet_is_quiet(here, web, original):
    web.serve(FILE, original)
    assert here("pull", "mn01_as", "-q") == (0, "", "")


def test_an_imagenet_model_embeds_and_does_not_tag(here, web, original, monkeypatch, tmp_path):
    import dataclasses

    real = registry.model_specs()
    config = ARCHITECTURES["mn01"].with_classes(1000)
    changed = [
        dataclasses.replace(spec, architecture="mn01", temperature=1.0) if spec.name == "dymn04_im" else spec
        for spec in real
    ]
    monkeypatch.setattr(registry, "model_specs", lambda: tuple(changed))
    web.serve("dymn04_im.pt", checkpoint_of(config))
    code, _, err = here("pull", "dymn04_im")
    assert code == 0
    assert "for embeddings and fine-tuning" in err
    assert model_spec("dymn04_im").purpose == "embeddings"


# ---------------------------------------------------------------------- remove


def test_what_is_removed_is_gone(here, web, original):
    web.serve(FILE, original)
    here("pull", "mn01_as")
    code, out, err = here("remove", "mn01_as")
    assert (code, out) == (0, "")
    assert re.fullmatch(r"dymn: mn01_as: removed, \d+ kB freed\n", err)
    assert here("path", "mn01_as")[0] == 4
    assert here("remove", "mn01_as")[0] == 4


def test_remove_takes_what_a_broken_download_left_and_a_damaged_record(here, web, original):
    web.serve(FILE, original)
    here("pull", "mn01_as")
    (local.model_folder("mn01_as") / "record.json").write_text("{")
    assert here("pull", "mn01_as")[0] == 4
    (row,) = [row for row in here("list")[1].splitlines() if row.startswith("mn01_as\t")]
    assert row.split("\t")[1] == "damaged"
    assert here("remove", "mn01_as")[0] == 0
    assert here("pull", "mn01_as")[0] == 0


@pytest.mark.parametrize("name", ["dymn04_kd", "nothing", "../x", ""])
def test_what_cannot_be_removed_is_not(here, name):
    code, _, err = here("remove", name)
    assert code == 2
    assert err.count("\n") == 1
    assert model_spec("dymn04_kd").path.is_file()


# ---------------------------------------------------------------------- how far it is


class Clock:
    """Seconds that a test sets."""

    s = 0.0

    def __call__(self) -> float:
        return self.s


def test_lines_come_now_and_then_and_say_what_is_left():
    said: list[str] = []
    clock = Clock()
    watch = Download("mn10_as", said.append, Lines(said.append), clock)
    for clock.s in range(61):
        watch.at(10_000_000 + round(clock.s) * 100_000, 20_000_000)
    assert said == [
        "mn10_as: 11.0 MB of 20.0 MB, 100 kB/s, about 90 s left",
        "mn10_as: 14.0 MB of 20.0 MB, 100 kB/s, about 60 s left",
    ]
    watch.at(5000, None)
    assert watch.line().startswith("mn10_as: 5.0 kB, ")
    watch.at(20_000_000, 20_000_000)
    assert watch.line() == "mn10_as: 20.0 MB, checking it"


def test_a_meter_for_nobody_passes_on_notes_alone():
    said: list[str] = []
    with Download("mn10_as", said.append) as watch:
        watch.at(1, 2)
        watch.note("the server answered 503")
        watch.note("mn10_as: waiting")
    assert said == ["mn10_as: the server answered 503", "mn10_as: waiting"]


def test_a_bar_that_would_flash_is_not_drawn(monkeypatch):
    def draw(self, progress):
        raise AssertionError

    monkeypatch.setattr(Bar, "_begin", draw)
    with Download("mn10_as", print, Bar(color=False)) as watch:
        watch.at(5, 10)
