from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dymn_cli.train import augment  # noqa: E402


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_roll_shifts_in_a_circle() -> None:
    samples = torch.arange(10.0).repeat(50, 1)
    rolled = augment.roll(samples, rng(), most=3)
    shifts = {int(row[0]) for row in rolled}
    assert shifts == {0, 1, 2, 3, 7, 8, 9}
    assert (rolled.sort(dim=1).values == samples).all()


def test_gain_stays_within_its_bounds() -> None:
    gains = 20 * torch.log10(augment.apply_gain(torch.ones(200, 1), rng(), most_db=7.0))
    assert gains.abs().max() <= 7.0
    assert gains.max() > 6
    assert gains.min() < -6


def test_band_limits_are_those_of_the_published_runs() -> None:
    generator = rng()
    limits = np.array([augment.band_limits(generator) for _ in range(500)])
    assert set(limits[:, 0]) == set(range(10))
    assert limits[:, 1].min() >= 14_000
    assert limits[:, 1].max() <= 16_000
    assert np.ptp(limits[:, 1]) > 1_900


def test_an_item_keeps_at_least_half_of_itself() -> None:
    partners, share = augment.mixing_partners(rng(), 1000, alpha=0.3)
    assert sorted(partners) == list(range(1000))
    assert share.min() >= 0.5
    assert share.max() <= 1.0
    assert (share > 0.9).mean() > 0.5  # Beta(0.3, 0.3) likes the ends


def test_partners_are_of_the_same_part() -> None:
    partners, share = augment.mixing_partners(rng(), 1000, alpha=0.3, parts=4)
    assert sorted(partners) == list(range(1000))
    assert (partners // 250 == np.arange(1000) // 250).all()
    assert len(share) == 1000


def test_only_a_share_of_the_items_is_mixed() -> None:
    _, share = augment.mixing_partners(rng(), 1000, alpha=2, beta=2, rate=0.5)
    assert (share == 1).mean() == pytest.approx(0.5, abs=0.05)


def test_labels_are_mixed_like_spectrograms() -> None:
    mels = torch.randn(4, 1, 3, 5)
    scores = mels.mean(dim=(1, 2, 3))[:, None]
    partners, share = augment.mixing_partners(rng(), 4, alpha=0.3)
    mixed = augment.mix_spectrograms(mels, partners, share)
    assert torch.allclose(
        mixed.mean(dim=(1, 2, 3))[:, None], augment.mix_scores(scores, partners, share), atol=1e-6
    )


def test_mixed_waveforms_have_no_mean() -> None:
    samples = torch.randn(4, 100) + 3
    partners, share = augment.mixing_partners(rng(), 4, alpha=2)
    mixed = augment.mix_waveforms(samples, partners, share)
    assert mixed.mean(dim=1).abs().max() < 1e-5
    kept = torch.from_numpy(share)[:, None]
    centred = samples - samples.mean(dim=1, keepdim=True)
    assert torch.allclose(mixed, kept * centred + (1 - kept) * centred[torch.from_numpy(partners)], atol=1e-5)


def test_stripes_are_blanked_by_the_mean() -> None:
    mels = torch.randn(8, 1, 16, 20)
    masked = augment.spec_augment(mels, rng(), most_bands=4, most_frames=6)
    changed = masked != mels
    bands, frames = changed.all(dim=3).sum(dim=2), changed.all(dim=2).sum(dim=2)
    assert bands.max() <= 4
    assert frames.max() <= 6
    assert changed.any()
    for before, after, where in zip(mels, masked, changed, strict=True):
        assert torch.allclose(after[where], before.mean().expand(int(where.sum())))
    assert (augment.spec_augment(mels, rng(), most_bands=0, most_frames=0) == mels).all()
