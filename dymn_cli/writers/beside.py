"""The names of what lies beside a file of results.

tags.csv   tags.csv.meta.json, tags.csv.failures.csv, tags.csv.warnings.csv
emb.npy    emb.meta.json, emb.index.csv, emb.npy.failures.csv, emb.npy.warnings.csv
"""

from __future__ import annotations

__all__ = ["all_beside", "failures_of", "index_of", "meta_of", "warnings_of"]

MATRIX = ".npy"


def meta_of(out: str, format_name: str | None = None) -> str:
    """What made the results; it is called otherwise beside a matrix than beside rows."""
    return f"{_stem(out) if format_name == 'npy' else out}.meta.json"


def index_of(out: str) -> str:
    """Which row of a matrix is what."""
    return f"{_stem(out)}.index.csv"


def failures_of(out: str) -> str:
    """The sources that gave nothing."""
    return f"{out}.failures.csv"


def warnings_of(out: str) -> str:
    """The sources that are damaged, and what is missing of them."""
    return f"{out}.warnings.csv"


def all_beside(out: str) -> tuple[str, ...]:
    """Every name that a run which writes `out` may use beside it, whatever the format of its results."""
    names = (meta_of(out), failures_of(out), warnings_of(out))
    return (*names, meta_of(out, "npy"), index_of(out)) if out.endswith(MATRIX) else names


def _stem(out: str) -> str:
    return out.removesuffix(MATRIX)
