"""Audio tagging with Dynamic MobileNets: `Tagger` for programs, `dymn` for the shell.

    >>> from dymn_cli import Tagger
    >>> result = Tagger().tag("clip.wav")
    >>> result.tags[0].label, result.tags[0].score

Importing this package imports neither NumPy nor a runtime; they are imported on first use.
"""

from __future__ import annotations

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
from dymn_cli.lazy import on_first_use

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
    **dict.fromkeys(set(__all__) - set(globals()), "dymn_cli.results"),
    "EventOptions": "dymn_cli.tagging.event_options",
    "TagOptions": "dymn_cli.tagging.options",
    "Tagger": "dymn_cli.tagging.tagger",
}
__getattr__, __dir__ = on_first_use(__name__, _MODULES)
