from typing import Literal

from coordinator.fleet import LEASE_SECONDS, Fleet
from shared.messages import Birth, Death, Heartbeat


def born(connection: int = 1) -> Birth:
    return Birth(connection=connection, agent="test")


def test_born_device_is_online_until_its_death() -> None:
    fleet = Fleet()
    assert fleet.born("b", born(), 0.0)
    fleet.born("a", born(), 0.0)
    assert fleet.online() == ["a", "b"]
    assert fleet.died("b", Death(connection=1), 1.0)
    assert fleet.online() == ["a"]
    assert fleet.gone_for("b", 4.0) == 3.0


def test_will_of_an_older_connection_is_ignored() -> None:
    fleet = Fleet()
    fleet.born("a", born(connection=2), 0.0)
    assert not fleet.died("a", Death(connection=1), 1.0)
    assert fleet.online() == ["a"]


def test_repeated_birth_of_one_connection_is_no_news() -> None:
    fleet = Fleet()
    assert fleet.born("a", born(), 0.0)
    assert not fleet.born("a", born(), 1.0)
    assert fleet.born("a", born(connection=2), 2.0)


def test_silent_device_loses_its_lease_once_and_any_message_renews_it() -> None:
    fleet = Fleet()
    fleet.born("a", born(), 0.0)
    fleet.heard("a", 60.0, packet_bytes=10)
    assert fleet.expire(60.0 + LEASE_SECONDS) == []
    assert fleet.expire(61.0 + LEASE_SECONDS) == ["a"]
    assert fleet.expire(62.0 + LEASE_SECONDS) == []


def test_leases_begin_anew_when_our_own_link_was_away() -> None:
    fleet = Fleet()
    fleet.born("a", born(), 0.0)
    fleet.renew(1000.0)
    assert fleet.expire(1000.0 + LEASE_SECONDS) == []


def test_device_that_never_stated_itself_is_not_online() -> None:
    fleet = Fleet()
    assert not fleet.heard("a", 0.0, packet_bytes=7)
    assert fleet.online() == []
    assert fleet.devices["a"].received_bytes == 7


def test_expected_device_counts_as_gone_from_then_on() -> None:
    fleet = Fleet()
    fleet.expect("a", 5.0)
    assert fleet.gone_for("a", 8.0) == 3.0
    fleet.born("a", born(), 9.0)
    fleet.expect("a", 10.0)
    assert fleet.gone_for("a", 11.0) == 0.0


def test_heartbeats_are_counted_and_the_last_one_kept() -> None:
    fleet = Fleet()
    fleet.born("a", born(), 0.0)
    for sent_bytes in (1, 2):
        fleet.beat("a", Heartbeat(phase="idle", sent_bytes=sent_bytes, received_bytes=0))
    assert fleet.devices["a"].heartbeats == 2
    assert fleet.devices["a"].heartbeat == Heartbeat(phase="idle", sent_bytes=2, received_bytes=0)


def beat(readiness: Literal["go", "wait", "stop"], *reasons: str) -> Heartbeat:
    return Heartbeat(phase="idle", sent_bytes=0, received_bytes=0, readiness=readiness, reasons=reasons)


def test_device_that_stops_is_online_but_gets_no_work() -> None:
    fleet = Fleet()
    for name in ("a", "b", "c"):
        fleet.born(name, born(), 0.0)
    assert fleet.beat("a", beat("stop", "on battery"))
    assert fleet.beat("b", beat("wait", "hot"))
    assert (fleet.online(), fleet.ready()) == (["a", "b", "c"], ["b", "c"])
    assert not fleet.beat("a", beat("stop", "on battery"))
    assert fleet.beat("a", beat("go"))
    assert fleet.ready() == ["a", "b", "c"]


def test_device_that_starts_anew_may_work_until_it_says_otherwise() -> None:
    fleet = Fleet()
    fleet.born("a", born(), 0.0)
    fleet.beat("a", beat("stop", "on battery"))
    fleet.born("a", born(), 1.0)
    assert fleet.ready() == []
    fleet.born("a", born(connection=2), 2.0)
    assert fleet.ready() == ["a"]
