"""From option groups to what the library takes, and from that to what is said of a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dymn_cli.audio.clock import Clock
    from dymn_cli.batch.job import ModelDescription
    from dymn_cli.cli.options.groups import InputOptions, SelectOptions, TimeOptions
    from dymn_cli.labels import Vocabulary
    from dymn_cli.tagging.event_options import EventOptions
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.thresholds import Thresholds
    from dymn_cli.writers import Provenance
    from dymn_cli.writers.base import OptionValue

    Options = TagOptions | EventOptions

__all__ = ["label_provenance", "provenance_of", "tag_options"]


def tag_options(
    inputs: InputOptions,
    time: TimeOptions,
    select: SelectOptions | None = None,
    *,
    thresholds: Thresholds | None = None,
    windows: bool = False,
) -> TagOptions:
    """The option groups as what the library takes.

    Args:
        inputs: which channels.
        time: how to cut.
        select: which tags are kept.
        thresholds: what the file says that `select` names.
        windows: whether the tags of each window are kept.

    Raises:
        UsageError: a value out of range.
    """
    from dymn_cli.tagging.options import TagOptions

    usual = TagOptions()
    cut = TagOptions(
        window_s=usual.window_s if time.window is None else time.window,
        hop_s=time.hop,
        pad=usual.pad if time.pad is None else time.pad,  # type: ignore[arg-type]  # checked there
        channel=inputs.channel,
        windows=windows,
        strict=inputs.strict,
    )
    if select is None:
        return cut
    return dataclasses.replace(
        cut,
        aggregate=select.aggregate,  # type: ignore[arg-type]  # likewise
        top=select.top,
        min_score=select.min_score,
        labels=tuple(select.label),
        exclude=tuple(select.exclude),
        descendants=select.descendants,
        specific=select.specific,
        thresholds=() if thresholds is None else thresholds.pairs,
    )


def provenance_of(
    facts: ModelDescription, options: TagOptions, *, per: str | None = None, clock: Clock | None = None
) -> Provenance:
    """What made the result, as far as it changes the result; no times, hosts or absolute paths."""
    from dymn_cli import __version__
    from dymn_cli.writers import Provenance

    frames = options.frames
    hop_s = options.window_s if options.hop_s is None else options.hop_s
    cut = (
        ("window_s", options.window_s if frames is None else frames.window_s),
        ("hop_s", hop_s if frames is None else frames.hop_s),
        ("pad", options.pad if frames is None else "mirror"),
        ("channel", options.channel),
        *((("strict", True),) if options.strict else ()),
        *((("clock", clock.text),) if clock is not None else ()),
    )
    if per is not None:
        return Provenance(__version__, facts.model, (*cut, ("per", per)))
    thresholds = tuple(
        f"{facts.vocabulary.find(label).name}={score:g}" for label, score in options.thresholds
    )
    select = (
        ("aggregate", options.aggregate),
        ("top", options.top),
        ("min_score", options.min_score),
        ("labels", _names(options.labels, options, facts.vocabulary)),
        ("thresholds", thresholds),
        ("windows", options.windows),
        *label_provenance(options, facts.vocabulary),
    )
    return Provenance(__version__, facts.model, (*cut, *select))


def label_provenance(options: Options, vocabulary: Vocabulary) -> Iterator[tuple[str, OptionValue]]:
    """What is said of options that drop labels, where they are set."""
    if options.exclude:
        yield "exclude", _names(options.exclude, options, vocabulary)
    if options.specific:
        yield "specific", True


def _names(labels: tuple[str, ...], options: Options, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The names of labels, with their kinds where these are asked for."""
    from dymn_cli.tagging.selection import named_labels

    return tuple(label.name for label in named_labels(labels, vocabulary, descendants=options.descendants))
