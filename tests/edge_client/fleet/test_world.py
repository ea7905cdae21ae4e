from hypothesis import given
from hypothesis import strategies as st

from edge_client.fleet.world import World


@given(st.lists(st.floats(0, 100), max_size=30))
def test_events_are_played_in_order_of_time_and_of_planning(times: list[float]) -> None:
    world, played = World(), list[tuple[float, int]]()
    for number, seconds in enumerate(times):
        world.at(seconds, lambda number=number: played.append((world.now, number)))
    world.run_until(1000.0, lambda: False)
    assert played == sorted((seconds, number) for number, seconds in enumerate(times))
    assert world.now == 1000.0


def test_what_is_planned_for_the_past_happens_now() -> None:
    world, played = World(), list[float]()
    world.run_until(5.0, lambda: False)
    world.at(1.0, lambda: played.append(world.now))
    world.run_until(6.0, lambda: False)
    assert played == [5.0]


def test_time_stands_still_once_there_is_news() -> None:
    world, played = World(), list[float]()
    for seconds in (1.0, 2.0, 3.0):
        world.at(seconds, lambda: played.append(world.now))
    world.run_until(10.0, lambda: len(played) == 2)
    assert (world.now, played, world.next_event()) == (2.0, [1.0, 2.0], 3.0)
