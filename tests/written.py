"""What a writer makes of results."""

from __future__ import annotations

import io
from typing import Any

from dymn_cli.results import Failure
from dymn_cli.writers.base import Writer

__all__ = ["written"]


def written(writer: Writer[Any], *results: Any) -> bytes:
    """All that a writer writes for results and failures, from its beginning to its end."""
    writer.begin()
    for one in results:
        if isinstance(one, Failure):
            writer.fail(one)
        else:
            writer.write(one)
    writer.end()
    assert isinstance(writer.stream, io.BytesIO)
    return writer.stream.getvalue()
