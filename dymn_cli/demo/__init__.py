"""Bundled audio clips, to try tagging without a recording of your own.

    >>> from dymn_cli import Tagger
    >>> from dymn_cli.demo import demo_clips
    >>> for clip in demo_clips():
    ...     print(clip.name, Tagger().tag(clip.path).tags[0].label)

None of them was recorded: `python -m dymn_cli.demo.synthesise` computes and writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

__all__ = ["DemoClip", "demo_clips"]


@dataclass(frozen=True, slots=True)
class DemoClip:
    """A clip, with the labels to expect.

    Args:
        name: one word.
        description: one line: what it is, and how it was made.
        path: the audio file, in the installed package.
        labels: matching AudioSet labels: one of them should be the top tag, all of them near the top.
    """

    name: str
    description: str
    path: Path
    labels: tuple[str, ...]


def demo_clips() -> tuple[DemoClip, ...]:
    """The bundled clips: music, an animal and a signal, of a few seconds each."""
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
