from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from dymn_cli.model.build import build  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.model.max_of_lines import max_of_lines  # noqa: E402


def plain(x: torch.Tensor, slopes: torch.Tensor, intercepts: torch.Tensor) -> torch.Tensor:
    lines = slopes[:, :, :, None, None] * x[:, :, None] + intercepts[:, :, :, None, None]
    return lines.amax(dim=2)


@pytest.mark.parametrize("n_lines", [1, 2, 3])
def test_value_and_gradient_are_those_of_the_definition(n_lines: int) -> None:
    generator = torch.Generator().manual_seed(n_lines)
    draw = {"generator": generator, "dtype": torch.float64}
    given = [
        torch.randn(2, 3, 4, 5, **draw),
        torch.randn(2, 3, n_lines, **draw),
        torch.randn(2, 3, n_lines, **draw),
    ]
    weight = torch.randn(2, 3, 4, 5, **draw)
    gradients = []
    for function in (max_of_lines, plain):
        tensors = [tensor.clone().requires_grad_() for tensor in given]
        y = function(*tensors)
        (y * weight).sum().backward()
        gradients.append([y.detach(), *(tensor.grad for tensor in tensors)])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    x, slopes, intercepts = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((1, 2, 3, 2), (1, 2, 2), (1, 2, 2))
    )
    assert torch.autograd.gradcheck(max_of_lines, (x, slopes, intercepts))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_inputs_of_half_precision_have_gradients_of_their_own_type(half: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, generator=generator).to(half).requires_grad_()
    slopes = torch.randn(2, 3, 2, generator=generator).requires_grad_()
    intercepts = torch.randn(2, 3, 2, generator=generator).requires_grad_()
    max_of_lines(x, slopes, intercepts).sum().backward()
    exact = x.detach().float().requires_grad_()
    plain(exact, slopes.detach(), intercepts.detach()).sum().backward()
    assert (x.grad.dtype, slopes.grad.dtype, intercepts.grad.dtype) == (half, torch.float32, torch.float32)
    assert torch.allclose(x.grad.float(), exact.grad, rtol=1e-2)


@pytest.mark.slow
def test_a_network_trains_under_autocast() -> None:
    network = build(ModelConfig(width=0.1, n_classes=3), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = network(torch.randn(2, 1, 128, 40, generator=torch.Generator().manual_seed(1)))
    logits.float().square().sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)


def test_without_gradients_nothing_is_kept() -> None:
    x = torch.randn(1, 2, 3, 4)
    slopes, intercepts = torch.randn(1, 2, 2, requires_grad=True), torch.zeros(1, 2, 2)
    with torch.no_grad():
        assert max_of_lines(x, slopes, intercepts).grad_fn is None
