from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from dymn_cli.errors import ChecksumError, ModelError, UnsafeWeightsError, WeightsMissingError  # noqa: E402
from dymn_cli.train.ema import Average  # noqa: E402
from dymn_cli.train.loop import LoopPlan, Losses, StepReport, train  # noqa: E402
from dymn_cli.train.schedule import RateSchedule  # noqa: E402
from dymn_cli.train.state import TrainState, read_state, restore_state, save_state  # noqa: E402


class Fitting:
    """A small network with dropout and batch normalisation learns a fixed one."""

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        stop_at: int | None = None,
        nan_at: int | None = None,
        shards: int = 1,
    ) -> None:
        self.model, self._stop_at, self._nan_at, self.shards = model, stop_at, nan_at, shards
        self.asked: list[int] = []

    def batch(self, step: int) -> torch.Tensor:
        return torch.randn(16, 4, generator=torch.Generator().manual_seed(step))

    def parts(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return batch.chunk(self.shards)

    def loss(self, batch: torch.Tensor, step: int, network: torch.nn.Module) -> Losses:
        error = (network(batch) - batch.sum(dim=1, keepdim=True)).square().mean()
        if step == self._nan_at:
            error = error * float("nan")
        return Losses(error, {"half": error.detach() / 2})

    def evaluate(self, state: TrainState) -> tuple[dict[str, float], bool]:
        self.asked.append(state.step)
        state.notes["asked"] = state.notes.get("asked", 0) + 1
        return {"step": float(state.step)}, state.step == self._stop_at


class Watch:
    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.measured: list[float] = []

    def step(self, report: StepReport) -> None:
        self.reports.append(report)

    def evaluated(self, report: StepReport, measures: Mapping[str, float]) -> None:
        self.measured.append(measures["step"])


def fresh() -> TrainState:
    torch.manual_seed(5)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    return TrainState(model, optimizer, Average(model, 0.9))


PLAN = LoopPlan(n_steps=40, rates=RateSchedule("cosine", 2e-2), batch_size=16, seed=3, evaluations=4)


def run(state: TrainState, plan: LoopPlan = PLAN, **settings: object) -> tuple[str, Watch, Fitting]:
    task, watch = Fitting(state.model, **settings), Watch()
    return train(task, state, plan, watch=watch, save=lambda state: None), watch, task


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.items())


def test_the_loss_falls_and_the_rates_follow_the_schedule() -> None:
    ended, watch, _ = run(fresh())
    assert ended == "finished"
    assert watch.reports[-1].losses["loss"] < 0.5 * watch.reports[0].losses["loss"]
    assert watch.reports[-1].losses["half"] == pytest.approx(watch.reports[-1].losses["loss"] / 2)
    assert [report.rate for report in watch.reports] == [PLAN.rates.at(n / 40) for n in range(40)]
    assert watch.reports[-1].left_s == 0


def test_measures_are_taken_evenly_and_at_the_end() -> None:
    _, watch, task = run(fresh())
    assert watch.measured == task.asked == [10, 20, 30, 40]
    assert [n for n in range(1, 8) if dataclasses.replace(PLAN, n_steps=7).evaluates_after(n)] == [2, 4, 6, 7]


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("at", [1, 9, 10, 39])
def test_interrupting_and_going_on_changes_nothing(tmp_path: Path, at: int, shards: int) -> None:
    whole = fresh()
    run(whole, shards=shards)

    first, path = fresh(), tmp_path / "checkpoint.safetensors"
    ended = train(
        Fitting(first.model, shards=shards),
        first,
        PLAN,
        watch=Watch(),
        save=lambda state: save_state(path, state, {"plan": 1}),
        should_stop=lambda: first.step == at,
    )
    assert ended == "interrupted"
    second = fresh()
    with torch.no_grad():
        for value in second.model.parameters():
            value.add_(1.0)
    saved = read_state(path)
    assert saved.fields["plan"] == 1
    restore_state(saved, second)
    assert second.step == at
    _, watch, _ = run(second, shards=shards)
    assert watch.measured == [float(n) for n in (10, 20, 30, 40) if n > at]
    assert same(whole.model.state_dict(), second.model.state_dict())
    assert same(whole.weights, second.weights)
    assert second.notes == {"asked": 4}
    assert second.elapsed_s > first.elapsed_s


@pytest.mark.parametrize("threads", [0, 2])
def test_threads_that_make_batches_change_nothing(threads: int) -> None:
    one, other = fresh(), fresh()
    run(one)
    run(other, dataclasses.replace(PLAN, data_threads=threads))
    assert same(one.weights, other.weights)


def test_shards_do_not_depend_on_the_threads_that_run_them() -> None:
    before, states = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            states.append(fresh())
            run(states[-1], shards=2)
    finally:
        torch.set_num_threads(before)
    assert same(states[0].weights, states[1].weights)
    alone = fresh()
    run(alone)
    assert not same(alone.weights, states[0].weights)


def test_a_task_may_stop_early() -> None:
    state = fresh()
    ended, watch, _ = run(state, stop_at=20)
    assert (ended, state.step, watch.measured) == ("stopped early", 20, [10, 20])


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    state = fresh()
    with pytest.raises(ModelError, match="diverged: the loss at step 7 is nan"):
        run(state, nan_at=7)
    assert state.step == 7
    assert all(torch.isfinite(value).all() for value in state.model.state_dict().values())


def test_a_checkpoint_is_written_now_and_then() -> None:
    saved: list[int] = []
    plan = dataclasses.replace(PLAN, checkpoint_every_s=0)
    state = fresh()
    train(Fitting(state.model), state, plan, watch=Watch(), save=lambda state: saved.append(state.step))
    assert saved == list(range(1, 41))
    saved.clear()
    state = fresh()
    train(Fitting(state.model), state, PLAN, watch=Watch(), save=lambda state: saved.append(state.step))
    assert saved == [40]


def test_gradients_can_be_limited() -> None:
    state = fresh()
    train(
        Fitting(state.model),
        state,
        dataclasses.replace(PLAN, n_steps=1, clip_norm=1e-3),
        watch=Watch(),
        save=lambda state: None,
    )
    norms = [value.grad.norm() for value in state.model.parameters()]
    assert torch.stack(norms).norm() == pytest.approx(1e-3, rel=1e-3)


def test_a_kept_network_survives(tmp_path: Path) -> None:
    state = fresh()
    state.kept = {"best": torch.arange(3.0)}
    save_state(tmp_path / "c", state, {})
    other = fresh()
    restore_state(read_state(tmp_path / "c"), other)
    assert other.kept is not None
    assert torch.equal(other.kept["best"], torch.arange(3.0))


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "c", fresh(), {})
    model = torch.nn.Linear(4, 3)
    with pytest.raises(ModelError, match="another network"):
        restore_state(read_state(tmp_path / "c"), TrainState(model, torch.optim.Adam(model.parameters())))


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_no_checkpoint(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(UnsafeWeightsError, match="not a checkpoint"):
        read_state(tmp_path / "c")
    with pytest.raises(WeightsMissingError):
        read_state(tmp_path / "none")


def test_a_checkpoint_in_which_a_bit_has_changed_is_refused(tmp_path: Path) -> None:
    state = fresh()
    run(state)
    state.step = 1234
    save_state(tmp_path / "c", state, {})
    data = (tmp_path / "c").read_bytes()
    for place in (data.index(b"1234") + 3, data.index(b"exp_avg_sq") + 3, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] ^= 1
        (tmp_path / "c").write_bytes(damaged)
        with pytest.raises(ChecksumError, match=r"c: damaged: its hash is wrong$"):
            read_state(tmp_path / "c")


def test_a_write_that_fails_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fresh()
    save_state(tmp_path / "c", state, {})
    before = (tmp_path / "c").read_bytes()

    def broken(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    from dymn_cli.errors import OutputError

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OutputError, match="no space left"):
        save_state(tmp_path / "c", state, {"more": 1})
    assert (tmp_path / "c").read_bytes() == before


# ------------------------------------------------------------------ by the clock


class Clock:
    """Time that goes by in steps alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5_000.0
        monkeypatch.setattr("dymn_cli.train.loop.time.monotonic", lambda: self.now)


class Slow(Fitting):
    """Its steps take as long as they are told to."""

    def __init__(self, model: torch.nn.Module, clock: Clock, seconds: Callable[[int], float]) -> None:
        super().__init__(model)
        self._clock, self._seconds = clock, seconds

    def loss(self, batch: torch.Tensor, step: int, network: torch.nn.Module) -> Losses:
        self._clock.now += self._seconds(step)
        return super().loss(batch, step, network)


def by_clock(
    state: TrainState,
    clock: Clock,
    seconds: Callable[[int], float],
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[str, Watch]:
    plan = dataclasses.replace(PLAN, clock=(0.0, 100.0), data_threads=0)
    watch = Watch()
    task = Slow(state.model, clock, seconds)
    ended = train(task, state, plan, watch=watch, save=lambda state: None, should_stop=should_stop)
    return ended, watch


def test_rates_follow_the_clock_however_fast_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, watch = by_clock(fresh(), Clock(monkeypatch), lambda step: 1.0 if step < 50 else 5.0)
    assert ended == "finished"
    assert len(watch.reports) == 60
    for report in watch.reports:
        before = report.elapsed_s - (1.0 if report.step <= 50 else 5.0)
        assert report.rate == pytest.approx(PLAN.rates.at(before / 100))
    assert watch.reports[-1].done == 1
    assert watch.reports[-1].left_s == 0
    assert watch.reports[9].n_steps == 100  # as it then seemed
    assert watch.measured == [25.0, 50.0, 55.0, 60.0]  # at each quarter of the time


def test_a_pause_does_not_count_and_the_rest_of_the_time_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, state = Clock(monkeypatch), fresh()
    asked = iter(range(1, 100))
    ended, _ = by_clock(state, clock, lambda step: 2.0, lambda: next(asked) >= 20)
    assert (ended, state.step, state.elapsed_s) == ("interrupted", 20, 40.0)
    clock.now += 9_999.0
    ended, watch = by_clock(state, clock, lambda step: 3.0)
    assert ended == "finished"
    assert watch.reports[0].elapsed_s == 43.0
    assert watch.reports[-1].step == 40
    assert by_clock(state, clock, lambda step: 3.0)[0] == "finished"
    assert state.step == 40  # nothing was left to do


def test_a_machine_that_slept_has_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    state = fresh()
    plan = dataclasses.replace(PLAN, clock=(0.0, 10_000.0), data_threads=0)
    task = Slow(state.model, Clock(monkeypatch), lambda step: 80_000.0 if step == 2 else 100.0)
    train(task, state, plan, watch=Watch(), save=lambda state: None, should_stop=lambda: state.step >= 4)
    assert state.elapsed_s == 900.0
