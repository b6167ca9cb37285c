"""What `tag` and `embed` have in common: from option groups to a tagger and its provenance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dymn_cli.cli.params import InputOptions, ModelOptions, SelectOptions, TimeOptions
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.tagger import Tagger
    from dymn_cli.writers import Provenance

__all__ = ["open_tagger", "provenance_of", "tag_options"]


def tag_options(
    inputs: InputOptions, time: TimeOptions, select: SelectOptions | None = None, *, windows: bool = False
) -> TagOptions:
    """The option groups as what the library takes.

    Raises:
        UsageError: a value out of range, or a file of thresholds that cannot be read.
    """
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.thresholds import read_thresholds

    cut = {"window_s": time.window, "hop_s": time.hop, "pad": time.pad, "channel": inputs.channel}
    if select is None:
        return TagOptions(**cut, windows=windows)  # type: ignore[arg-type]  # checked there
    return TagOptions(
        **cut,  # type: ignore[arg-type]  # checked there
        aggregate=select.aggregate,  # type: ignore[arg-type]  # likewise
        top=select.top,
        min_score=select.min_score,
        labels=tuple(select.label),
        thresholds=read_thresholds(select.thresholds) if select.thresholds is not None else (),
        windows=windows,
    )


def open_tagger(model: ModelOptions, options: TagOptions) -> Tagger:
    """The model that the options ask for, loaded.

    Raises:
        UsageError: an unknown model, backend or device, or an unknown label in the selection.
        ModelError: it cannot be loaded.
    """
    from dymn_cli.tagging.aggregate import Selection
    from dymn_cli.tagging.tagger import Tagger

    tagger = Tagger(
        model.model,
        backend=model.backend,
        device=model.device,
        threads=model.threads,
        batch_size=model.batch_size,
        options=options,
    )
    Selection(options, tagger.vocabulary)  # an unknown label is said before any work is done
    return tagger


def provenance_of(tagger: Tagger, *, per: str | None = None, thresholds: str | None = None) -> Provenance:
    """What made the result, as far as it changes the result; no absolute paths."""
    from dymn_cli import __version__
    from dymn_cli.writers import Provenance

    options = tagger.options
    cut = (
        ("window_s", options.window_s),
        ("hop_s", options.window_s if options.hop_s is None else options.hop_s),
        ("pad", options.pad),
        ("channel", options.channel),
    )
    if per is not None:
        return Provenance(__version__, tagger.model, (*cut, ("per", per)))
    select = (
        ("aggregate", options.aggregate),
        ("top", options.top),
        ("min_score", options.min_score),
        ("labels", tuple(tagger.vocabulary.find(label).name for label in options.labels)),
        ("thresholds", None if thresholds is None else Path(thresholds).name),
        ("windows", options.windows),
    )
    return Provenance(__version__, tagger.model, (*cut, *select))
