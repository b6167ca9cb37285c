"""Scores that mean the same for every label: a small file beside the weights of a model.

    {"schema": "dymn.calibration/1", "model_sha256": "…",
     "slope": 1.0, "shift": 0.0,
     "classes": [{"label": "Dog", "mid": "/m/0bt9lr", "shift": 0.4, "width": 1}, ...]}

Networks are surer of some labels than of others. A calibrated score is that of the model moved on the scale
of logits, sigmoid(slope · logit(score) + shift), so that among events of a score the same share is right
whatever their label is. Labels that are not named have the common shift. `width` is the length of the median
filter that smooths a label, in steps. `python -m dymn_cli.bench.calibrate` makes the file.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.errors import ModelError, UsageError, os_error_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Vocabulary

__all__ = ["Calibration", "calibration_document", "calibration_path", "read_calibration"]

SCHEMA = "dymn.calibration/1"
SUFFIX = ".calibration.json"
TINY = 1e-12  # of a score, whose logit is still finite
WIDEST = 99  # steps of a median filter


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How scores of a model are mapped.

    Args:
        slope: factor on the scale of logits, positive.
        shifts: (n_classes,) what is added there, or () for all.
        widths: likewise, steps of a label's median filter, odd numbers.
        digest: SHA-256 of the file, "" where there is none.
    """

    slope: float
    shifts: NDArray[np.float64]
    widths: NDArray[np.int64]
    digest: str = ""

    @classmethod
    def common(cls, shift: float) -> Calibration:
        """One that moves all labels alike."""
        return cls(1.0, np.array(shift), np.array(1))

    def mapped(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated scores, (..., n_classes) in [0, 1]."""
        safe = np.clip(scores, TINY, 1 - TINY)
        return np.asarray(1 / (1 + np.exp(-self.slope * np.log(safe / (1 - safe)) - self.shifts)))


def calibration_path(weights: Path) -> Path:
    """Where the calibration of a file of weights lies."""
    return weights.with_name(weights.stem + SUFFIX)


def read_calibration(path: Path, vocabulary: Vocabulary, model_sha256: str) -> Calibration | None:
    """Read a calibration; None where there is none, or it is that of other weights.

    Raises:
        ModelError: it cannot be read, or is none.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ModelError(os_error_text(path, exc)) from exc
    try:
        document = json.loads(data)
        if document["schema"] != SCHEMA:
            raise ModelError(f"{path}: no calibration, but {str(document['schema'])[:40]}")
        if document["model_sha256"] != model_sha256:
            return None
        return _parsed(document, vocabulary, hashlib.sha256(data).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as exc:
        raise ModelError(f"{path}: not a calibration that dymn can read", hint="delete the file") from exc


def _parsed(document: Any, vocabulary: Vocabulary, digest: str) -> Calibration:
    slope = float(document["slope"])
    shifts = np.full(len(vocabulary), float(document["shift"]))
    widths = np.ones(len(vocabulary), np.int64)
    for one in document["classes"]:
        index = vocabulary.find(one.get("mid") or one["label"]).index
        shifts[index] = float(one["shift"])
        widths[index] = int(one.get("width", 1))
    right = math.isfinite(slope) and slope > 0 and bool(np.isfinite(shifts).all())
    if not right or (widths % 2 == 0).any() or (widths < 1).any() or (widths > WIDEST).any():
        raise ValueError("a number out of range")
    return Calibration(slope, shifts, widths, digest)


def calibration_document(
    calibration: Calibration,
    vocabulary: Vocabulary,
    model_sha256: str,
    *,
    common: float,
    made_with: str = "",
) -> bytes:
    """A calibration as the file has it; labels that have the common shift and no filter are left out.

    Args:
        calibration: what to write.
        vocabulary: the labels.
        model_sha256: of the weights that it belongs to.
        common: the shift of all other labels.
        made_with: how it was made, in a line.
    """
    classes = []
    for label in vocabulary:
        shift, width = float(calibration.shifts[label.index]), int(calibration.widths[label.index])
        if shift != common or width != 1:
            one: dict[str, Any] = {"label": label.name, "mid": label.mid, "shift": round(shift, 4)}
            classes.append(one | ({"width": width} if width != 1 else {}))
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "made_with": made_with,
        "model_sha256": model_sha256,
        "slope": round(calibration.slope, 4),
        "shift": round(common, 4),
    }
    head = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    rows = ",\n".join(f"    {json.dumps(one, ensure_ascii=False)}" for one in classes)
    return f'{{\n{head},\n  "classes": [\n{rows}\n  ]\n}}\n'.encode()
