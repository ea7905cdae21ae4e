"""What every transport promises, checked over memory and over a real broker."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import pytest

from coordinator.broker import DevBroker
from shared.errors import PayloadTooLarge, SettingsError, TransportError
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.paho_transport import PahoTransport, wait_connected
from shared.transport import Connected, Disconnected, Publication, Received, Refused, Subscribed, Transport

JITTER = random.Random(1)
PATIENCE_SECONDS = 5.0
E = TypeVar("E")


class World(Protocol):
    """A broker, and clients whose links can be cut."""

    def client(self, name: str) -> Transport: ...
    def cut(self, name: str) -> None: ...
    def stop(self) -> None: ...
    def start(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._broker = MemoryBroker()

    def client(self, name: str) -> Transport:
        return MemoryTransport(self._broker, name)

    def cut(self, name: str) -> None:
        self._broker.disconnect(name)

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker.start()


class Cable:
    """Forwards TCP connections to a port until it is cut; later connections pass again."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._ends: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target_port))
                except OSError:
                    near.close()
                    continue
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()


class PahoWorld:
    def __init__(self, broker: DevBroker) -> None:
        self._broker = broker
        self._cables: dict[str, Cable] = {}
        self._clients: list[PahoTransport] = []

    def client(self, name: str) -> Transport:
        cable = self._cables[name] = Cable(self._broker.settings.port)
        settings = self._broker.settings.model_copy(update={"port": cable.port})
        self._clients.append(PahoTransport(settings, name, JITTER))
        return self._clients[-1]

    def cut(self, name: str) -> None:
        self._cables[name].cut()

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker.start()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for cable in self._cables.values():
            cable.close()


@pytest.fixture(params=["memory", pytest.param("mosquitto", marks=pytest.mark.broker)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    try:
        broker = DevBroker()
    except SettingsError as error:
        pytest.skip(str(error))
    with broker:
        paho_world = PahoWorld(broker)
        yield paho_world
        paho_world.close()


def connected(world: World, name: str, *filters: str, will: Publication | None = None) -> Transport:
    client = world.client(name)
    client.connect(will)
    wait_connected(client, PATIENCE_SECONDS, name)
    if filters:
        client.subscribe(*filters)
        assert expect(client, Subscribed) == Subscribed(filters)
    return client


def expect(client: Transport, kind: type[E]) -> E:
    """The next event, which must be of this kind."""
    event = client.receive(PATIENCE_SECONDS)
    assert isinstance(event, kind), f"expected {kind.__name__}, got {event}"
    return event


def wait_until(client: Transport, accept: Callable[[object], bool]) -> list[object]:
    """Events up to and with the first accepted one."""
    events: list[object] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        event = client.receive(deadline - time.monotonic())
        if event is not None:
            events.append(event)
            if accept(event):
                return events
    raise AssertionError(f"did not come within {PATIENCE_SECONDS} s; came: {events}")


def test_connected_tells_a_payload_limit(world: World) -> None:
    client = world.client("a")
    client.connect(None)
    assert expect(client, Connected).max_payload_bytes == 261_120


def test_retained_message_is_delivered_to_a_later_subscriber_and_can_be_cleared(world: World) -> None:
    sender = connected(world, "sender", "gs/done")
    sender.publish(Publication("gs/state", b"online", retain=True))
    sender.publish(Publication("gs/done", b""))
    expect(sender, Received)
    receiver = connected(world, "receiver", "gs/state")
    assert expect(receiver, Received) == Received("gs/state", b"online", retained=True)
    sender.publish(Publication("gs/state", b"", retain=True))
    assert expect(receiver, Received) == Received("gs/state", b"", retained=False)
    late = connected(world, "late", "gs/state", "gs/done")
    sender.publish(Publication("gs/done", b""))
    assert expect(late, Received).topic == "gs/done"


def test_wildcards_select_topics(world: World) -> None:
    client = connected(world, "a", "gs/+/x", "gs/tree/#", "end")
    for topic in ("gs/1/x", "gs/1/y", "gs/1/2/x", "gs/tree", "gs/tree/1/2", "end"):
        client.publish(Publication(topic, b""))
    received = [
        e.topic for e in wait_until(client, lambda e: e == Received("end", b"", False)) if isinstance(e, Received)
    ]
    assert received == ["gs/1/x", "gs/tree", "gs/tree/1/2", "end"]


def test_unsubscribed_topic_is_not_delivered(world: World) -> None:
    client = connected(world, "a", "gs/1", "gs/2")
    client.unsubscribe("gs/1")
    client.publish(Publication("gs/1", b""))
    client.publish(Publication("gs/2", b""))
    assert expect(client, Received).topic == "gs/2"


def test_messages_of_one_sender_arrive_in_order(world: World) -> None:
    receiver = connected(world, "receiver", "gs/#")
    sender = connected(world, "sender")
    for number in range(300):
        sender.publish(Publication("gs/n", number.to_bytes(2, "big")))
    assert [int.from_bytes(expect(receiver, Received).payload, "big") for _ in range(300)] == list(range(300))


def test_abrupt_loss_publishes_the_will_and_the_client_connects_again(world: World) -> None:
    watcher = connected(world, "watcher", "gs/#")
    client = connected(world, "a", will=Publication("gs/a/state", b"dead", retain=True))
    world.cut("a")
    assert expect(watcher, Received) == Received("gs/a/state", b"dead", retained=False)
    assert expect(client, Disconnected).reason
    wait_until(client, lambda event: isinstance(event, Connected))


def test_subscriptions_end_with_the_connection(world: World) -> None:
    client = connected(world, "a", "gs/#")
    world.cut("a")
    wait_until(client, lambda event: isinstance(event, Connected))
    client.publish(Publication("gs/unheard", b""))
    client.subscribe("gs/end")
    expect(client, Subscribed)
    client.publish(Publication("gs/end", b""))
    assert expect(client, Received).topic == "gs/end"


def test_clean_close_does_not_publish_the_will(world: World) -> None:
    watcher = connected(world, "watcher", "gs/#")
    client = connected(world, "a", will=Publication("gs/a/state", b"dead"))
    client.publish(Publication("gs/a/state", b"bye"))
    client.close()
    watcher.publish(Publication("gs/end", b""))
    assert [expect(watcher, Received).payload for _ in range(2)] == [b"bye", b""]


def test_payload_at_the_limit_passes_and_one_byte_more_is_refused(world: World) -> None:
    client = connected(world, "a", "gs/#")
    client.publish(Publication("gs/big", bytes(261_121)))
    client.publish(Publication("gs/fits", bytes(261_120)))
    refused = expect(client, Refused)
    assert isinstance(refused.error, PayloadTooLarge)
    assert "gs/big" in str(refused.error)
    assert "261121" in str(refused.error)
    assert expect(client, Received).topic == "gs/fits"


def test_publishing_before_or_between_connections_is_refused_and_never_sent(world: World) -> None:
    watcher = connected(world, "watcher", "gs/#")
    client = world.client("a")
    client.publish(Publication("gs/early", b""))
    early = expect(client, Refused)
    assert isinstance(early.error, TransportError)
    assert "not connected" in str(early.error)
    client.connect(None)
    wait_connected(client, PATIENCE_SECONDS, "a")
    world.cut("a")
    expect(client, Disconnected)
    client.publish(Publication("gs/between", b""))
    assert any(isinstance(event, Refused) for event in wait_until(client, lambda event: isinstance(event, Connected)))
    client.publish(Publication("gs/after", b""))
    assert expect(watcher, Received).topic == "gs/after"


def test_subscribing_without_a_connection_is_refused(world: World) -> None:
    client = world.client("a")
    client.subscribe("gs/1", "gs/2")
    assert [expect(client, Refused).topic for _ in range(2)] == ["gs/1", "gs/2"]


def test_broker_restart_reconnects_everyone_and_delivers_nothing_stale(world: World) -> None:
    receiver = connected(world, "receiver", "gs/#")
    sender = connected(world, "sender")
    sender.publish(Publication("gs/kept", b"old", retain=True))
    expect(receiver, Received)
    world.stop()
    for client in (receiver, sender):
        expect(client, Disconnected)
    sender.publish(Publication("gs/stale", b""))
    expect_refused = wait_until(sender, lambda event: isinstance(event, Refused))
    assert all(isinstance(event, Disconnected | Refused) for event in expect_refused)
    world.start()
    for client in (receiver, sender):
        wait_until(client, lambda event: isinstance(event, Connected))
    sender.publish(Publication("gs/unheard", b""))  # subscriptions are gone with the connection
    receiver.subscribe("gs/#")
    expect(receiver, Subscribed)
    sender.publish(Publication("gs/fresh", b""))
    events = wait_until(receiver, lambda event: event == Received("gs/fresh", b"", retained=False))
    assert not {"gs/kept", "gs/stale"} & {event.topic for event in events if isinstance(event, Received)}


def test_both_ends_count_the_same_traffic(world: World) -> None:
    receiver = connected(world, "receiver", "gs/#")
    sender = connected(world, "sender")
    for size, qos in ((0, 0), (1, 1), (119, 1), (120, 1), (20_000, 0)):
        sender.publish(Publication("gs/up", bytes(size), qos))
        expect(receiver, Received)
    assert sender.traffic.sent_messages == receiver.traffic.received_messages == 5
    assert sender.traffic.sent_bytes == receiver.traffic.received_bytes > 20_240
    assert receiver.traffic.received_by_topic_bytes == {"gs/up": sender.traffic.sent_bytes}


def test_same_client_id_takes_over_and_the_will_of_the_first_is_published(world: World) -> None:
    watcher = connected(world, "watcher", "gs/#")
    first = connected(world, "a", will=Publication("gs/a", b"dead"))
    second = world.client("a")
    second.connect(None)
    assert expect(watcher, Received).payload == b"dead"
    first.close()
    second.close()


def test_wake_ends_a_blocked_receive(world: World) -> None:
    client = connected(world, "a")
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(client.receive(60)))
    waiting.start()
    client.wake()
    waiting.join(PATIENCE_SECONDS)
    assert answers == [None]


def test_receive_without_an_event_returns_none(world: World) -> None:
    assert connected(world, "a").receive(0) is None
