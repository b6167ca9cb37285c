from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.cli.app import run
from dymn_cli.demo import demo_clips
from dymn_cli.results import Event

RATE_HZ = 8_000
HEADER = "source,channel,start_s,end_s,label,mid,score,mean_score,n_windows\n"
ROWS = (
    "night.wav,mix,1.0,2.0,Owl,/m/09d5_,0.9,0.5,2\n"
    "night.wav,mix,4.0,5.5,Dog,/m/0bt9lr,0.3125,0.25,2\n"
    "night.wav,mix,6.0,6.5,Owl,/m/09d5_,0.5,0.25,2\n"
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dymn(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A night with two owls and a dog, and the program in its folder."""
    monkeypatch.chdir(tmp_path)
    samples = np.random.default_rng(1).integers(-9999, 9999, 10 * RATE_HZ, np.int16)
    soundfile.write(tmp_path / "night.wav", samples, RATE_HZ)
    Path("events.csv").write_text(HEADER + ROWS)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


def clips(folder: str = "clips") -> list[str]:
    return sorted(path.name for path in Path(folder).rglob("*.wav"))


def test_the_sounds_become_files(dymn: Run) -> None:
    code, out, said = dymn("cut", "events.csv", "-o", "clips/")
    assert (code, out) == (0, "")
    assert said == "dymn: 3 clips: clips/clips.csv\n"
    assert clips() == [
        "night_000001.000_000002.000_owl.wav",
        "night_000004.000_000005.500_dog.wav",
        "night_000006.000_000006.500_owl.wav",
    ]
    whole, _ = soundfile.read("night.wav", dtype="int16")
    np.testing.assert_array_equal(
        soundfile.read(f"clips/{clips()[1]}", dtype="int16")[0], whole[32_000:44_000]
    )
    with Path("clips/clips.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert list(first.values())[:6] == ["night.wav", "1.0", "2.0", "Owl", "0.9", clips()[0]]
    assert (
        dymn("cut", "events.csv", "-o", "clips/")[2]
        == "dymn: 3 clips, 3 of them already there: clips/clips.csv\n"
    )


@pytest.mark.parametrize(
    ("options", "n_clips"),
    [
        (["-l", "owl"], 2),
        (["-l", "Animal", "--descendants", "--exclude", "Dog"], 2),
        (["-t", "0.4"], 2),
        (["--best", "1"], 2),
        (["--best", "1", "-l", "Owl"], 1),
        (["--best", "1", "--sample", "random", "--seed", "3"], 2),
        (["--sample", "confidence"], 3),
        (["--min-length", "1.2"], 1),
    ],
)
def test_only_some_are_cut(options: list[str], n_clips: int, dymn: Run) -> None:
    assert dymn("cut", "events.csv", "-o", "clips", *options)[0] == 0
    assert len(clips()) == n_clips


@pytest.mark.parametrize(("old", "new"), [("confidence", "highest"), ("balanced", "spread")])
def test_old_names_of_samples_mean_the_same(old: str, new: str, dymn: Run) -> None:
    rows = "".join(f"night.wav,{n / 10},{n / 10 + 0.1},Owl,{n / 100}\n" for n in range(90))
    Path("many.csv").write_text(f"source,start_s,end_s,label,score\n{rows}")
    arguments = ("cut", "many.csv", "--dry-run", "--best", "9", "--seed", "5", "--sample")
    assert dymn(*arguments, old) == dymn(*arguments, new)


def test_a_dry_run_prints_the_table(dymn: Run) -> None:
    code, out, _ = dymn("cut", "events.csv", "--dry-run", "--pad", "0.5", "--per-label")
    assert code == 0
    assert out.splitlines()[1] == (
        "night.wav,1.0,2.0,Owl,0.9,owl/night_000000.500_000002.500_owl.wav,mix,0.5,2.5"
    )
    assert len(out.splitlines()) == 4
    assert sorted(path.name for path in Path().iterdir()) == ["events.csv", "night.wav"]


def test_nothing_to_cut_says_why(dymn: Run) -> None:
    code, out, said = dymn("cut", "events.csv", "-o", "clips", "-l", "Dog", "-t", "0.5")
    assert (code, out) == (1, "")
    assert 'nothing to cut: no event of "Dog" passes -t 0.5; the best is 0.31 (Dog)' in said
    code, _, said = dymn("cut", "events.csv", "-o", "clips", "--min-length", "9")
    assert code == 1
    assert "3 events too short to cut" in said and "nothing to cut: all are too short" in said
    Path("empty.csv").write_text(HEADER)
    code, _, said = dymn("cut", "empty.csv", "-o", "clips")
    assert (code, "nothing to cut: the result has no event" in said) == (1, True)


def test_a_missing_recording_costs_its_own_clips(dymn: Run) -> None:
    Path("events.csv").write_text(HEADER + ROWS + ROWS.replace("night", "gone"))
    code, _, said = dymn("cut", "events.csv", "-o", "clips")
    assert code == 6
    assert "failed: gone.wav: no such recording; --audio ROOT says where recordings are" in said
    assert len(clips()) == 3
    assert Path("clips/clips.csv.failures.csv").read_text().splitlines()[1].startswith("gone.wav,")
    Path("events.csv").write_text(HEADER + ROWS.replace("night", "gone"))
    assert dymn("cut", "events.csv", "-o", "none")[0] == 3


def test_recordings_that_moved_are_found(dymn: Run) -> None:
    Path("disk/2024").mkdir(parents=True)
    Path("night.wav").rename("disk/2024/night.wav")
    assert dymn("cut", "events.csv", "-o", "clips", "--audio", "disk")[0] == 0
    assert len(clips()) == 3
    code, _, said = dymn("cut", "events.csv", "-o", "clips", "--audio", "nowhere")
    assert (code, "nowhere: no such file or folder" in said) == (3, True)


def test_labels_of_audacity_are_cut_too(dymn: Run) -> None:
    Path("night.txt").write_text("1.0\t2.0\tmy bird\n3.5\t4.0\tmy bird\n")
    assert dymn("cut", "night.txt", "-o", "clips")[0] == 0
    assert clips() == ["night_000001.000_000002.000_my-bird.wav", "night_000003.500_000004.000_my-bird.wav"]


def test_what_makes_no_sense_is_refused(dymn: Run) -> None:
    for arguments, said in (
        ([], "no folder for the clips; -o clips/"),
        (["-o", "c", "--best", "0"], "--best 0 leaves nothing to cut"),
        (["-o", "c", "--sample", "random"], "--best N"),
        (["-o", "c", "--best", "2", "--sample", "worst"], "no sample 'worst'"),
        (["-o", "c", "--pad", "-1"], "--pad -1 is not a length"),
        (["-o", "c", "-f", "xyz"], "no clips as 'xyz'"),
        (["-o", "c", "--per-label", "--mirror"], "two layouts"),
        (["-o", "c", "--max-length", "0"], "leaves nothing"),
    ):
        code, out, err = dymn("cut", "events.csv", *arguments)
        assert (code, out) == (2, ""), arguments
        assert said in err
    assert not Path("c").exists()


@pytest.mark.parametrize("track", ["night.txt", "labels.lab", "day.srt", "day.vtt"])
def test_a_track_without_a_recording_says_so(track: str, dymn: Run) -> None:
    cue = "00:00:01,000 --> 00:00:02,000\nSiren\n"
    lines = {"srt": f"1\n{cue}", "vtt": f"WEBVTT\n\n{cue.replace(',', '.')}"}
    Path(track).write_text(lines.get(track[-3:], "1.0\t2.0\tSiren\n"))
    Path("night.wav").rename("other.wav")
    code, _, said = dymn("cut", track, "-o", "clips")
    assert (code, f"failed: {track}: names no recording; --audio FILE does\n" in said) == (3, True), said
    assert dymn("cut", track, "-o", "clips", "--audio", "other.wav")[0] == 0


@pytest.mark.parametrize("name", ["jsonl", "csv"])
@pytest.mark.parametrize("windows", [[], ["--windows"]])
def test_tags_are_cut_as_their_windows(name: str, windows: list[str], dymn: Run) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 20 * RATE_HZ)
    soundfile.write("night.wav", samples, RATE_HZ)
    assert dymn("tag", "night.wav", "-k", "1", "-o", f"tags.{name}", *windows)[0] == 0
    assert dymn("cut", f"tags.{name}", "-o", "clips")[0] == 0
    lengths = [soundfile.info(f"clips/{clip}").duration for clip in clips()]
    assert lengths == ([10.0, 10.0] if windows else [20.0])


def test_events_are_cut_while_they_are_found(dymn: Run) -> None:
    siren = next(clip.path for clip in demo_clips() if clip.name == "siren")
    Path("siren.flac").write_bytes(siren.read_bytes())
    arguments = ("events", "siren.flac", "-o", "events.jsonl", "--cut", "clips")
    code, out, said = dymn(*arguments)
    assert (code, out) == (0, "")
    cut = {path.name: path.read_bytes() for path in Path("clips").iterdir()}
    assert f"dymn: {len(cut) - 1} clips: clips/clips.csv" in said
    assert len(cut) > 1
    assert dymn("cut", "events.jsonl", "-o", "again")[0] == 0
    again = {path.name: path.read_bytes() for path in Path("again").iterdir()}
    assert cut == again
    assert dymn(*arguments, "--force")[0] == 0
    code, _, said = dymn("events", "-", "--cut", "c")
    assert (code, "standard input comes once" in said) == (2, True)


@pytest.mark.slow
def test_a_run_that_goes_on_cuts_what_changed_since_again(dymn: Run) -> None:
    siren = next(clip.path for clip in demo_clips() if clip.name == "siren")
    samples, rate_hz = soundfile.read(siren)
    soundfile.write("siren.wav", samples, rate_hz)
    Path("junk.wav").write_text("junk")
    arguments = ("events", "siren.wav", "junk.wav")
    assert dymn(*arguments, "-o", "e.csv", "--cut", "clips")[0] == 6
    assert len(clips()) > 1
    soundfile.write("siren.wav", samples[: len(samples) // 2] * 0.5, rate_hz)
    code, _, said = dymn(*arguments, "-o", "e.csv", "--cut", "clips")
    assert code == 6
    assert dymn(*arguments, "-o", "f.csv", "--cut", "fresh")[0] == 6
    for clip in clips("fresh"):
        assert Path("clips", clip).read_bytes() == Path("fresh", clip).read_bytes()
    fresh, old = Path("fresh/clips.csv").read_text(), Path("clips/clips.csv").read_text()
    assert set(fresh.splitlines()) < set(old.splitlines())
    n_old = old.count("\n") - fresh.count("\n")
    assert f"clips/clips.csv also lists {n_old} outdated clip" in said


def test_clips_are_no_inputs_of_the_next_run(dymn: Run) -> None:
    siren = next(clip.path for clip in demo_clips() if clip.name == "siren")
    Path("night.wav").unlink()
    Path("siren.flac").write_bytes(siren.read_bytes())
    arguments = ("events", ".", "-l", "Siren", "-o", "e.jsonl", "--cut", "clips", "--force")
    assert dymn(*arguments)[0] == 0
    cut = {path.name: path.read_bytes() for path in Path("clips").iterdir()}
    assert len(cut) > 1
    events = Path("e.jsonl").read_bytes()
    assert dymn(*arguments)[0] == 0
    assert {path.name: path.read_bytes() for path in Path("clips").iterdir()} == cut
    assert Path("e.jsonl").read_bytes() == events
    assert dymn(*arguments, "--dry-run")[1] == "./siren.flac\n"
    code, _, said = dymn("events", "clips", "--cut", "./clips/")
    assert (code, "--cut ./clips/ is an input: its clips would be, too" in said) == (2, True)


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from dymn_cli.cli.app import run
from dymn_cli.demo import demo_clips
from dymn_cli.results import Event
sys.exit(run(["cut", "events.csv", "-o", "clips"]))
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_ends_the_run_and_leaves_whole_clips(dymn: Run) -> None:
    ran = subprocess.run([sys.executable, "-c", FULL_DISK], capture_output=True, text=True, check=False)
    assert ran.returncode == 5, ran.stderr
    assert "the disk may be full; 1 finished clip kept; run the command again to continue" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert clips() == ["night_000001.000_000002.000_owl.wav"]
    assert not [path for path in Path("clips").iterdir() if path.name.startswith(".")]
    assert dymn("cut", "events.csv", "-o", "clips")[0] == 0
    assert len(clips()) == 3


def test_an_interrupted_run_says_how_to_continue(dymn: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from dymn_cli.cutting import Cutter

    write = Cutter.write

    def interrupted(self: Cutter, event: Event) -> None:
        if self.n_clips == 2:
            raise KeyboardInterrupt
        write(self, event)

    with monkeypatch.context() as patch:
        patch.setattr(Cutter, "write", interrupted)
        code, _, said = dymn("cut", "events.csv", "-o", "clips")
    assert code == 130
    assert said.startswith("dymn: 2 finished clips kept; run the same command to continue\n")
    assert dymn("cut", "events.csv", "-o", "clips") == (
        0, "", "dymn: 3 clips, 2 of them already there: clips/clips.csv\n",
    )  # fmt: skip


def test_a_file_cannot_hold_clips(dymn: Run) -> None:
    assert dymn("cut", "events.csv", "-o", "events.csv") == (
        5, "", "dymn: error: events.csv: a file, not a folder; choose another folder\n",
    )  # fmt: skip
