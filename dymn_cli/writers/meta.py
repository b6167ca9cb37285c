"""Provenance as JSON: in the formats that hold it, and in a file of its own beside those that do not.

    tags.csv  →  tags.csv.meta.json
    emb.npy   →  emb.meta.json

Of a share (`--shard 2/3`) it also says which one it is, `"shard": [2, 3]`; the whole has no such field. Equal
runs give equal bytes: keys are sorted and nothing of the time, the host or its folders goes in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dymn_cli.results import ModelInfo
from dymn_cli.writers.base import Provenance
from dymn_cli.writers.spelling import readable

__all__ = ["META_SCHEMA", "meta_document", "model_object"]

META_SCHEMA = "dymn.meta/1"


def model_object(model: ModelInfo) -> dict[str, Any]:
    """Who answered; an ensemble also lists its `models`."""
    document: dict[str, Any] = {
        "name": readable(model.name),
        "sha256": model.sha256,
        "backend": model.backend,
        "provider": model.provider,
    }
    if model.members:
        document["models"] = [model_object(member) for member in model.members]
    return document


def meta_document(provenance: Provenance, facts: Mapping[str, Any] | None = None) -> bytes:
    """The file that lies beside an output.

    Args:
        provenance: what made the output.
        facts: of the format itself, such as the shape of a matrix.
    """
    document = {
        "schema": META_SCHEMA,
        "dymn": provenance.version,
        "model": model_object(provenance.model),
        "options": dict(provenance.options),
        **({} if provenance.share is None else {"shard": list(provenance.share)}),
        **(facts or {}),
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, sort_keys=True, indent=2)
    return text.encode("utf-8") + b"\n"
