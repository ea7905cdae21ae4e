import threading
import tracemalloc

import pytest

from shared.errors import BrokerUnreachable, PublishRefused
from shared.memory_transport import Faults, MemoryBroker, MemoryTransport
from shared.paho_transport import wait_connected
from shared.transport import Connected, Disconnected, Publication, Received, Refused, Subscribed, TransportEvent


def connected(broker: MemoryBroker, name: str, *filters: str, will: Publication | None = None) -> MemoryTransport:
    client = MemoryTransport(broker, name)
    client.connect(will)
    assert isinstance(client.receive(0), Connected)
    if filters:
        client.subscribe(*filters)
        assert client.receive(0) == Subscribed(filters)
    return client


def drained(client: MemoryTransport) -> list[TransportEvent]:
    return list(iter(lambda: client.receive(0), None))


def test_stopped_broker_is_reported_once_and_connects_on_start() -> None:
    broker = MemoryBroker()
    broker.stop()
    client = MemoryTransport(broker, "a")
    client.connect(None)
    assert drained(client) == [Disconnected("the broker is stopped")]
    assert drained(client) == []
    broker.start()
    assert isinstance(client.receive(0), Connected)


def test_waiting_for_a_stopped_broker_ends_with_its_reason() -> None:
    broker = MemoryBroker()
    broker.stop()
    client = MemoryTransport(broker, "a")
    client.connect(None)
    with pytest.raises(BrokerUnreachable, match=r"memory: no connection within 0\.01 s: the broker is stopped"):
        wait_connected(client, 0.01, "memory")


def test_start_wakes_a_blocked_receiver() -> None:
    broker = MemoryBroker()
    client = connected(broker, "a")
    broker.stop()
    assert isinstance(client.receive(0), Disconnected)
    events: list[TransportEvent | None] = []
    waiting = threading.Thread(target=lambda: events.append(client.receive(60)))
    waiting.start()
    broker.start()
    waiting.join(5)
    assert events == [Connected(261_120)]


def test_stop_publishes_no_will_and_keeps_nothing() -> None:
    broker = MemoryBroker()
    client = connected(broker, "a", "#", will=Publication("gs/a", b"dead", retain=True))
    client.publish(Publication("gs/kept", b"1", retain=True))
    assert isinstance(client.receive(0), Received)
    broker.stop()
    broker.start()
    assert [type(event) for event in drained(client)] == [Disconnected, Connected]
    client.subscribe("#")
    assert drained(client) == [Subscribed(("#",))]


def test_closed_client_does_not_come_back() -> None:
    broker = MemoryBroker()
    client = connected(broker, "a", "gs/#")
    client.close()
    broker.stop()
    broker.start()
    broker.disconnect("a")
    assert drained(client) == []
    client.publish(Publication("gs/x", b""))
    assert isinstance(client.receive(0), Refused)
    assert drained(client) == []


def test_replaced_client_stays_away() -> None:
    broker = MemoryBroker()
    first = connected(broker, "a", "gs/#")
    second = connected(broker, "a", "gs/#")
    assert drained(first) == [Disconnected("another client connected with the same id")]
    assert drained(first) == []
    second.publish(Publication("gs/x", b""))
    assert drained(second) == [Received("gs/x", b"", retained=False)]


def test_two_matching_filters_deliver_once() -> None:
    client = connected(MemoryBroker(), "a", "gs/#", "gs/x")
    client.publish(Publication("gs/x", b""))
    assert len(drained(client)) == 1


def test_full_queue_loses_messages_but_not_the_loss_of_the_connection() -> None:
    broker = MemoryBroker(queue_limit=3)
    slow = connected(broker, "slow", "gs/#")
    sender = connected(broker, "sender")
    for _ in range(5):
        sender.publish(Publication("gs/x", b""))
    broker.disconnect("slow")
    assert [type(event) for event in drained(slow)] == [Received] * 3 + [Disconnected, Connected]
    assert slow.traffic.received_messages == 3


def with_faults(faults: Faults, count: int = 400) -> tuple[list[TransportEvent], list[TransportEvent]]:
    """What sender and receiver see of `count` publications."""
    broker = MemoryBroker(faults=faults)
    receiver = connected(broker, "receiver", "gs/#")
    sender = connected(broker, "sender")
    seen: list[TransportEvent] = []
    for number in range(count):
        sender.publish(Publication("gs/x", number.to_bytes(2, "big")))
        seen += drained(sender)
    return seen, drained(receiver)


def test_faults_come_as_often_as_asked_and_repeat_with_the_seed() -> None:
    faults = Faults(disconnect=0.1, duplicate=0.2, refuse=0.1, seed=7)
    seen, received = with_faults(faults)
    lost = sum(isinstance(event, Disconnected) for event in seen)
    refused = [event.error for event in seen if isinstance(event, Refused)]
    assert 20 < lost < 60
    assert 20 < len(refused) < 60
    assert all(isinstance(error, PublishRefused) for error in refused)
    payloads = [event.payload for event in received if isinstance(event, Received)]
    assert len(set(payloads)) == 400 - lost - len(refused)
    assert 50 < len(payloads) - len(set(payloads)) < 110
    assert with_faults(faults)[1] == received
    assert with_faults(Faults(disconnect=0.1, duplicate=0.2, refuse=0.1, seed=8))[1] != received


def test_without_faults_everything_arrives_once() -> None:
    seen, received = with_faults(Faults())
    assert (seen, len(received)) == ([], 400)


def test_many_threads_lose_nothing() -> None:
    broker = MemoryBroker()
    receiver = connected(broker, "receiver", "gs/+")
    senders = [connected(broker, f"s{number}") for number in range(8)]

    def send(client: MemoryTransport) -> None:
        for _ in range(200):
            client.publish(Publication(f"gs/{client.client_id}", b"x"))

    threads = [threading.Thread(target=send, args=(client,)) for client in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drained(receiver)) == 1600
    assert receiver.traffic.received_bytes == sum(client.traffic.sent_bytes for client in senders)


def test_idle_client_costs_little_memory() -> None:
    broker = MemoryBroker()
    clients = [connected(broker, f"warm{number}") for number in range(10)]
    tracemalloc.start()
    clients += [
        connected(broker, f"d{number:04}", f"gs/v1/down/d{number:04}/cmd", "gs/v1/pub/#") for number in range(1000)
    ]
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes / 1000 < 3000
