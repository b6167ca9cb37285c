"""What lies beside a file of results is called as the formats say, and nothing else lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dymn_cli.results import ModelInfo
from dymn_cli.writers import EmbeddingOptions, Provenance, WriterOptions, open_embeddings, open_tags
from dymn_cli.writers.beside import all_beside

MADE_BY = Provenance("1", ModelInfo("m", "0" * 64, "onnx", "cpu"), ())


@pytest.mark.parametrize("name", ["tags.csv", "tags.tsv", "emb.npy", "emb.csv", "npy"])
def test_no_file_is_written_of_which_a_run_does_not_know(tmp_path: Path, name: str) -> None:
    out = str(tmp_path / name)
    if name.startswith("emb"):
        with open_embeddings(out, name[-3:], EmbeddingOptions(provenance=MADE_BY, size=2)):
            pass
    else:
        with open_tags(out, "csv", WriterOptions(provenance=MADE_BY)):
            pass
    written = {str(path) for path in tmp_path.iterdir()} - {out}
    assert written
    assert written <= set(all_beside(out))
    assert all(os.path.dirname(path) == str(tmp_path) for path in all_beside(out))  # noqa: PTH120
