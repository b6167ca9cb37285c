"""Named models: those of the manifest, `weights/models.toml`, and those that the user added.

The folder `weights/` is part of the wheel (as `dymn_cli/weights`); in a checkout, also with an editable
install, it is beside the package. A model of the manifest is

* bundled: a file in that folder with a known SHA-256, or
* published: a checkpoint on the web, which `dymn models pull` fetches and converts.

Pulled models and the user's own are in the local store (`dymn_cli.store.local`), with the SHA-256 that their
file had when it was installed. Any other model is given by its path.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urljoin

from dymn_cli.errors import ChecksumError, ModelError, UsageError, WeightsMissingError
from dymn_cli.store import local
from dymn_cli.store.identity import identify
from dymn_cli.store.local import cache_folder
from dymn_cli.values import counted

if TYPE_CHECKING:
    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.model.config import ModelConfig

__all__ = [
    "DEFAULT_MODEL",
    "LARGEST_MODEL",
    "PATH_SUFFIXES",
    "Checkpoint",
    "Example",
    "Figure",
    "ModelSpec",
    "cache_folder",
    "known_names",
    "known_specs",
    "model_spec",
    "model_specs",
    "require_file",
    "resolve",
    "weights_folder",
]

DEFAULT_MODEL = "dymn04_kd"
MANIFEST = "models.toml"
LARGEST_MODEL = 4 << 30  # bytes; the largest published checkpoint, optimiser included, has 0.8 GB
PATH_SUFFIXES = (".safetensors", ".onnx", ".pt", ".pth", ".ckpt")
REINSTALL = "reinstall: pip install --force-reinstall dymn"


Measure = Literal["mAP", "PSDS1"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A published figure in percent: "mAP" on the evaluation set of AudioSet, "PSDS1" on AudioSet Strong's.

    `source` is "paper" (average over runs), "README" (of the release) or "file name" (of the checkpoint).
    """

    value: float
    source: str
    measure: Measure = "mAP"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published file; hashes and size are None if they are not known.

    Args:
        file: its name.
        url: where it is published.
        sha256: of the file.
        git_blob: git's hash of it, see `dymn_cli.store.identity`.
        size_bytes: of the file.
    """

    file: str
    url: str
    sha256: str | None = None
    git_blob: str | None = None
    size_bytes: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether a hash of the file is known."""
        return self.sha256 is not None or self.git_blob is not None


@dataclass(frozen=True, slots=True)
class Example:
    """Scores that were published for the example clip of the release, `metro_station-paris.wav`.

    Args:
        source: who published them, and how they were computed.
        tolerance: largest difference to expect.
        scores: (label, score), best first.
    """

    source: str
    tolerance: float
    scores: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A named model.

    Args:
        name: what `-m` takes.
        architecture: name in `dymn_cli.model.config.ARCHITECTURES`; "custom" for others of the user's.
        parameters: number of trained values.
        macs: multiply-accumulates for 10 s of audio.
        embedding_size: values in an embedding.
        temperature: of the Dy-Conv attention at inference; 1 for static models.
        licence: SPDX expression.
        source: who trained it, from what.
        summary: one line for lists.
        n_classes: outputs of the network.
        purpose: "tags", or "embeddings" if the classes are not sounds.
        hop_ms: hop of its log-mel.
        n_mels: mel bands.
        frame_head: whether it has a head for frame logits.
        file: name of its file in its folder; "" if it has not been pulled.
        sha256: of that file; "" if it has not been pulled.
        size_bytes: of that file; None if it has not been pulled.
        figures: its published mAP or PSDS1.
        checkpoint: what it is pulled from; None for bundled and own models.
        example: published scores of the example clip.
        origin: "bundled" with dymn, "published" elsewhere, or the user's "own".
    """

    name: str
    architecture: str
    parameters: int
    macs: int
    embedding_size: int
    temperature: float
    licence: str
    source: str
    summary: str
    n_classes: int = 527
    purpose: Literal["tags", "embeddings"] = "tags"
    hop_ms: int = 10
    n_mels: int = 128
    frame_head: bool = False
    file: str = ""
    sha256: str = ""
    size_bytes: int | None = None
    figures: tuple[Figure, ...] = ()
    checkpoint: Checkpoint | None = None
    example: Example | None = None
    origin: Literal["bundled", "published", "own"] = "bundled"

    @property
    def path(self) -> Path:
        """Where its file should be; unchecked."""
        folder = weights_folder() if self.origin == "bundled" else local.model_folder(self.name)
        return folder / self.file

    @property
    def is_there(self) -> bool:
        """Whether its file exists; its content is checked when it is loaded."""
        return bool(self.file) and self.path.is_file()

    @property
    def remedy(self) -> str:
        """What to do if its file is missing or damaged."""
        if self.origin == "bundled":
            return REINSTALL
        if self.origin == "published":
            return f"dymn models pull {self.name}"
        return f"dymn models remove {self.name}, then convert or import it again"

    @property
    def config(self) -> ModelConfig:
        """The network of a model of the manifest."""
        from dymn_cli.model.config import ARCHITECTURES

        plain = ARCHITECTURES[self.architecture].with_classes(self.n_classes)
        return dataclasses.replace(plain, temperature=self.temperature, frame_head=self.frame_head)

    @property
    def front_end(self) -> FrontEndConfig:
        """The front end of a model of the manifest."""
        from dymn_cli.store.header import usual_front_end  # needs NumPy, which `dymn models list` does not

        usual = usual_front_end(self.config)
        return dataclasses.replace(usual, n_hop=self.hop_ms * usual.rate_hz // 1000, n_mels=self.n_mels)


@cache
def weights_folder() -> Path:
    """The folder of weights: in an installed package, or beside it in a checkout.

    Raises:
        WeightsMissingError: there is none; the installation is broken.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "weights", package.parent / "weights"):
        if (folder / MANIFEST).is_file():
            return folder
    raise WeightsMissingError("this installation has no folder of weights", hint=REINSTALL)


@cache
def model_specs() -> tuple[ModelSpec, ...]:
    """All models of the manifest, in its order, pulled or not.

    Raises:
        WeightsMissingError: the manifest is missing or not readable.
    """
    path = weights_folder() / MANIFEST
    try:
        manifest = tomllib.loads(path.read_text("utf-8"))
        return tuple(_spec(table, manifest.get("release", "")) for table in manifest["model"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise WeightsMissingError(f"{path}: not a readable manifest: {exc}") from exc


def _spec(table: dict[str, Any], release: str) -> ModelSpec:
    fields = dict(table)
    figures = tuple(
        Figure(**figure, measure=measure)
        for measure in get_args(Measure)
        for figure in fields.pop(measure, ())
    )
    example = fields.pop("example", None)
    if example is not None:
        fields["example"] = Example(**{**example, "scores": tuple(example["scores"].items())})
    if (checkpoint := fields.pop("checkpoint", None)) is None:
        return ModelSpec(**fields, figures=figures)
    release = fields.pop("release", release)
    found = Checkpoint(url=urljoin(release, checkpoint["file"]), **checkpoint)
    return ModelSpec(**fields, figures=figures, checkpoint=found, origin="published")


def known_names() -> tuple[str, ...]:
    """Every name: those of the manifest, then the user's own.

    Raises:
        WeightsMissingError: the manifest is missing or not readable.
    """
    return tuple(dict.fromkeys([*(spec.name for spec in model_specs()), *local.own_names()]))


def known_specs() -> tuple[ModelSpec, ...]:
    """All named models; one with a damaged record counts as not pulled.

    Raises:
        WeightsMissingError: the manifest is missing or not readable.
    """
    manifest = {spec.name: spec for spec in model_specs()}
    specs = []
    for name in known_names():
        try:
            record = local.record_of(name)
        except ModelError:
            record = None
        if name in manifest:
            specs.append(_merged(manifest[name], record))
        elif record is not None:
            specs.append(_own(record))
    return tuple(specs)


def _merged(spec: ModelSpec, record: local.Record | None) -> ModelSpec:
    """A model of the manifest, with its file in the store."""
    if record is None or spec.origin == "bundled":
        return spec
    if record.origin == "own":  # added before the manifest had that name
        return _own(record)
    return dataclasses.replace(spec, file=record.file, sha256=record.sha256, size_bytes=record.size_bytes)


def _own(record: local.Record) -> ModelSpec:
    return ModelSpec(
        name=record.name,
        architecture=record.architecture,
        parameters=record.parameters,
        macs=record.macs,
        embedding_size=record.embedding_size,
        temperature=record.temperature,
        licence="",
        source=record.checkpoint_from,
        summary=f"your own, {counted(record.n_classes, 'class')}",
        n_classes=record.n_classes,
        purpose="embeddings" if record.purpose == "embeddings" else "tags",
        hop_ms=record.hop_ms,
        n_mels=record.n_mels,
        file=record.file,
        sha256=record.sha256,
        size_bytes=record.size_bytes,
        origin="own",
    )


def model_spec(name: str) -> ModelSpec:
    """The model of that name, pulled or not.

    Raises:
        UsageError: there is none; the hint names the nearest.
        ModelError: its record in the store is damaged.
    """
    spec = next((spec for spec in model_specs() if spec.name == name), None)
    record = None if spec is not None and spec.origin == "bundled" else local.record_of(name)
    if spec is not None:
        return _merged(spec, record)
    if record is not None:
        return _own(record)
    names = known_names()
    near = ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:3])
    raise UsageError(f"no model is called {name!r}", hint=f"nearest: {near}; all: dymn models list")


def resolve(name_or_path: str) -> ModelSpec | Path:
    """Find a model by name, or a file by path: a known suffix or a slash makes it a path.

    For a named ONNX file the result is its path, after its hash has been checked.

    Raises:
        UsageError: no model of that name.
        WeightsMissingError: no file at that path, or no permission to look for it; or the model has to be
            pulled first.
        ChecksumError: a named ONNX file has changed.
        ModelError: the record in the store is damaged.
    """
    path = Path(name_or_path)
    if path.suffix in PATH_SUFFIXES or len(path.parts) > 1:
        require_file(path, hint="named models: dymn models list")
        return path
    try:
        spec = model_spec(name_or_path)
    except UsageError as error:
        suffixes = f"{', '.join(PATH_SUFFIXES[:-1])} or {PATH_SUFFIXES[-1]}"
        raise UsageError(error.message, hint=f"{error.hint}; or the path of a {suffixes} file") from error
    if not spec.file:
        raise WeightsMissingError(f"{spec.name} is not on this machine yet", hint=spec.remedy)
    if not spec.path.is_file():
        raise WeightsMissingError(f"the weights of {spec.name} are missing: {spec.file}", hint=spec.remedy)
    if spec.path.suffix == ".onnx":
        sha256 = identify(spec.path).sha256
        if sha256 != spec.sha256:
            raise ChecksumError(
                f"{spec.name}: SHA-256 is {sha256[:12]}…, it was {spec.sha256[:12]}… when it was imported",
                hint=spec.remedy,
            )
        return spec.path
    return spec


def require_file(path: Path, *, hint: str | None = None) -> None:
    """Require a file of a possible size at a path; its content is not checked.

    Raises:
        WeightsMissingError: there is none (with the hint), or no permission to look for it.
        ModelError: it is too large for a model.
    """
    reason = "no such file"
    try:
        if path.is_file():
            if path.stat().st_size > LARGEST_MODEL:
                raise ModelError(f"{path}: larger than {LARGEST_MODEL >> 30} GB, too large for a model")
            return
        if path.is_dir():
            reason = "a folder, not a model"
    except PermissionError as exc:
        raise WeightsMissingError(f"{path}: no permission to look for it") from exc
    except OSError:  # a name that is too long
        pass
    raise WeightsMissingError(f"{path}: {reason}", hint=hint)
