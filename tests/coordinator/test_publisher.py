import hashlib

from coordinator.publisher import Publisher
from coordinator.round_offer import RoundOffer
from shared.delta_chain import Step, pack_history
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.messages import BlobRef, LocalWork, RoundManifest
from shared.signing import SigningKey
from shared.topics import Topics
from shared.transport import Received

TOPICS = Topics()
WORK = LocalWork(steps=1, batch_size=1, learning_rate=0.1, momentum=0.0, codec="dense", seed=1)
BUNDLE, MODEL = b"bundle", b"model"


def ref(content: bytes) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))


def history_of(deltas: list[bytes]) -> bytes:
    return pack_history([Step(bytes(4), ref(delta)) for delta in deltas])


def offer(server_round: int, deltas: list[bytes]) -> RoundOffer:
    """A round with these earlier deltas."""
    objects = [BUNDLE, MODEL, history_of(deltas), *deltas]
    manifest = RoundManifest(
        run="r",
        server_round=server_round,
        bundle=ref(BUNDLE),
        model=ref(MODEL),
        base="cd" * 32,
        delta=ref(b"now"),
        history=ref(history_of(deltas)),
        work=WORK,
    )
    return RoundOffer(manifest, b"", {ref(content).digest: content for content in objects})


class Station:
    """A publisher, and what it has published as objects since the last look; nothing for one that is cleared."""

    def __init__(self) -> None:
        broker = MemoryBroker()
        transport, self._listener = MemoryTransport(broker, "coordinator"), MemoryTransport(broker, "listener")
        for client in (transport, self._listener):
            client.connect(None)
        self._listener.subscribe("gs/v1/pub/blob/#")
        self.publisher = Publisher(transport, TOPICS, SigningKey(bytes(32)), "epoch", chunk_bytes=2048)

    def published(self) -> list[bytes]:
        events = iter(lambda: self._listener.receive(0), None)
        return [event.payload for event in events if isinstance(event, Received)]


def test_history_that_is_wanted_comes_with_the_deltas_that_it_names() -> None:
    station, deltas = Station(), [b"one", b"two"]
    station.publisher.announce(offer(3, deltas))
    assert station.published() == []
    assert station.publisher.want(ref(history_of(deltas)).digest)
    assert station.published() == [history_of(deltas), *deltas]


def test_next_history_brings_the_new_delta_alone_and_the_oldest_is_cleared() -> None:
    station, before, after = Station(), [b"one", b"two"], [b"two", b"three"]
    station.publisher.announce(offer(3, before))
    station.publisher.want(ref(history_of(before)).digest)
    station.published()
    station.publisher.announce(offer(4, after))
    assert station.published() == [b"", b""]  # the history before, and delta one
    station.publisher.want(ref(history_of(after)).digest)
    assert station.published() == [history_of(after), b"three"]


def test_delta_that_is_wanted_comes_alone_even_if_it_was_published_before() -> None:
    station, deltas = Station(), [b"one", b"two"]
    station.publisher.announce(offer(3, deltas))
    station.publisher.want(ref(history_of(deltas)).digest)
    station.published()
    assert station.publisher.want(ref(b"two").digest)
    assert station.published() == [b"two"]


def test_broker_that_lost_all_gets_history_and_deltas_once_more() -> None:
    station, deltas = Station(), [b"one", b"two"]
    station.publisher.announce(offer(3, deltas))
    station.publisher.want(ref(history_of(deltas)).digest)
    station.published()
    station.publisher.restate()
    assert station.published() == [history_of(deltas), *deltas]
