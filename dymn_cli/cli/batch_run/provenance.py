"""What the commands that analyse have in common: from option groups to the work, and its provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dymn_cli.batch.job import Job, ModelDescription
    from dymn_cli.cli.options.groups import InputOptions, ModelOptions, SelectOptions, TimeOptions
    from dymn_cli.tagging.events import EventOptions
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.thresholds import Thresholds
    from dymn_cli.writers import Provenance

__all__ = ["job_of", "provenance_of", "tag_options"]


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

    cut = {"window_s": time.window, "hop_s": time.hop, "pad": time.pad, "channel": inputs.channel}
    strict = inputs.strict
    if select is None:
        return TagOptions(**cut, windows=windows, strict=strict)  # type: ignore[arg-type]  # checked there
    return TagOptions(
        **cut,  # type: ignore[arg-type]  # checked there
        strict=strict,
        aggregate=select.aggregate,  # type: ignore[arg-type]  # likewise
        top=select.top,
        min_score=select.min_score,
        labels=tuple(select.label),
        thresholds=() if thresholds is None else thresholds.pairs,
        windows=windows,
    )


def job_of(
    model: ModelOptions,
    options: TagOptions,
    *,
    scores: bool = False,
    embeddings: str | None = None,
    events: EventOptions | None = None,
    concat: bool = False,
    tags: bool = True,
) -> Job:
    """What is to be found out of each source.

    Args:
        model: which model, and what runs it.
        options: how to cut, join and select.
        scores: whether all scores are kept, not only those of the tags.
        embeddings: "clip", "window" or "frame", where embeddings are kept.
        events: what counts as an event, where they are looked for.
        concat: see `Job`.
        tags: likewise.
    """
    from dymn_cli.batch.job import Job

    return Job(
        model.models,
        model.backend,
        model.device,
        model.batch_size,
        options,
        keep_scores=scores,
        keep_embedding=embeddings == "clip",
        keep_window_embeddings=embeddings in ("window", "frame"),
        events=events,
        concat=concat,
        tags=tags,
    )


def provenance_of(
    description: ModelDescription, options: TagOptions, *, per: str | None = None
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
    )
    if per is not None:
        return Provenance(__version__, description.model, (*cut, ("per", per)))
    thresholds = tuple(
        f"{description.vocabulary.find(label).name}={score:g}" for label, score in options.thresholds
    )
    select = (
        ("aggregate", options.aggregate),
        ("top", options.top),
        ("min_score", options.min_score),
        ("labels", tuple(dict.fromkeys(description.vocabulary.find(label).name for label in options.labels))),
        ("thresholds", thresholds),
        ("windows", options.windows),
    )
    return Provenance(__version__, description.model, (*cut, *select))
