from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from dymn_cli.train.losses import (  # noqa: E402
    cross_entropy,
    distillation_loss,
    entropy,
    frame_loss,
    hint_loss,
)


def test_equation_8_weighs_labels_and_teacher() -> None:
    logits = torch.tensor([[0.3, -2.0], [1.0, 0.0]])
    scores = torch.tensor([[0.7, 0.1], [0.5, 0.9]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    q = torch.sigmoid(logits)

    def bce(p: torch.Tensor) -> torch.Tensor:
        return -(p * q.log() + (1 - p) * (1 - q).log()).sum(dim=1).mean()

    wanted = 0.1 * bce(labels) + 0.9 * bce(scores)
    assert torch.allclose(distillation_loss(logits, scores, labels, 0.1), wanted)
    assert torch.allclose(distillation_loss(logits, scores, None, 0.1), bce(scores))


def test_cross_entropy_is_least_at_the_teachers_scores() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    scores = torch.sigmoid(logits)
    assert torch.allclose(cross_entropy(logits, scores), entropy(scores), atol=1e-5)
    assert cross_entropy(logits + 0.1, scores) > entropy(scores)


def test_certain_scores_have_no_entropy() -> None:
    assert entropy(torch.tensor([[0.0, 1.0]])) == pytest.approx(0.0, abs=1e-5)


def test_hints_count_each_channel_by_its_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(4, 3, 8, 9, generator=generator) * torch.tensor([0.3, 1.0, 3.0]).view(1, 3, 1, 1)
    means = teacher.mean(dim=(0, 2, 3), keepdim=True).expand_as(teacher)
    assert hint_loss(teacher, teacher) == 0
    assert hint_loss(means, teacher) == pytest.approx(1.0, rel=1e-2)
    off = teacher + 0.5 * teacher.std(dim=(0, 2, 3), keepdim=True)
    assert hint_loss(off, teacher) == pytest.approx(0.25, rel=1e-2)


def test_a_silent_channel_of_the_teacher_does_no_harm() -> None:
    teacher = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    teacher[:, 0] = 0
    loss = hint_loss(teacher + 1e-3, teacher)
    assert torch.isfinite(loss)
    assert loss < 0.1


def test_frames_are_on_the_scale_of_clips() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, wanted = torch.randn(2, 5, generator=draw), torch.rand(2, 5, generator=draw)
    steps = frame_loss(logits[:, None].repeat(1, 7, 1), wanted[:, None].repeat(1, 7, 1))
    assert torch.allclose(steps, cross_entropy(logits, wanted))
