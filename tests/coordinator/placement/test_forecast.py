import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.placement.forecast import Outlook
from coordinator.placement.pilot import Pilot, Trial
from coordinator.placement.sites import Site

INTERVAL = 20


def pilot(rounds: int | None, clusters: tuple[int, ...] = (), round_bytes: float = 1_000.0) -> Pilot:
    return Pilot(Trial(INTERVAL, clusters), rounds, 0.9, 5_000.0, round_bytes, 0.0)


def outlook(sites: list[Site], headed: Pilot | None) -> Outlook:
    return Outlook(sites, {INTERVAL: pilot(10)}, headed)


BARN, SILO = Site(name="barn", boards=6, price=4.0), Site(name="silo", boards=2)


def test_without_heads_every_board_moves_its_own_bytes() -> None:
    found = outlook([BARN, SILO], pilot(12, (6, 2))).forecast((), INTERVAL)
    assert found is not None
    assert found.rounds == 10
    assert found.bytes_by_site == {"barn": 6 * 14_000, "silo": 2 * 14_000}
    assert found.price == pytest.approx((4 * 84_000 + 28_000) / 1e6)


def test_with_all_heads_it_takes_the_rounds_and_bytes_of_the_pilot_that_had_them() -> None:
    found = outlook([BARN, SILO], pilot(12, (6, 2), 500.0)).forecast(("barn", "silo"), INTERVAL)
    assert found is not None
    assert found.rounds == pytest.approx(12)
    assert found.bytes_by_site["barn"] == found.bytes_by_site["silo"] == pytest.approx(5_000 + 500 * 11)


def test_a_pilot_whose_heads_had_some_of_the_boards_counts_for_those() -> None:
    found = outlook([BARN, SILO], pilot(12, (6,))).forecast(("barn",), INTERVAL)
    assert found is not None
    assert found.rounds == pytest.approx(12)


def test_heads_that_never_reach_the_accuracy_are_not_forecast() -> None:
    view = outlook([BARN, SILO], pilot(None, (6, 2)))
    assert view.forecast(("barn",), INTERVAL) is None
    assert view.forecast((), INTERVAL) is not None


def test_an_interval_that_never_reaches_the_accuracy_is_not_forecast() -> None:
    assert Outlook([BARN], {INTERVAL: pilot(None)}).forecast((), INTERVAL) is None


@given(
    boards=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    slower=st.floats(1.0, 3.0),
    more=st.integers(1, 20),
)
def test_more_boards_never_move_less_and_a_head_makes_their_number_indifferent(
    boards: list[int], slower: float, more: int
) -> None:
    sites = [Site(name=f"site-{number}", boards=count) for number, count in enumerate(boards)]
    grown = [sites[0].model_copy(update={"boards": boards[0] + more}), *sites[1:]]
    names, headed = [site.name for site in sites], pilot(round(10 * slower), tuple(boards))
    before, after = outlook(sites, headed), outlook(grown, pilot(headed.rounds, tuple(site.boards for site in grown)))
    plain, plain_grown = before.forecast((), INTERVAL), after.forecast((), INTERVAL)
    assert plain is not None
    assert plain_grown is not None
    assert plain_grown.moved_bytes > plain.moved_bytes
    whole, whole_grown = before.forecast(names, INTERVAL), after.forecast(names, INTERVAL)
    assert whole is not None
    assert whole_grown is not None
    assert whole_grown.moved_bytes == pytest.approx(whole.moved_bytes)
