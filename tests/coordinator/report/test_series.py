import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.records import EventRecord, RoundRecord, RoundState, UpdateFacts, UpdateRecord
from coordinator.report.contributions import Contributions
from coordinator.report.series import AccuracyPoint, RoundPoint, accuracy_points, columns, final_figure, thinned


def a_round(number: int, cohort: tuple[str, ...] = ("a", "b"), **figures: float) -> RoundRecord:
    return RoundRecord("run-1", number, RoundState.CLOSED, "base", cohort, b"", "model", "name", figures, 0.0, 1.0)


def an_update(number: int, device: str, correct: int = 5, threshold: float = 0.1, loss: float = 1.0) -> UpdateRecord:
    facts = UpdateFacts(200, 50, loss, correct, 10, 315, 333, 60, 20, threshold, (50, 30), 1.0)
    return UpdateRecord("run-1", number, device, "digest", facts, 0.0)


def test_figures_of_a_round_are_means_over_its_updates() -> None:
    updates = [an_update(1, "a", loss=1.0, threshold=0.1), an_update(1, "b", loss=3.0, threshold=0.3)]
    point = RoundPoint.of(a_round(1, uplink_bytes=800.0), updates)
    assert (point.updates, point.asked, point.uplink_bytes) == (2, 2, 800.0)
    assert point.train_loss == 2.0
    assert point.thresholds is not None
    assert point.thresholds[1] == pytest.approx(0.2)
    assert point.values_by_tensor == (50.0, 30.0)


def test_figures_that_are_not_finite_do_not_spoil_a_mean() -> None:
    updates = [an_update(1, "a", loss=float("inf"), threshold=float("nan")), an_update(1, "b", loss=3.0)]
    point = RoundPoint.of(a_round(1), updates)
    assert point.train_loss == 3.0
    assert point.thresholds == pytest.approx((0.1, 0.1, 0.1))


def test_round_without_updates_has_no_means() -> None:
    point = RoundPoint.of(a_round(1), [])
    assert (point.train_loss, point.thresholds, point.values_by_tensor) == (None, None, ())


def test_accuracy_belongs_to_the_round_before_the_one_that_judged_it() -> None:
    records = [a_round(1, base_accuracy=0.2, uplink_bytes=100.0), a_round(3, base_accuracy=0.6, uplink_bytes=50.0)]
    points = [RoundPoint.of(record, []) for record in records]
    assert accuracy_points(points, 0.8) == [
        AccuracyPoint(0, 0.0, 0.2),
        AccuracyPoint(1, 100.0, 0.6),
        AccuracyPoint(3, 150.0, 0.8),
    ]
    assert accuracy_points([], 0.8) == []


@pytest.mark.parametrize(
    ("events", "accuracy"),
    [
        ([], None),
        ([("final", "accuracy=0.5 loss=1.0"), ("start", "again"), ("final", "accuracy=0.75 loss=0.9")], 0.75),
        ([("final", "loss=1.0")], None),
        ([("final", "accuracy=high")], None),
    ],
)
def test_final_figure_is_that_of_the_last_final_event(events: list[tuple[str, str]], accuracy: float | None) -> None:
    records = [EventRecord(n, "run-1", k, text, 0.0) for n, (k, text) in enumerate(events)]
    assert final_figure(records, "accuracy") == accuracy


def test_final_loss_is_there_where_no_accuracy_is() -> None:
    assert final_figure([EventRecord(1, "run-1", "final", "loss=1.5 devices=2", 0.0)], "loss") == 1.5


@given(st.integers(0, 2000), st.integers(1, 300))
def test_columns_hold_every_place_once_and_are_not_too_many(count: int, most: int) -> None:
    cut = columns(count, most)
    assert [place for column in cut for place in column] == list(range(count))
    assert len(cut) <= most


@given(st.lists(st.integers()), st.integers(1, 50))
def test_thinning_keeps_both_ends_and_the_order(items: list[int], most: int) -> None:
    kept = thinned(list(enumerate(items)), most)
    assert len(kept) <= most + 1
    assert kept == sorted(kept)
    assert [kept[0], kept[-1]] == [(0, items[0]), (len(items) - 1, items[-1])] if items else kept == []


def test_device_sums_follow_its_accepted_updates() -> None:
    contributions = Contributions({2: frozenset({"b"})})
    contributions.add(a_round(1), [an_update(1, "a", correct=2), an_update(1, "b")])
    contributions.add(a_round(2), [an_update(2, "a", correct=9)])
    contributions.add(a_round(3, cohort=("a", "late")), [])
    a, b, late = contributions.by_name()
    assert (a.rounds, a.missed, a.asked, a.last_round) == (2, 1, 3, 2)
    assert (a.first_accuracy, a.last_accuracy, a.values, a.object_bytes) == (0.2, 0.9, 160, 666)
    assert (b.rounds, b.refused, b.missed, b.asked) == (1, 1, 0, 2)
    assert (late.rounds, late.missed, late.asked, late.loss) == (0, 1, 1, None)
    assert [device.name for device in contributions.most_irregular(2)] == ["a", "b"]
