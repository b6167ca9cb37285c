"""The checks of `dymn doctor`: one line each, whatever is broken."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dymn_cli.errors import DymnError
from dymn_cli.runtime.devices import TorchBuild, parse_device
from dymn_cli.values import bytes_text, nearest

if TYPE_CHECKING:
    from dymn_cli.demo import DemoClip
    from dymn_cli.doctor.self_test import StageTimes, Trial

__all__ = ["COLUMNS", "Check", "examine"]

COLUMNS = ("name", "state", "detail", "hint")
REQUIRED = (
    "numpy",
    "soundfile",
    "soxr",
    "onnxruntime",
    "safetensors",
    "typer",
    "rich",
    "platformdirs",
    "filelock",
    "jinja2",
)
EXTRAS = {
    "torch": "training, GPUs, a second runtime",
    "onnx": "dymn export",
    "av": "m4a, AAC, WMA, video and streams",
    "sounddevice": "the microphone of dymn listen",
    "fsspec": "recordings at URIs",
    "watchfiles": "dymn watch",
    "pyarrow": "-f parquet",
    "h5py": "AudioSet and teachers' logits in HDF5",
    "matplotlib": "dymn plot and the pictures of dymn eval",
    "usearch": "dymn search in millions of rows",
    "ray": "--engine ray: clusters",
}
VARIABLES = (
    "DYMN_MODEL",
    "DYMN_BACKEND",
    "DYMN_DEVICE",
    "DYMN_JOBS",
    "DYMN_HOME",
    "DYMN_OFFLINE",
    "DYMN_MIRROR",
    "DYMN_DEBUG",
    "DYMN_CACHE_GB",
)
REINSTALL = "pip install --force-reinstall dymn"
CLIP = "siren"
N_TOP = 5  # the expected label must be among the top tags
IMPORT_LIMIT_S = 120
TORCH_BUILD = """
import dataclasses, json, sys, torch
sys.path.insert(0, sys.argv[1])
from dymn_cli.runtime.torch import torch_build
print(json.dumps(dataclasses.asdict(torch_build())))
"""

State = Literal["ok", "absent", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    state: State
    detail: str
    hint: str | None = None


def examine(model: str, backend: str, device: str) -> tuple[list[Check], StageTimes | None]:
    """Run all checks.

    Args:
        model: name or path.
        backend: the runtime.
        device: the device.

    Returns:
        The checks, and the times of the stages of tagging; None if tagging failed.
    """
    importing = {name: _start_import(name) for name in EXTRAS}
    checks = list(_parts())
    loaded = {name: _loaded(process) for name, process in importing.items()}
    checks += [_extra(name, purpose, loaded[name]) for name, purpose in EXTRAS.items()]
    checks += [
        _guarded("cores", _cores),
        _cache(),
        _guarded("audio cache", _audio_cache),
        *_environment(),
        _guarded("weights", lambda: _weights(model)),
    ]
    trial = _try(model, backend, device)
    torch = loaded.get("torch")
    if isinstance(trial, Check):
        return [*checks, *_devices("", torch), trial], None
    kind = parse_device(device).kind
    checks += [_runtime(trial), *_devices(kind, torch), _self_test(trial, model)]
    if kind != "cpu":
        checks.append(_guarded("agreement", lambda: _agreement(trial, model)))
    return checks, trial.times


def _guarded(name: str, work: Callable[[], Check]) -> Check:
    """Run a check; any exception makes it fail, because a broken installation may break anywhere."""
    try:
        return work()
    except DymnError as error:
        return Check(name, "fail", error.message, error.hint)
    except Exception as exc:  # a broken library may raise anything
        text = " ".join([f"{type(exc).__name__}:", *str(exc).split()])
        return Check(name, "fail", text.removesuffix(":"), REINSTALL)


# ---------------------------------------------------------------------- libraries


def _parts() -> Iterator[Check]:
    from dymn_cli import __version__

    yield Check("dymn", "ok", f"{__version__} in {Path(__file__).resolve().parents[1]}")
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield Check("platform", "ok", f"{platform.system()} {platform.release()} on {platform.machine()}")
    for name in REQUIRED:
        yield _guarded(name, lambda name=name: _required(name))  # type: ignore[misc]


def _required(name: str) -> Check:
    version = _version(name)
    if version is None:
        return Check(name, "fail", "not installed", f"pip install {name}")
    importlib.import_module("dymn_cli.runtime.ort" if name == "onnxruntime" else name)
    if name == "soundfile":
        return _soundfile(version)
    if name == "onnxruntime":
        from dymn_cli.runtime.onnx import providers

        return Check(name, "ok", f"{version} with {', '.join(providers())}")
    return Check(name, "ok", version)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return _version("onnxruntime-gpu") if name == "onnxruntime" else None


def _soundfile(version: str) -> Check:
    from dymn_cli.audio.sndfile import libsndfile_version

    library = libsndfile_version()
    detail = f"{version} with libsndfile {library}"
    if library.startswith("1.0."):
        hint = (
            "install the soundfile wheel, which brings a newer one: pip install --force-reinstall soundfile"
        )
        return Check("soundfile", "warn", f"{detail}, which cannot decode MP3", hint)
    return Check("soundfile", "ok", detail)


def _start_import(name: str) -> subprocess.Popen[str] | None:
    """Import an extra in a process: it may take seconds, and an incompatible library may crash."""
    if _version(name) is None:
        return None
    code = TORCH_BUILD if name == "torch" else f"import {name}"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(Path(__file__).parents[2])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The result of importing an extra: its output, or why it failed."""

    out: str = ""
    failure: str | None = None


def _loaded(importing: subprocess.Popen[str] | None) -> _Loaded | None:
    """Wait for an extra to be imported; None if it is not installed."""
    if importing is None:
        return None
    try:
        out, err = importing.communicate(timeout=IMPORT_LIMIT_S)
    except subprocess.TimeoutExpired:
        importing.kill()
        importing.communicate()
        return _Loaded(failure=f"takes more than {IMPORT_LIMIT_S} s to load")
    if importing.returncode:
        last = next(iter(err.strip().splitlines()[-1:]), f"exit code {importing.returncode}")
        return _Loaded(failure=f"cannot be loaded: {last}")
    return _Loaded(out)


def _extra(name: str, purpose: str, loaded: _Loaded | None) -> Check:
    if loaded is None:
        return Check(name, "absent", f"not installed; for {purpose}", _how_to_get(name))
    if loaded.failure is not None:
        hint = f"only needed for {purpose}; reinstall it: {_how_to_get(name)}"
        return Check(name, "warn", f"{_version(name)} {loaded.failure}", hint)
    return Check(name, "ok", f"{_version(name)}; for {purpose}")


def _how_to_get(name: str) -> str:
    """The command that installs a library: by the extra that requires it, if there is one."""
    try:
        wanted = metadata.requires("dymn") or []
    except metadata.PackageNotFoundError:
        wanted = []
    packages: dict[str, list[str]] = {}
    for requirement in wanted:
        package, _, marker = requirement.partition(";")
        found = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if found:
            packages.setdefault(found[1], []).append(re.split(r"[^\w-]", package.strip())[0])
    # The extra of that name, else the smallest; "dev" requires all of them.
    extras = sorted(packages, key=lambda extra: (extra == "dev", extra != name, len(packages[extra])))
    extra = next((extra for extra in extras if name in packages[extra]), None)
    return f"pip install 'dymn[{extra}]'" if extra else f"pip install {name}"


def _cores() -> Check:
    from dymn_cli.cores import usable_cores

    return Check("cores", "ok", f"{usable_cores()} of {os.cpu_count()} can be used")


def _cache() -> Check:
    from dymn_cli.store.registry import cache_folder

    folder = cache_folder()
    detail = str(folder) if folder.exists() else f"{folder}, not created yet"
    return _not_writable("cache", folder) or Check("cache", "ok", detail)


def _not_writable(name: str, folder: Path) -> Check | None:
    """The warning of a folder that cannot be written, or cannot be made."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        return None
    hint = "set DYMN_HOME to a folder that you can write to"
    return Check(name, "warn", f"{folder}: {existing} is not writable", hint)


def _audio_cache() -> Check:
    """The default cache of decoded audio for training."""
    from dymn_cli.datasets.audio_cache import CLIPS_FOLDER, LIMIT_VARIABLE, cache_limit, cache_use
    from dymn_cli.store.registry import cache_folder

    folder, limit = cache_folder() / CLIPS_FOLDER, cache_limit()
    use = cache_use(folder)
    what = f"{use.n_entries:,} decoded recordings, {bytes_text(use.n_bytes)}" if use.n_entries else "empty"
    detail = f"{folder}: {what}; at most {bytes_text(limit)} ({LIMIT_VARIABLE})"
    return _not_writable("audio cache", folder) or Check("audio cache", "ok", detail)


def _environment() -> Iterator[Check]:
    given = {name: value for name, value in sorted(os.environ.items()) if name.startswith("DYMN_")}
    known = [f"{name}={value}" for name, value in given.items() if name in VARIABLES]
    yield Check("environment", "ok", ", ".join(known) or "no DYMN_ variable is set")
    for name in sorted(given.keys() - set(VARIABLES)):
        yield Check(name, "warn", "not a variable that dymn knows", nearest(name, VARIABLES, 1))


# ---------------------------------------------------------------------- model and devices


def _weights(model: str) -> Check:
    from dymn_cli.store.identity import identify
    from dymn_cli.store.registry import ModelSpec, resolve
    from dymn_cli.store.weights import read_weights

    found = resolve(model)
    if not isinstance(found, ModelSpec):
        identity = identify(found)
        size = bytes_text(identity.size_bytes)
        return Check("weights", "ok", f"{found}: {size}, SHA-256 {identity.sha256[:12]}…")
    sha256 = read_weights(found).sha256  # verified against the manifest
    size = bytes_text(found.size_bytes or 0)
    detail = f"{found.name}: {size}, SHA-256 {sha256[:12]}… verified, in {found.path.parent}"
    return Check("weights", "ok", detail)


def _try(model: str, backend: str, device: str) -> Trial | Check:
    """Run the model on a bundled clip; the failed check if that is impossible."""
    trials: list[Trial] = []

    def attempt() -> Check:
        from dymn_cli.doctor.self_test import try_clip

        trials.append(try_clip(_clip().path, model, backend=backend, device=device))
        return Check("self-test", "ok", "")

    outcome = _guarded("self-test", attempt)
    return trials[0] if trials else outcome


def _clip() -> DemoClip:
    from dymn_cli.demo import demo_clips

    return next(clip for clip in demo_clips() if clip.name == CLIP)


def _runtime(trial: Trial) -> Check:
    where = f"{trial.info.backend} on {trial.info.provider}"
    form = trial.form or ""
    if form.startswith("one-blocked-"):
        blocks = form.removeprefix("one-blocked-")
        where += f", with channels in blocks of {blocks} (fastest)"
    elif form == "one":
        where += ", in the plain form; this processor does not support the faster blocked form"
    elif trial.front_end_on_device:
        where += ", which also resamples and computes log-mels"
    return Check("runtime", "ok", where)


def _devices(in_use: str, torch: _Loaded | None) -> Iterator[Check]:
    """A check for each device to list."""
    from dymn_cli.doctor.devices import list_devices

    try:
        from dymn_cli.runtime.onnx import providers

        offered = providers()
    except Exception:  # a broken onnxruntime has its own check
        offered = ()
    build = None
    if torch is not None and torch.failure is None:
        build = TorchBuild(**json.loads(torch.out.splitlines()[-1]))
    for device in list_devices(in_use, offered, build):
        yield Check(device.kind, "ok" if device.is_available else "absent", device.detail, device.hint)


def _agreement(trial: Trial, model: str) -> Check:
    """Compare the scores of a device with those of the CPU."""
    from dymn_cli.doctor.self_test import DEVICE_TOLERANCE, try_clip

    cpu = try_clip(_clip().path, model)
    difference = float(abs(trial.scores - cpu.scores).max())
    detail = f"scores differ from the CPU's by at most {difference:.4f}"
    if difference <= DEVICE_TOLERANCE:
        return Check("agreement", "ok", detail)
    return Check("agreement", "warn", f"{detail}; {DEVICE_TOLERANCE:g} is usual", "--device cpu is exact")


def _self_test(trial: Trial, model: str) -> Check:
    clip, times = _clip(), trial.times
    took = (
        f"decode {times.decode_ms:.1f} ms, log-mel {times.log_mel_ms:.1f} ms,"
        f" model {times.model_ms:.1f} ms for 10 s"
    )
    expected = [label for label in clip.labels if label in trial.labels]
    heard = [label for label in trial.labels[:N_TOP] if label in expected]
    if not expected:
        return Check("self-test", "ok", f"runs, with its own labels: {trial.labels[0]!r} first; {took}")
    if heard:
        return Check("self-test", "ok", f"hears {heard[0]!r} in {clip.path.name}; {took}")
    detail = f"hears {', '.join(trial.labels[:3])} in {clip.path.name}, not {expected[0]}; {took}"
    return Check("self-test", "fail", detail, f"dymn models verify {model}")
