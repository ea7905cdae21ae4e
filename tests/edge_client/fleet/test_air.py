import math

import pytest

from edge_client.fleet.air import LARGEST_PAYLOAD_BYTES, Air, Lane, Port
from edge_client.fleet.world import World
from shared.transport import Connected, Disconnected, Publication, Received, Refused, Subscribed, publish_packet_bytes


def port(air: Air, name: str, up: Lane | None = None, down: Lane | None = None) -> Port:
    made = Port(air, name, up or Lane(), down or Lane(), lambda: None)
    made.connect(Publication(f"state/{name}", b"gone", retain=True))
    return made


def pass_time(air: Air, seconds: float) -> None:
    air.world.run_until(air.world.now + seconds, lambda: False)


def events(port: Port) -> list[object]:
    found: list[object] = []
    while (event := port.receive(0.0)) is not None:
        found.append(event)
    return found


def test_a_message_arrives_when_its_bytes_have_passed_both_links() -> None:
    air = Air(World())
    sender = port(air, "a", up=Lane(0.5, 100.0))
    receiver = port(air, "b", down=Lane(0.25, 50.0))
    receiver.subscribe("t/#")
    pass_time(air, 1.0)
    events(receiver)
    size_bytes = publish_packet_bytes("t/x", 93, 1)
    sender.publish(Publication("t/x", bytes(93)))
    due = size_bytes / 100.0 + 0.5 + size_bytes / 50.0 + 0.25
    pass_time(air, due - 1e-6)
    assert events(receiver) == []
    pass_time(air, 2e-6)
    assert events(receiver) == [Received("t/x", bytes(93), retained=False)]
    assert sender.traffic.sent_bytes == receiver.traffic.received_bytes == size_bytes


def test_messages_of_one_link_follow_each_other() -> None:
    lane = Lane(0.0, 10.0)
    assert [lane.arrival(20, 0.0), lane.arrival(20, 0.0), lane.arrival(20, 100.0)] == [2.0, 4.0, 102.0]


def test_who_subscribes_later_gets_what_is_retained_and_nothing_else() -> None:
    air = Air(World())
    sender = port(air, "a")
    for topic, retain in (("kept", True), ("not-kept", False)):
        sender.publish(Publication(topic, b"x", retain=retain))
    pass_time(air, 1.0)
    late = port(air, "b")
    late.subscribe("+")
    pass_time(air, 1.0)
    assert [e for e in events(late) if isinstance(e, Received)] == [Received("kept", b"x", retained=True)]
    sender.publish(Publication("kept", b"", retain=True))
    pass_time(air, 1.0)
    later = port(air, "c")
    later.subscribe("+")
    pass_time(air, 1.0)
    assert not [e for e in events(later) if isinstance(e, Received)]


def test_a_lost_link_takes_what_was_under_way_and_tells_the_will() -> None:
    air = Air(World())
    watcher, device = port(air, "watcher"), port(air, "device", up=Lane(10.0))
    watcher.subscribe("#")
    pass_time(air, 20.0)
    events(watcher)
    device.publish(Publication("t", b"too late"))
    device.lose("out of reach")
    pass_time(air, 100.0)
    assert [e for e in events(watcher) if isinstance(e, Received)] == [
        Received("state/device", b"gone", retained=False)
    ]
    assert events(device) == [Disconnected("out of reach")]
    device.publish(Publication("t", b"nowhere"))
    assert isinstance(events(device)[0], Refused)
    device.regain()
    pass_time(air, 100.0)
    assert events(device) == [Connected(LARGEST_PAYLOAD_BYTES)]


def test_a_payload_above_the_limit_is_refused() -> None:
    air = Air(World())
    device = port(air, "device")
    pass_time(air, 1.0)
    events(device)
    device.publish(Publication("t", bytes(LARGEST_PAYLOAD_BYTES + 1)))
    refused = events(device)
    assert len(refused) == 1
    assert isinstance(refused[0], Refused)


@pytest.mark.parametrize("latency", [0.0, 0.3])
def test_topics_are_granted_after_a_round_trip(latency: float) -> None:
    air = Air(World())
    device = port(air, "device", up=Lane(latency), down=Lane(latency))
    pass_time(air, 2 * latency)
    events(device)
    device.subscribe("a", "b")
    pass_time(air, math.nextafter(2 * latency, 9.0))
    assert events(device) == [Subscribed(("a", "b"))]
