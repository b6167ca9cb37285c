"""What a run can be continued with: all that changes its results, as its user would say it.

A journal keeps these words, and a refusal shows those that differ: "--hop was 5 s, is 2 s".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dymn_cli.batch.job import Job
    from dymn_cli.batch.journal import Fingerprint
    from dymn_cli.writers import Provenance
    from dymn_cli.writers.base import OptionValue

__all__ = ["fingerprint_of"]

NOTHING, GIVEN, NOT_GIVEN = "none", "given", "not given"
UNSET = {"--exclude": NOTHING, "--specific": NOT_GIVEN, "--clock": NOT_GIVEN}  # as long as nobody sets them
EXACT = ("thresholds",)  # options whose words are rounded in what is said of a result


def fingerprint_of(job: Job, provenance: Provenance) -> Fingerprint:
    """All that changes results, by the names of the options that decide it.

    Args:
        job: what of the results is kept, and thresholds to the last digit.
        provenance: what is said of them.
    """
    command = "embed" if not job.tags else "tag" if job.events is None else "events"
    thresholds = (job.options if job.events is None else job.events).thresholds
    fingerprint: Fingerprint = {
        "dymn": provenance.version,
        "the command": f"dymn {command}",
        "--model": provenance.model.sha256,
        "--backend": provenance.model.backend,
        "--device": provenance.model.provider,
        **UNSET,
        **{_option(name): _words(name, value) for name, value in provenance.options if name not in EXACT},
        "--thresholds": ", ".join(f"{label}={score!r}" for label, score in thresholds) or NOTHING,
    }
    if command == "tag":
        fingerprint["--layout"] = "matrix" if job.keep_scores else "not matrix"
        keeps = job.keep_embedding or job.keep_window_embeddings
        fingerprint["--embed"] = GIVEN if keeps else NOT_GIVEN
    return fingerprint


def _option(name: str) -> str:
    """From "window_s" to "--window"."""
    if name == "labels":
        return "--label"
    return f"--{name.removesuffix('_s').replace('_', '-')}"


def _words(name: str, value: OptionValue) -> str:
    if isinstance(value, bool):
        return GIVEN if value else NOT_GIVEN
    if value is None or isinstance(value, tuple):
        return ", ".join(value or ()) or NOTHING
    text = str(value).removesuffix(".0")
    return f"{text} s" if name.endswith("_s") else text
