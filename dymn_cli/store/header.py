"""The header of a model file: everything but the tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from dymn_cli.errors import ModelError, UsageError
from dymn_cli.frontend.melbank import FRAMEWISE, FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ModelConfig
from dymn_cli.values import require_choice

__all__ = ["ModelHeader", "Purpose", "usual_front_end"]

Purpose = Literal["tags", "embeddings"]
"""What a model is for: "embeddings" if its classes are not sounds or have no names."""
FORMAT = "1"
LONGEST_REASON = 300
KNOWN_LABELS = {"audioset": Vocabulary.audioset, "audioset-strong": Vocabulary.audioset_strong}


def usual_front_end(config: ModelConfig) -> FrontEndConfig:
    """The front end of the published models of a family."""
    return FRAMEWISE if config.is_framewise else FrontEndConfig()


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """A model without its tensors."""

    name: str
    config: ModelConfig
    front_end: FrontEndConfig
    vocabulary: Vocabulary
    purpose: Purpose = "tags"

    @property
    def step_s(self) -> float:
        """Seconds between two steps of the frame logits: 0.32 at the usual hop, 0.04 in an FMN."""
        return self.config.step_frames * self.front_end.n_hop / self.front_end.rate_hz

    def to_metadata(self) -> dict[str, str]:
        """The strings for the metadata of a safetensors or ONNX file."""
        names = self.vocabulary.names
        labels = next((word for word, known in KNOWN_LABELS.items() if names == known().names), None)
        metadata = {
            "dymn.format": FORMAT,
            "dymn.name": self.name,
            "dymn.config": self.config.to_json(),
            "dymn.front_end": self.front_end.to_json(),
            "dymn.labels": labels or json.dumps(names, ensure_ascii=False),
        }
        return metadata if self.purpose == "tags" else metadata | {"dymn.purpose": self.purpose}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ModelHeader:
        """Read the metadata that `to_metadata` wrote.

        Raises:
            ModelError: an entry is missing or unreadable, or they disagree.
        """
        try:
            if metadata["dymn.format"] != FORMAT:
                raise ModelError(f"{where}: written by a newer dymn", hint="pip install --upgrade dymn")
            header = cls(
                name=metadata["dymn.name"],
                config=ModelConfig.from_json(metadata["dymn.config"]),
                front_end=FrontEndConfig.from_json(metadata["dymn.front_end"]),
                vocabulary=_vocabulary(metadata["dymn.labels"]),
                purpose=_purpose(metadata.get("dymn.purpose", "tags")),
            )
        except KeyError as exc:
            raise ModelError(f"{where}: not a dymn model: its metadata lacks {exc.args[0]}") from exc
        except (UsageError, ValueError, TypeError, OverflowError, RecursionError) as exc:
            reason = str(exc)[:LONGEST_REASON]  # it may quote the file
            raise ModelError(f"{where}: its metadata is not readable: {reason}") from exc
        if len(header.vocabulary.labels) != header.config.n_classes:
            raise ModelError(
                f"{where}: {len(header.vocabulary.labels)} labels for {header.config.n_classes} classes"
            )
        return header


def _vocabulary(text: str) -> Vocabulary:
    if text in KNOWN_LABELS:
        return KNOWN_LABELS[text]()
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError("the labels are not a list of names")
    return Vocabulary.from_names(names)


def _purpose(text: str) -> Purpose:
    require_choice("purpose", text, Purpose)
    return cast("Purpose", text)
