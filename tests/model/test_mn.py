"""MN: the published checkpoint of width 0.4 on real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dymn_cli.errors import UsageError  # noqa: E402
from dymn_cli.model.attention import SqueezeExcitation  # noqa: E402
from dymn_cli.model.build import restore  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.model.mn import MN  # noqa: E402


@pytest.mark.parametrize("clip", ["metro_station-paris", "speech", "music", "typing"])
def test_the_published_checkpoint_answers_as_published(shared: Path, clip: str) -> None:
    model = restore(torch.load(shared / "weights" / "mn04_as_mAP_432.pt", weights_only=True))
    with np.load(shared / "golden" / "published.npz") as golden:
        mel, logits, embedding = (
            golden[f"{clip}/{what}"] for what in ("mel", "mn04_logits", "mn04_embedding")
        )
    # All log-mels but one are stored in half precision, which the answers were not made from.
    tolerance = 1e-5 if mel.dtype == np.float32 else 1e-3
    with torch.no_grad():
        found_logits, found_embedding = model(torch.from_numpy(mel.astype(np.float32))[None, None])
    assert np.abs(found_logits[0].numpy() - logits).max() < tolerance * np.abs(logits).max()
    assert np.abs(found_embedding[0].numpy() - embedding).max() < tolerance * np.abs(embedding).max()


def test_squeeze_and_excitation_sits_where_table_i_has_it() -> None:
    model = MN(ModelConfig(family="mn", width=0.4))
    excited = [
        n
        for n, stage in enumerate(model.stages)
        if any(isinstance(m, SqueezeExcitation) for m in stage.modules())
    ]
    assert excited == [4, 5, 6, 11, 12, 13, 14, 15]


def test_a_config_of_the_other_family_is_refused() -> None:
    with pytest.raises(UsageError, match="'dymn'"):
        MN(ModelConfig())
