"""Clips that ship with the package, to hear what tagging does before there is a recording at hand.

    >>> from dymn_cli import Tagger
    >>> from dymn_cli.demo import demo_clips
    >>> for clip in demo_clips():
    ...     print(clip.name, Tagger().tag(clip.path).tags[0].label)

Nothing was recorded: `python -m dymn_cli.demo.synthesise` computes them and writes them anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

__all__ = ["DemoClip", "demo_clips"]


@dataclass(frozen=True, slots=True)
class DemoClip:
    """One clip, and what is to be heard in it.

    Args:
        name: one word.
        description: one line: what it is, and how it was made.
        path: the audio file, within the installed package.
        labels: AudioSet's words for it: one of them belongs on top, all of them near it.
    """

    name: str
    description: str
    path: Path
    labels: tuple[str, ...]


def demo_clips() -> tuple[DemoClip, ...]:
    """The clips that ship: music, an animal and a signal, of a few seconds each."""
    return (
        _clip(
            "guitar",
            "four chords strummed on a guitar: Karplus-Strong strings through the resonances of a body",
            ("Music", "Guitar", "Plucked string instrument"),
        ),
        _clip(
            "birdsong",
            "a songbird's phrase, sung twice: whistles between 2 and 7 kHz that glide and warble",
            ("Bird", "Chirp, tweet", "Bird vocalization, bird call, bird song"),
        ),
        _clip(
            "siren",
            "a police siren, slow then fast: a sawtooth swept from 650 to 1500 Hz through a horn",
            ("Siren", "Police car (siren)", "Emergency vehicle"),
        ),
    )


def _clip(name: str, description: str, labels: tuple[str, ...]) -> DemoClip:
    return DemoClip(name, description, Path(str(files(__name__) / f"{name}.flac")), labels)
