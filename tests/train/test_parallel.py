from __future__ import annotations

import threading

import pytest

torch = pytest.importorskip("torch")

from dymn_cli.train.parallel import DataParallelCPU, Losses, NotANumberError, shards_for  # noqa: E402


def network(dropout: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(2)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1)
    )


def loss(part: torch.Tensor, net: torch.nn.Module) -> Losses:
    error = (net(part) - part.sum(dim=1, keepdim=True)).square().mean()
    return Losses(error, {"twice": 2 * error.detach()})


def parts(n: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(12, 3, generator=torch.Generator().manual_seed(4)).chunk(n)


def expected(n: int) -> tuple[list[torch.Tensor], float, torch.nn.Module]:
    """What plain PyTorch makes of the parts one after the other."""
    net, total, gradients = network().train(), 0.0, []
    for part in parts(n):
        value = loss(part, net).total
        gradients.append(torch.autograd.grad(value, list(net.parameters())))
        total += value.item() / n
    return [torch.stack(one).mean(dim=0) for one in zip(*gradients, strict=True)], total, net


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_gradient_is_the_mean_over_the_parts(n: int) -> None:
    net = network().train()
    gradients, total, _ = expected(n)
    with DataParallelCPU(net, n) as shards:
        for _ in range(2):  # nothing of the first call is left in the second
            losses = shards.step(parts(n), loss, seed=0)
            for own, gradient in zip(net.parameters(), gradients, strict=True):
                assert torch.allclose(own.grad, gradient, atol=1e-6)
    assert losses.total.item() == pytest.approx(total)
    assert losses.parts["twice"].item() == pytest.approx(2 * total)
    assert not losses.total.requires_grad


def test_shards_see_what_the_optimizer_did() -> None:
    net = network().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with DataParallelCPU(net, 2) as shards:
        before = shards.step(parts(2), loss, seed=0).total
        optimizer.step()
        after = shards.step(parts(2), loss, seed=0).total
    assert after < before


def test_running_statistics_are_the_mean_over_the_parts() -> None:
    net = network().train()
    seen = []
    for part in parts(2):
        alone = network().train()
        alone(part)
        seen.append(alone[1])
    with DataParallelCPU(net, 2) as shards:
        shards.step(parts(2), loss, seed=0)
    for name in ("running_mean", "running_var"):
        mean = (getattr(seen[0], name) + getattr(seen[1], name)) / 2
        assert torch.allclose(getattr(net[1], name), mean)
    assert net[1].num_batches_tracked == 1


def test_parts_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def together(part: torch.Tensor, net: torch.nn.Module) -> Losses:
        meeting.wait()
        return loss(part, net)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with DataParallelCPU(network().train(), 2) as shards:
            shards.step(parts(2), together, seed=0)
    finally:
        torch.set_num_threads(before)


def test_dropout_is_drawn_from_the_seed_whatever_else_draws() -> None:
    def gradient(seed: int) -> torch.Tensor:
        net = network(0.5).train()
        torch.manual_seed(torch.seed())
        with DataParallelCPU(net, 2) as shards:
            shards.step(parts(2), loss, seed=seed)
        return net[0].weight.grad

    assert torch.equal(gradient(1), gradient(1))
    assert not torch.equal(gradient(1), gradient(2))


def test_dropout_keeps_the_share_and_the_mean() -> None:
    net = torch.nn.Sequential(torch.nn.Dropout(0.25), torch.nn.Linear(1, 1))
    seen = []

    def look(part: torch.Tensor, net: torch.nn.Module) -> Losses:
        seen.append(net[0](part))
        return Losses(net[1](part).mean(), {})

    with DataParallelCPU(net, 1) as shards:
        net.train()
        shards.step((torch.ones(20_000, 1),), look, seed=3)
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert seen[0].mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("bad", [0, 1])
def test_a_loss_that_is_no_number_leaves_the_network_alone(bad: int) -> None:
    net = network().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    broken = list(parts(2))
    broken[bad] = broken[bad] * float("nan")
    with DataParallelCPU(net, 2) as shards, pytest.raises(NotANumberError, match="nan"):
        shards.step(broken, loss, seed=0)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(value.grad is None for value in net.parameters())


def test_small_batches_are_not_divided() -> None:
    cpu = torch.device("cpu")
    assert [shards_for(n, 2, cpu) for n in (2, 4, 6, 8, 9, 16)] == [1, 1, 1, 2, 1, 2]
    assert shards_for(16, 2, torch.device("meta")) == 1
