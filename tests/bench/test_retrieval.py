"""What the measures of retrieval are, on embeddings and sounds whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from dymn_cli.bench.retrieval import (
    COPIES,
    copies_found,
    copy_of,
    demo_recordings,
    index_recall,
    label_precision,
)
from dymn_cli.errors import InputError
from dymn_cli.search import Library, Place

RATE_HZ = 32_000


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32) + 2


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_altered_and_no_more(kind: str) -> None:
    sine = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    copy = copy_of(sine, kind)
    assert copy.dtype == np.float32
    hertz = np.abs(np.fft.rfft(copy * np.hanning(len(copy)))).argmax() * RATE_HZ / len(copy)
    wanted = {"+1 semitone": 1059.5, "-1 semitone": 943.9}.get(kind, 1000)
    assert hertz == pytest.approx(wanted, abs=2)
    peak = {"+6 dB": 0.6, "-6 dB": 0.15}.get(kind, 0.3)
    assert np.abs(copy[2000:-2000]).max() == pytest.approx(peak, rel=0.05)


def test_recordings_of_the_own_folder_do_not_count(vectors: np.ndarray) -> None:
    labels = ["dog" if n % 2 else "cat" for n in range(60)]
    folders = [str(n // 4) for n in range(60)]
    by_chance, _, n_queries = label_precision(vectors, labels, folders)
    assert n_queries == 60
    assert 0.4 < by_chance < 0.65
    alike = vectors.copy()
    alike += (
        np.repeat(np.random.default_rng(1).normal(size=(15, 16)), 4, axis=0) * 2
    )  # a folder has its sound
    alike[1::2, 0] += 20
    assert label_precision(alike, labels, folders)[0] > 0.9
    with pytest.raises(InputError, match="two folders"):
        label_precision(vectors, labels, ["one"] * 60)


def test_copies_are_judged_on_the_half_that_did_not_calibrate() -> None:
    random = np.random.default_rng(2)
    vectors = random.normal(size=(400, 16)).astype(np.float32) + 2
    copied = np.arange(0, 400, 5)
    copies = {"near": vectors[copied] + 0.01, "far": random.normal(size=(80, 16)).astype(np.float32) + 2}
    copies["far"][copied % 2 == 0] = vectors[copied[copied % 2 == 0]]  # a copy where it calibrates only
    found = dict(copies_found(vectors, copies, copied, [str(n) for n in range(400)]))
    assert found["copies: recordings, copied"] == "200, 40"
    assert (
        found["copies: near: the original is nearest"] == found["copies: near: found, automatic"] == "1.000"
    )
    assert float(found["copies: far: found, calibrated"]) < 0.1
    n_wrong, _, n_pairs = found["copies: wrong pairs, calibrated"].partition(" of ")
    assert 0 < int(n_wrong) / int(n_pairs) < 5 / (5 * 280)


def test_recall_is_measured_against_an_exact_search(vectors: np.ndarray) -> None:
    pytest.importorskip("usearch.index")
    places = [Place(str(n), "mix", 0.0, 1.0) for n in range(60)]
    found = dict(index_recall(Library("lib", vectors, places, None)))
    assert found["index: i8: recall at 20"] == found["index: f16: recall at 20"] == "1.0000"
    assert int(found["index: i8: bytes a row"]) < int(found["index: f16: bytes a row"])


def test_the_demo_clips_are_recordings() -> None:
    recordings = demo_recordings()
    assert {one.label for one in recordings} == {"birdsong", "guitar", "siren"}
    assert len(recordings) >= 6
