"""The data of a run from what the user names: recordings, split, teachers, held-out clips."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dymn_cli.datasets.audio_cache import Decoded, Kind, open_cache
from dymn_cli.datasets.audioset_hdf5 import Hdf5Clips, is_hdf5
from dymn_cli.datasets.recordings import Split, find_recordings, groups_of_manifest, named_split, split_groups
from dymn_cli.errors import InputError, UsageError
from dymn_cli.evaluation.ground_truth import match, read_ground_truth
from dymn_cli.frontend import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.train.distill.clip_scores import ClipScores, score_clips
from dymn_cli.train.distill.clips import CachedCorpus, Corpus, Hdf5Corpus
from dymn_cli.train.distill.splits import read_split
from dymn_cli.train.distill.stored_logits import StoredLogits, is_logits_file
from dymn_cli.train.distill.task import DistillContext
from dymn_cli.train.distill.teachers import LiveTeacher, load_model
from dymn_cli.train.distill.validation import ValidationSet, choose_clips
from dymn_cli.train.sampler import Sampler, label_or_best, label_weights, rarity_weights, source_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.train.distill.recipe import Recipe

__all__ = ["DataOptions", "Prepared", "TeacherSet", "load_teachers", "open_corpus", "prepare"]

Tell = Callable[[str], None]

TOLD_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Which clips, and how they are split.

    Args:
        names: files and folders of audio, or HDF5 files of AudioSet.
        cache: folder for decoded audio.
        extensions: in folders, only files that end so.
        group_by: "folder", "file", or a column of `manifest`.
        manifest: CSV of paths and groups, or None.
        labels: of the files: a table or a folder (`dymn_cli.evaluation.ground_truth`), or None.
        holdout: share of the clips that is kept out of training, or names of groups that are.
        split: file with the groups that are held out, or None.
        seed: of the split and the training.
        held_out_clips: measured at most; 0 for all.
    """

    names: tuple[str, ...]
    cache: Path
    extensions: frozenset[str] | None = None
    group_by: str = "folder"
    manifest: Path | None = None
    labels: Path | None = None
    holdout: float | tuple[str, ...] = 0.1
    split: Path | None = None
    seed: int = 0
    held_out_clips: int = 512


@dataclass(frozen=True, slots=True)
class TeacherSet:
    """The teachers: live models, stored logits, or none where labels are learned alone.

    Args:
        live: models, or None.
        stored: files of logits; empty where there are models.
        identity: what they are, for fingerprints: hashes of models, names of files.
    """

    live: LiveTeacher | None
    stored: tuple[StoredLogits, ...]
    identity: tuple[str, ...]

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes that they know."""
        return Vocabulary.audioset() if self.live is None else self.live.vocabulary


def load_teachers(
    names: Sequence[str], indexes: Sequence[str], device: torch.device, *, required: bool = True
) -> TeacherSet:
    """Load teachers by name or path.

    Args:
        names: models, or files of logits.
        indexes: of the files of logits, in their order; empty to look beside them.
        device: where models compute.
        required: whether there must be one; without any, labels are of AudioSet's classes.

    Raises:
        UsageError: none, both kinds, or classes that differ.
        ModelError: one cannot be used.
    """
    if not names and not required:
        return TeacherSet(None, (), ())
    if not names:
        raise UsageError("no teacher", hint="--teacher NAME, or a file of logits")
    files = [name for name in names if is_logits_file(name)]
    if indexes and len(indexes) != len(files):
        raise UsageError(
            f"{len(indexes)} indexes for {len(files)} files of logits", hint="--teacher-index for each"
        )
    if not files:
        models = [load_model(name, device) for name in names]
        return TeacherSet(LiveTeacher(models), (), tuple(model.sha256 for model in models))
    if len(files) < len(names):
        raise UsageError("models and files of logits cannot teach together", hint="give one kind of teachers")
    stored = tuple(
        StoredLogits.open(file, indexes[number] if indexes else None) for number, file in enumerate(files)
    )
    expected = len(Vocabulary.audioset())
    for one in stored:
        if one.n_classes != expected:
            raise UsageError(f"{one.where}: {one.n_classes} classes, AudioSet has {expected}")
    identity = tuple(f"{Path(file).name} {Path(file).stat().st_size}" for file in files)
    return TeacherSet(None, stored, identity)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Data and teachers, ready for use.

    Args:
        context: for the training loop; its sampler is empty where nothing is trained.
        teachers: who teaches.
        split: which groups are held out.
        group_by: what a group is.
        training: numbers of the clips to learn from.
        skipped: names of recordings that gave nothing, with the reason.
    """

    context: DistillContext
    teachers: TeacherSet
    split: Split
    group_by: str
    training: NDArray[np.int64]
    skipped: tuple[tuple[str, str], ...]


def open_corpus(
    options: DataOptions,
    kind: Kind,
    front_end: FrontEndConfig,
    vocabulary: Vocabulary,
    *,
    threads: int,
    decoded: Decoded,
) -> tuple[Corpus, tuple[tuple[str, str], ...]]:
    """The clips, decoded to disk if they are files, and what was skipped.

    Raises:
        InputError: there is not one clip, or none that the labels are of.
        UsageError: files and HDF5 mixed, a manifest without the wanted column, or labels of other classes.
        OutputError: the cache cannot be written.
    """
    packed = [name for name in options.names if is_hdf5(name)]
    if packed and len(packed) < len(options.names):
        raise UsageError("HDF5 files and other audio cannot be mixed", hint="give one or the other")
    if packed:
        clips = Hdf5Clips(packed, len(vocabulary))
        described = json.dumps([[Path(name).name, Path(name).stat().st_size] for name in packed])
        return Hdf5Corpus(clips, hashlib.sha256(described.encode()).hexdigest()[:16]), ()
    groups = None
    if options.group_by in ("folder", "file"):
        if options.manifest is not None:
            raise UsageError(f"{options.manifest}: no column of groups", hint="--group-by COLUMN")
    else:
        if options.manifest is None:
            raise UsageError(
                f"--group-by {options.group_by!r} is a column of a manifest", hint="--manifest FILE.csv"
            )
        groups = groups_of_manifest(options.manifest, options.group_by)
    recordings, problems = find_recordings(options.names, groups=groups, extensions=options.extensions)
    if options.group_by == "file":
        recordings = [dataclasses.replace(one, group=one.name) for one in recordings]
    cache = open_cache(
        recordings, options.cache, kind=kind, front_end=front_end, threads=threads, done=decoded
    )
    skipped = [(recordings[number].name, reason) for number, reason in cache.skipped]
    skipped += [(name, problem.message) for name, problem in problems]
    labels = known = None
    if options.labels is not None:
        labels, known = _labels(options.labels, [one.name for one in recordings], vocabulary)
    return CachedCorpus(cache, recordings, labels, known), tuple(skipped)


def _labels(
    path: Path, names: Sequence[str], vocabulary: Vocabulary
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels of recordings and which of them are known, (n, n_classes); none where it says nothing."""
    found = match(read_ground_truth(path), names, vocabulary)
    labels = np.zeros((len(names), len(vocabulary)), np.uint8)
    known = np.zeros_like(labels)
    labels[found.recordings] = found.truth
    known[found.recordings] = 1 if found.known is None else found.known
    return labels, known


def prepare(
    options: DataOptions,
    recipe: Recipe,
    teachers: TeacherSet,
    front_end: FrontEndConfig,
    device: torch.device,
    *,
    threads: int,
    tell: Tell,
    decoded: Decoded = lambda n_all, seconds: None,
    needs_training: bool = True,
) -> Prepared:
    """Open the data, split it, and compute the teachers' logits of the held-out clips.

    Raises:
        InputError: no usable clips, or none with stored logits.
        UsageError: a recipe, teachers and data that do not go together.
    """
    if recipe.mixes is not None and teachers.stored:
        raise UsageError(
            "stored logits cannot teach this recipe: it needs logits of mixes",
            hint="--recipe paper, or a model as the teacher",
        )
    others = [one for one in (teachers.live.front_ends if teachers.live else ()) if one != front_end]
    kind: Kind = "log-mels" if recipe.mixes is not None and not others else "samples"
    if recipe.mixes is not None and others:
        raise UsageError(
            "this recipe mixes log-mels, and a teacher's are not the student's",
            hint="--recipe paper mixes samples",
        )
    corpus, skipped = open_corpus(
        options, kind, front_end, teachers.vocabulary, threads=threads, decoded=decoded
    )
    rows = tuple(one.rows_of(corpus.names) for one in teachers.stored)
    usable = np.arange(len(corpus.names), dtype=np.int64)
    if not teachers.identity:
        usable = _labelled(corpus, usable, tell)
    elif needs_training and corpus.labels is None and recipe.label_weight == 1:
        raise UsageError(
            "this recipe learns from labels alone, and there are none",
            hint="--labels FILE, or AudioSet as HDF5",
        )
    for one, row in zip(teachers.stored, rows, strict=True):
        usable = usable[row[usable] >= 0]
        if not len(usable):
            raise InputError(
                f"{one.where} has logits of none of the {len(corpus.names)} clips",
                hint=f"the first clip is called {corpus.names[0]!r}",
            )
    if teachers.identity and len(usable) < len(corpus.names):
        tell(f"{len(corpus.names) - len(usable):,} of {len(corpus.names):,} clips left out: no stored logits")
    groups = [corpus.groups[int(index)] for index in usable]
    split = _split(options, groups)
    held = set(split.held_out)
    is_held = np.array([group in held for group in groups], dtype=bool)
    training, kept_out = usable[~is_held], usable[is_held]
    if needs_training and not len(training):
        raise InputError("every recording is held out: none is left to train on", hint="a smaller --holdout")
    held_out = None
    if len(kept_out):
        chosen = choose_clips(kept_out, options.held_out_clips, options.seed)
        held_out = ValidationSet(corpus, chosen, device)
        if teachers.live is not None:
            held_out.use_teacher(teachers.live, recipe.teacher_level_db)
        else:
            held_out.mels(front_end)
        if teachers.stored:
            held_out.use_stored(teachers.stored, rows)
    clip_scores = None
    if needs_training and teachers.live is not None and recipe.mixes is not None:
        clip_scores = _score_clips(corpus, teachers, front_end, recipe, options.cache, device, tell)
    context = DistillContext(
        corpus=corpus,
        sampler=Sampler(training, _weights(corpus, training, front_end, clip_scores)),
        teacher=teachers.live,
        stored=teachers.stored,
        rows=rows,
        front_end=front_end,
        recipe=recipe,
        held_out=held_out,
        seed=options.seed,
        device=device,
        clip_scores=clip_scores,
    )
    return Prepared(context, teachers, split, options.group_by, training, skipped)


def _labelled(corpus: Corpus, clips: NDArray[np.int64], tell: Tell) -> NDArray[np.int64]:
    """Those of the clips that have known labels."""
    if corpus.labels is None:
        raise UsageError(
            "no teacher, and no labels to learn instead",
            hint="--labels FILE, AudioSet as HDF5, or --teacher NAME with another recipe",
        )
    if corpus.known is None:
        return clips
    kept = clips[np.asarray(corpus.known[clips], bool).any(axis=1)]
    if len(kept) < len(clips):
        tell(f"{len(clips) - len(kept):,} of {len(clips):,} clips left out: no labels")
    return kept


def _split(options: DataOptions, groups: Sequence[str]) -> Split:
    if options.split is not None:
        return read_split(options.split, groups)
    if isinstance(options.holdout, tuple):
        return named_split(groups, options.holdout)
    return split_groups(groups, options.holdout, options.seed)


def _weights(
    corpus: Corpus, training: NDArray[np.int64], front_end: FrontEndConfig, clip_scores: ClipScores | None
) -> NDArray[np.float64]:
    """How often each of the clips to learn from is drawn."""
    if corpus.labels is not None and clip_scores is None:
        return label_weights(corpus.labels)[training]
    per_s = front_end.rate_hz / front_end.n_hop
    seconds = np.array([corpus.n_frames(int(index), front_end) for index in training]) / per_s
    weights = source_weights([corpus.groups[int(index)] for index in training], seconds)
    if clip_scores is None:
        return weights
    best = clip_scores.best_classes()
    return weights * rarity_weights(
        (best if corpus.labels is None else label_or_best(corpus.labels, best))[training]
    )


def _score_clips(
    corpus: Corpus,
    teachers: TeacherSet,
    front_end: FrontEndConfig,
    recipe: Recipe,
    folder: Path,
    device: torch.device,
    tell: Tell,
) -> ClipScores:
    """The teachers' scores of each single clip; messages tell how far they are."""
    assert teachers.live is not None
    told_at = time.monotonic()

    def progressed(n_done: int, n_all: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= TOLD_EVERY_S:
            told_at = time.monotonic()
            tell(f"teacher's scores of single clips, computed once: {n_done:,} of {n_all:,} windows")

    return score_clips(
        corpus,
        teachers.live,
        teachers.identity,
        front_end,
        folder,
        device,
        level_db=recipe.teacher_level_db,
        done=progressed,
    )
