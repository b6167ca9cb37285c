"""Audio tagging with Dynamic MobileNets: `Tagger` for programs, `dymn` for the shell.

    >>> from dymn_cli import Tagger
    >>> result = Tagger().tag("clip.wav")
    >>> result.tags[0].label, result.tags[0].score

Importing this package imports neither NumPy nor a runtime; they are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dymn_cli._version import __version__
from dymn_cli.errors import (
    AudioNotFoundError,
    BackendUnavailableError,
    ChecksumError,
    CorruptAudioError,
    DymnError,
    EmptyAudioError,
    InputError,
    ModelError,
    OutputError,
    PartialFailure,
    UnsafeWeightsError,
    UnsupportedAudioError,
    UsageError,
    WeightsMissingError,
)

if TYPE_CHECKING:
    from dymn_cli.results import (
        AudioInfo,
        ClipResult,
        Event,
        Failure,
        ModelInfo,
        SourceEvents,
        Tag,
        WindowScores,
        WindowTags,
    )
    from dymn_cli.tagging.event_options import EventOptions
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.tagger import Tagger

__all__ = [
    "AudioInfo",
    "AudioNotFoundError",
    "BackendUnavailableError",
    "ChecksumError",
    "ClipResult",
    "CorruptAudioError",
    "DymnError",
    "EmptyAudioError",
    "Event",
    "EventOptions",
    "Failure",
    "InputError",
    "ModelError",
    "ModelInfo",
    "OutputError",
    "PartialFailure",
    "SourceEvents",
    "Tag",
    "TagOptions",
    "Tagger",
    "UnsafeWeightsError",
    "UnsupportedAudioError",
    "UsageError",
    "WeightsMissingError",
    "WindowScores",
    "WindowTags",
    "__version__",
]

_MODULES = {
    "EventOptions": "dymn_cli.tagging.event_options",
    "TagOptions": "dymn_cli.tagging.options",
    "Tagger": "dymn_cli.tagging.tagger",
}
"""Where the names of `__all__` are that are imported on first use, if not in `dymn_cli.results`."""


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES.get(name, "dymn_cli.results")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
