"""Measure what `dymn search` and `dymn duplicates` find.

    python -m dymn_cli.bench.retrieval [SOUNDS/] [--labels FILE.csv] [--copies N] [--rows FILE.npy] [-m MODEL]

Without a folder, stretches of the demo clips are the recordings: enough to see that it works, not to judge.

Same label (--labels, a table file,label): each labelled recording is a query, and the others are ranked by
similarity, and by the raw cosine. Recordings of the query's own folder are left out, so that a source is not
found by its microphone. AP is averaged over the queries of a label, then over labels.

Copies: N recordings are copied as MP3 of 32 kbit/s, with a tenth cut off at each end, 6 dB louder and softer,
and a semitone up and down. Every second recording, with its copies, is a library that calibrates a threshold:
the lowest with one wrong pair for every ten rows. The others are another library, with its own whitening,
that tells what this threshold and the automatic one find, and the latter with a comparison of the sound of
likely pairs (see `dymn_cli.search.same_sound`). A pair is right if both are versions of one
recording, and wrong if they are not and lie in different folders; folders often hold versions of their own,
and some sounds are published in several. "shrinks" is what `dymn_cli.search.grouping` calls SHRINK, of the
first library.

Index (extra search): the share of the 20 nearest rows that the graph finds too, of --rows or of the
recordings, with each row in turn as the query, 500 at most.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.discover import find
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.datasets.label_tables import read_label_table
from dymn_cli.datasets.name_matching import pair_names
from dymn_cli.demo import demo_clips
from dymn_cli.errors import DymnError, InputError
from dymn_cli.evaluation.metrics import average_precision, curve_of
from dymn_cli.search import Index, Library, Place, open_library
from dymn_cli.search.approximate import Approximate, is_installed
from dymn_cli.search.grouping import SHARE, WRONG_EVERY, automatic_threshold, likely
from dymn_cli.search.same_sound import SAME, picture, slid
from dymn_cli.search.similarity import similarity
from dymn_cli.tagging.tagger import Tagger

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "COPIES",
    "Recording",
    "copies_found",
    "demo_recordings",
    "index_recall",
    "label_precision",
    "main",
]

MAX_S = 30.0
PICTURES = 4_000
DEMO_S = 2.0
SEMITONE = 2 ** (1 / 12)
TOP, MAX_QUERIES = 20, 500
TAIL = 0.001
"""Share of pairs from which "shrinks" is taken: rarer ones may be of a sound that was published twice."""
COPIES = ("mp3 32k", "trimmed", "+6 dB", "-6 dB", "+1 semitone", "-1 semitone")


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording, decoded.

    Args:
        name: its path.
        folder: where it lies: recordings of one folder may be of one source.
        samples: (n,) at 32 kHz.
        label: "" where none is known.
    """

    name: str
    folder: str
    samples: NDArray[np.float32]
    label: str = ""


def demo_recordings() -> list[Recording]:
    """Stretches of the demo clips; the label is the clip."""
    found = []
    for clip in demo_clips():
        samples = _read(str(clip.path))
        size = round(DEMO_S * RATE_HZ)
        for n, start in enumerate(range(0, len(samples) - size + 1, size)):
            found.append(Recording(f"{n}/{clip.name}", str(n), samples[start : start + size], clip.name))
    return found


def recordings_in(folder: Path, labels: Path | None) -> Iterator[Recording]:
    """The recordings of a folder, at most 30 s of each; those that cannot be read are left out."""
    paths = sorted(found.name for found in find([str(folder)]) if found.problem is None)
    said: Mapping[str, str] = {}
    if labels is not None:
        table = read_label_table(labels)
        rows = pair_names(table.path, paths, [row.source for row in table.rows])
        said = {
            path: table.rows[n].labels[0]
            for path, n in zip(paths, rows, strict=True)
            if n is not None and table.rows[n].labels
        }
    for path in paths:
        try:
            samples = _read(path)
        except InputError:
            continue
        yield Recording(path, str(Path(path).parent), samples, said.get(path, ""))


def _read(path: str) -> NDArray[np.float32]:
    blocks, n_samples = [], 0
    with open_audio(path) as reader:
        for block in to_mono_32k(reader):
            blocks.append(block)
            n_samples += len(block)
            if n_samples >= MAX_S * RATE_HZ:
                break
    return np.concatenate(blocks)[: round(MAX_S * RATE_HZ)]


def copy_of(samples: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """An altered copy; `kind` is one of `COPIES`."""
    if kind == "mp3 32k":
        file = io.BytesIO()
        soundfile.write(  # the lowest bit rate: 32 kbit/s
            file, samples, RATE_HZ, format="MP3", bitrate_mode="CONSTANT", compression_level=0.99
        )
        file.seek(0)
        return np.asarray(soundfile.read(file, dtype="float32")[0], np.float32)
    if kind == "trimmed":
        return samples[len(samples) // 10 : len(samples) - len(samples) // 10]
    if kind.endswith("dB"):
        gain = 2.0 if kind == "+6 dB" else 0.5
        return np.asarray(np.clip(samples * np.float32(gain), -1, 1), np.float32)
    factor = SEMITONE if kind == "+1 semitone" else 1 / SEMITONE
    return np.asarray(soxr.resample(samples, RATE_HZ * factor, RATE_HZ), np.float32)


def label_precision(
    vectors: NDArray[np.float32], labels: Sequence[str], folders: Sequence[str]
) -> tuple[float, float, int]:
    """Mean average precision by similarity, by raw cosine, and the number of queries.

    Args:
        vectors: (n, D) embeddings.
        labels: of each, or "".
        folders: of each.
    """
    index = _index(vectors)
    white = index.white(slice(None))
    raw = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    names, places = np.array(labels), np.array(folders)
    found: dict[str, list[tuple[float, float]]] = {}
    for n in np.flatnonzero(names != ""):
        others = (places != places[n]) & (names != "")
        truth = names[others] == names[n]
        if truth.any():
            both = (white[others] @ white[n], raw[others] @ raw[n])
            one, other = (average_precision(curve_of(scores, truth)) for scores in both)
            found.setdefault(str(names[n]), []).append((one, other))
    if not found:
        raise InputError("no label has recordings in two folders")
    whitened, cosine = np.mean([np.mean(pairs, axis=0) for pairs in found.values()], axis=0)
    return float(whitened), float(cosine), sum(map(len, found.values()))


def copies_found(
    vectors: NDArray[np.float32],
    copies: Mapping[str, NDArray[np.float32]],
    copied: NDArray[np.int64],
    folders: Sequence[str],
    samples_of: Callable[[str, int], NDArray[np.float32]] | None = None,
) -> Iterator[tuple[str, str]]:
    """Calibrate a threshold on half of the recordings, and say what it finds in the other half.

    Args:
        vectors: (n, D) embeddings of the recordings.
        copies: (m, D) of the copies of each kind.
        copied: (m,) which recordings they are of.
        folders: of the recordings.
        samples_of: a recording by its number, as it is ("") or copied; None compares embeddings only.
    """
    fit, test = (_Half.of(vectors, copies, copied, folders, odd) for odd in (0, 1))
    threshold = fit.quantile(fit.allowed)
    shrinks = ((1 - fit.quantile(TAIL)) / (1 - fit.quantile(SHARE))) ** (1 / np.log10(SHARE / TAIL))
    yield "copies: shrinks by", f"{shrinks:.2f}"
    yield "copies: recordings, copied", f"{test.n_rows}, {len(test.original)}"
    own = {kind: test.scores[rows] for kind, rows in test.copies.items()}
    for kind, scores in own.items():
        nearest = scores[:, : test.n_rows].argmax(axis=1)
        yield f"copies: {kind}: the original is nearest", f"{np.mean(nearest == test.original):.3f}"
    for name, least in (("calibrated", threshold), ("automatic", automatic_threshold(test.index))):
        yield f"copies: {name} threshold", f"{least:.3f}"
        for kind, scores in own.items():
            found = scores[np.arange(len(scores)), test.original] >= least
            yield f"copies: {kind}: found, {name}", f"{np.mean(found):.3f}"
        wrong = test.scores[test.wrong] >= least
        yield f"copies: wrong pairs, {name}", f"{wrong.sum()} of {len(wrong)}"
    if samples_of is None:
        return
    least = automatic_threshold(test.index)
    lowest = likely(test.index, least)
    pictures = lru_cache(PICTURES)(lambda row: picture(samples_of(*test.version(row))))

    def is_pair(row: int, other: int) -> bool:
        score = test.scores[row, other]
        if score >= least or score < lowest:
            return bool(score >= least)
        one, two = pictures(row), pictures(other)
        return one is not None and two is not None and slid(one, two) >= SAME

    for kind, rows in test.copies.items():
        n_found = sum(is_pair(*map(int, pair)) for pair in zip(rows, test.original, strict=True))
        yield f"copies: {kind}: found, automatic and by sound", f"{n_found / len(rows):.3f}"
    close = zip(*np.nonzero(test.wrong & (test.scores >= lowest)), strict=True)
    n_wrong = sum(is_pair(*map(int, pair)) for pair in close)
    yield "copies: wrong pairs, automatic and by sound", f"{n_wrong} of {test.wrong.sum()}"


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    """A library of every second recording, and of copies of some of them.

    Args:
        index: of it.
        scores: (n, n) similarities.
        wrong: (n, n) which pairs are wrong, each once.
        n_rows: recordings, which come first.
        copies: rows of each kind of copies.
        original: the row that each copy is of.
        odd: 1 if it is the half of the odd recordings.
    """

    index: Index
    scores: NDArray[np.float32]
    wrong: NDArray[np.bool_]
    n_rows: int
    copies: Mapping[str, NDArray[np.int64]]
    original: NDArray[np.int64]
    odd: int

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.float32],
        copies: Mapping[str, NDArray[np.float32]],
        copied: NDArray[np.int64],
        folders: Sequence[str],
        odd: int,
    ) -> _Half:
        chosen = copied % 2 == odd
        original = copied[chosen] // 2
        rows, n_copies = vectors[odd::2], len(original)
        index = _index(np.concatenate([rows, *(of_kind[chosen] for of_kind in copies.values())]))
        white = index.white(slice(None))
        scores = similarity(white @ white.T)
        recording = np.concatenate([np.arange(len(rows)), np.tile(original, len(copies))])
        folder = np.array(folders[odd::2])[recording]
        wrong = np.triu(folder[:, np.newaxis] != folder, 1)
        own = {kind: len(rows) + k * n_copies + np.arange(n_copies) for k, kind in enumerate(copies)}
        return cls(index, scores, wrong, len(rows), own, original, odd)

    def version(self, row: int) -> tuple[str, int]:
        """Which copy a row is, "" for none, and the number of the recording."""
        if row < self.n_rows:
            return "", 2 * row + self.odd
        kind, n = divmod(row - self.n_rows, len(self.original))
        return list(self.copies)[kind], 2 * int(self.original[n]) + self.odd

    @property
    def allowed(self) -> float:
        """Share of pairs that may be wrong: one pair for every 20 rows."""
        return 1 / (WRONG_EVERY / 2 * len(self.index))

    def quantile(self, share: float) -> float:
        """The similarity that this share of the wrong pairs exceeds."""
        return float(np.quantile(self.scores[self.wrong], 1 - share))


def index_recall(library: Library) -> Iterator[tuple[str, str]]:
    """How many of the nearest rows the graph finds, for each of its number types."""
    exact = Index(library, approximate=False)
    queries = np.linspace(0, len(exact) - 1, min(MAX_QUERIES, len(exact))).astype(np.int64)
    white = exact.white(queries)
    start = time.perf_counter()
    wanted = [set(rows.tolist()) for rows, _ in exact.nearest(white, TOP)]
    yield "index: rows", str(len(exact))
    yield "index: exact: ms a query", f"{1000 * (time.perf_counter() - start) / len(queries):.2f}"
    for values in ("i8", "f16"):
        start = time.perf_counter()
        exact.graph = Approximate.build(library, exact.whitening, values=values)
        yield f"index: {values}: rows a second built", f"{len(exact) / (time.perf_counter() - start):.0f}"
        yield f"index: {values}: bytes a row", f"{exact.graph.n_bytes / len(exact):.0f}"
        start = time.perf_counter()
        found = exact.nearest(white, TOP)
        yield f"index: {values}: ms a query", f"{1000 * (time.perf_counter() - start) / len(queries):.2f}"
        hits = [
            len(near & set(rows.tolist())) / len(near) for near, (rows, _) in zip(wanted, found, strict=True)
        ]
        yield f"index: {values}: recall at {TOP}", f"{np.mean(hits):.4f}"


def _index(vectors: NDArray[np.float32]) -> Index:
    return Index(_library(vectors), approximate=False)


def _library(vectors: NDArray[np.float32]) -> Library:
    places = [Place(str(n), "mix", 0.0, 0.0) for n in range(len(vectors))]
    return Library("the recordings", vectors, places, None)


def main(
    folder: Path | None,
    *,
    labels: Path | None = None,
    n_copies: int = 100,
    rows: str | None = None,
    model: str = "dymn04_kd",
) -> Iterator[str]:
    """Measure, and give the lines of a table: what, value.

    Raises:
        DymnError: a file cannot be read, or there are too few recordings.
    """
    given = demo_recordings() if folder is None else list(recordings_in(folder, labels))
    if len(given) < 4:
        raise InputError(f"{folder}: {len(given)} recordings, and at least 4 are needed")
    with Tagger(model) as tagger:

        def embedded(samples: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
            return np.stack([tagger.embed((one, RATE_HZ)) for one in samples])

        vectors = embedded(one.samples for one in given)
        if any(one.label for one in given):
            found = label_precision(vectors, [one.label for one in given], [one.folder for one in given])
            yield f"same label: queries\t{found[2]}"
            yield f"same label: mAP\t{found[0]:.3f}"
            yield f"same label: mAP by raw cosine\t{found[1]:.3f}"
        chosen = np.unique(np.linspace(0, len(given) - 1, min(n_copies, len(given))).astype(np.int64))
        copies = {kind: embedded(copy_of(given[n].samples, kind) for n in chosen) for kind in COPIES}

    def samples_of(kind: str, n: int) -> NDArray[np.float32]:
        return copy_of(given[n].samples, kind) if kind else given[n].samples

    folders = [one.folder for one in given]
    for what, value in copies_found(vectors, copies, chosen, folders, samples_of):
        yield f"{what}\t{value}"
    if is_installed():
        for what, value in index_recall(_library(vectors) if rows is None else open_library(rows)):
            yield f"{what}\t{value}"
    else:
        yield "index: usearch is not installed\t"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dymn_cli.bench.retrieval", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--rows")
    parser.add_argument("-m", "--model", default="dymn04_kd")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    try:
        for line in main(
            given.folder, labels=given.labels, n_copies=given.copies, rows=given.rows, model=given.model
        ):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except DymnError as error:
        sys.exit(f"{error.message} ({error.hint})" if error.hint else error.message)
