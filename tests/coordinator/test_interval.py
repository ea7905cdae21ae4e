import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coordinator.interval import FASTEST_CHANGE, Agreement, Interval
from coordinator.job import Job, Work
from coordinator.sieve_server import SieveServer
from shared.compression.codec import SparseUpdate
from shared.compression.plan import Plan
from shared.compression.topk import TopKCodec
from shared.layout import F32, Layout

SIZE = 4000
LAYOUT = Layout.of([("w", (40, 100), "weight")])


def job(rounds: int = 10, **work: object) -> Job:
    return Job(name="j", task="watch", rounds=rounds, work=Work.model_validate(work))


def clients(drift: float, seed: int, count: int = 8) -> list[F32]:
    """Updates of which a share is everybody's and the rest their own, of equal length each."""
    random = np.random.default_rng(seed)
    common = random.standard_normal(SIZE)
    own = random.standard_normal((count, SIZE))
    return [(np.sqrt(1 - drift) * common + np.sqrt(drift) * each).astype(np.float32) for each in own]


def measured(updates: list[SparseUpdate]) -> float:
    agreement = Agreement(SIZE)
    for update in updates:
        agreement.add(update)
    found = agreement.drift()
    assert found is not None
    return found


def dense(update: F32) -> SparseUpdate:
    return SparseUpdate(SIZE, np.arange(SIZE), update)


def sieved(update: F32) -> SparseUpdate:
    return TopKCodec().encode(update, LAYOUT, Plan(budget_bytes=1600)).delivered


@pytest.mark.parametrize("drift", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_drift_is_the_share_that_is_each_clients_own(drift: float) -> None:
    assert measured([dense(update) for update in clients(drift, 1)]) == pytest.approx(drift, abs=0.05)


def test_sieved_updates_tell_drift_in_the_same_order() -> None:
    found = [measured([sieved(update) for update in clients(drift, 2)]) for drift in (0.0, 0.3, 0.6, 0.9)]
    assert found == sorted(found)
    assert found[0] < 0.05
    assert found[-1] - found[0] > 0.3


def test_clients_that_share_no_value_say_nothing() -> None:
    agreement = Agreement(10)
    agreement.add(SparseUpdate(10, np.array([1]), np.array([1.0], np.float32)))
    agreement.add(SparseUpdate(10, np.array([2]), np.array([1.0], np.float32)))
    assert agreement.drift() is None
    interval = Interval(job(interval="adaptive", steps=7))
    interval.observe(agreement)
    assert interval.at(2) == 7


@given(st.lists(st.floats(0, 1), max_size=20), st.integers(1, 50), st.integers(50, 400), st.floats(0, 80))
def test_adaptive_steps_stay_in_their_bounds_and_change_slowly(
    drifts: list[float], least: int, most: int, cost: float
) -> None:
    rule = Interval(job(interval="adaptive", steps=50, least_steps=least, most_steps=most, round_cost_steps=cost))
    before = rule.steps
    for seed, drift in enumerate(drifts):
        agreement = Agreement(SIZE)
        for update in clients(drift, seed, 3):
            agreement.add(dense(update))
        rule.observe(agreement)
        floor = min(max(least, cost), most)
        assert floor <= rule.steps <= most
        assert before / FASTEST_CHANGE - 1e-9 <= max(rule.steps, before / FASTEST_CHANGE)
        assert rule.steps <= max(before * FASTEST_CHANGE + 1e-9, floor)
        before = rule.steps


def test_more_drift_than_wanted_makes_fewer_steps_and_less_makes_more() -> None:
    def after(drift: float) -> int:
        rule = Interval(job(interval="adaptive", steps=40, drift=0.5))
        for seed in range(5):
            agreement = Agreement(SIZE)
            for update in clients(drift, seed):
                agreement.add(dense(update))
            rule.observe(agreement)
        return rule.at(6)

    assert after(0.95) < 40 < after(0.05)


@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 30))
def test_a_schedule_runs_from_first_to_last_steps(first: int, last: int, rounds: int) -> None:
    rule = Interval(job(rounds, interval="schedule", steps=first, final_steps=last))
    steps = [rule.at(number) for number in range(1, rounds + 1)]
    assert steps[0] == first
    assert rounds == 1 or steps[-1] == last
    assert steps in (sorted(steps), sorted(steps, reverse=True))


def test_a_restored_server_has_the_steps_of_the_one_that_was_saved() -> None:
    adaptive = job(interval="adaptive", steps=40)
    servers = [SieveServer(adaptive, LAYOUT, np.zeros(SIZE, np.float32)) for _ in range(2)]
    agreement = Agreement(SIZE)
    for update in clients(0.9, 4):
        agreement.add(dense(update))
    servers[0].interval.observe(agreement)
    servers[1].restore(servers[0].state(), None)
    assert servers[1].interval.steps == servers[0].interval.steps != 40.0
    assert "interval.steps" not in SieveServer(job(), LAYOUT, np.zeros(SIZE, np.float32)).state()


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(ValidationError, match="above most_steps"):
        job(least_steps=10, most_steps=5)
