"""The coordinator's link among strangers: what comes over the wire never ends it, fills it, or floods the log."""

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from flwr.app import Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import fleet
from coordinator.flower_compat import node_id_of
from coordinator.link import Link
from coordinator.mqtt_grid import MqttGrid
from coordinator.offer_record import offer_to_record
from coordinator.publisher import Publisher
from coordinator.round_offer import RoundOffer
from shared.errors import BrokerUnreachable, PayloadTooLarge, RunError
from shared.flower_records import ROUND
from shared.frame import FrameKind, pack_frame
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.messages import Birth, BlobRef, Evaluated, Heartbeat, LocalWork, RoundManifest, Trouble, Want, dump
from shared.receiver import Receiver
from shared.signing import SigningKey
from shared.spool import MemorySpool
from shared.topics import Topics
from shared.transfer import Open
from shared.transport import Publication, Received
from shared.verdicts import Ruling, Verdict

TOPICS = Topics()
MODEL = bytes(3000)
WORK = LocalWork(steps=1, batch_size=1, learning_rate=0.1, momentum=0.0, codec="dense", seed=1)


@dataclass
class Handler:
    """Accepts every upload; keeps what it is told."""

    uploads: list[bytes] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    fault: Exception | None = None

    def on_upload(self, device: str, content: bytes) -> Ruling:
        if self.fault:
            raise self.fault
        self.uploads.append(content)
        return Ruling(Verdict.DONE)

    def on_birth(self, device: str) -> None:
        pass

    def on_event(self, device: str, event: Evaluated | Trouble) -> None:
        pass

    def on_complaint(self, text: str) -> None:
        self.complaints.append(text)


def make_link(broker: MemoryBroker) -> Link:
    transport = MemoryTransport(broker, "coordinator")
    publisher = Publisher(transport, TOPICS, SigningKey(bytes(32)), "epoch", chunk_bytes=2048)
    return Link(transport, TOPICS, publisher, Receiver(1 << 16, 1 << 18, MemorySpool()), random.Random(1).random)


@contextmanager
def serving(broker: MemoryBroker, handler: Handler | MqttGrid | None = None) -> Iterator[tuple[Link, MemoryTransport]]:
    """A link and a device beside it."""
    link, device = make_link(broker), MemoryTransport(broker, "eve")
    link.start(handler or Handler())
    device.connect(None)
    assert link.wait_until(lambda: link.connected is not None, 5)
    try:
        yield link, device
    finally:
        link.close()


def say(device: MemoryTransport, channel: str, payload: bytes, name: str = "eve") -> None:
    device.publish(Publication(f"gs/v1/up/{name}/{channel}", payload))


def offer(attachment: bytes = b"") -> RoundOffer:
    blob = BlobRef(digest="ab" * 32, size=len(MODEL))
    manifest = RoundManifest(run="r", server_round=2, bundle=blob, model=blob, base="cd" * 32, delta=blob, work=WORK)
    return RoundOffer(manifest, attachment, {blob.digest: MODEL})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["x", "evt", "hb", "state", "?"]), st.binary(max_size=200)), max_size=20))
def test_no_bytes_end_the_link(messages: list[tuple[str, bytes]]) -> None:
    handler = Handler()
    with serving(MemoryBroker(), handler) as (link, device):
        for channel, payload in messages:
            say(device, channel, payload)
            for kind in FrameKind:
                say(device, "x", pack_frame(kind, payload))
        say(device, "x", pack_frame(FrameKind.WHOLE, b"the last"))
        assert link.wait_until(lambda: b"the last" in handler.uploads, 5)


def test_flood_of_garbage_is_a_few_lines_and_few_devices(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet, "MOST_DEVICES", 50)
    caplog.set_level(logging.WARNING)
    handler = Handler()
    with serving(MemoryBroker(), handler) as (link, device):
        for number in range(2000):
            say(device, "x", b"junk", f"d{number % 100}")
        say(device, "x", pack_frame(FrameKind.WHOLE, b"still here"), "d0")
        assert link.wait_until(lambda: bool(handler.uploads), 20)
        assert len(link.fleet.devices) == 50
    assert len(handler.complaints) == len(caplog.records) == 100
    assert "50 devices are known already" in "".join(handler.complaints)


def test_fault_of_our_own_ends_every_wait_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    handler = Handler(fault=ZeroDivisionError())
    with serving(MemoryBroker(), handler) as (link, device):
        say(device, "x", pack_frame(FrameKind.WHOLE, b"x"))
        with pytest.raises(RunError, match="failed by a fault of its own: see the log, then --resume"):
            link.wait_until(lambda: False, 20)


def test_wanted_object_is_published_once_for_many_askers_and_in_pieces_the_broker_takes() -> None:
    with serving(MemoryBroker(max_payload_bytes=1200)) as (link, device):
        with link.changed:
            link.publisher.announce(offer())
        device.subscribe(TOPICS.blob("ab" * 32))
        for _ in range(50):
            say(device, "evt", dump(Want(digest="ab" * 32)))
        say(device, "state", dump(Birth(connection=1, agent="a")))
        assert link.wait_until(lambda: link.fleet.online() == ["eve"], 5)
        taken = iter(lambda: device.receive(0.05), None)
        pieces = [event.payload for event in taken if isinstance(event, Received) and "/blob/" in event.topic]
    assert [len(piece) for piece in pieces] == [1200, 1200, 600]


def test_manifest_above_the_brokers_limit_is_refused_with_the_remedy() -> None:
    refused = pytest.raises(PayloadTooLarge, match=r"above the 2000 .* lower downlink\.budget_bytes")
    with serving(MemoryBroker(max_payload_bytes=2000)) as (link, _), link.changed, refused:
        link.publisher.announce(offer(bytes(2000)))


def sieve_messages(device: str) -> list[Message]:
    return [Message(RecordDict({ROUND: offer_to_record(offer())}), node_id_of(device), "train")]


def test_broker_that_is_away_at_the_deadline_is_no_answer() -> None:
    broker = MemoryBroker()
    link = make_link(broker)
    grid = MqttGrid(link)
    link.start(grid)
    grid.restrict(["a"])
    assert link.wait_until(lambda: link.connected is not None, 5)
    broker.stop()
    expected = r"waited 0 s for a while the broker was away \(the broker stopped\): resume the run"
    with pytest.raises(BrokerUnreachable, match=expected):
        grid.send_and_receive(sieve_messages("a"), timeout=0.2)
    link.close()


def test_lease_does_not_run_while_the_broker_is_away() -> None:
    now = [0.0]
    broker = MemoryBroker()
    link = make_link(broker)
    link._clock = lambda: now[0]
    link.start(Handler())
    device = MemoryTransport(broker, "eve")
    device.connect(None)
    say(device, "state", dump(Birth(connection=1, agent="a")))
    assert link.wait_until(lambda: link.fleet.online() == ["eve"], 5)
    broker.stop()
    assert link.wait_until(lambda: link.connected is None, 5)
    now[0] = 1000.0
    link.transport.wake()
    broker.start()
    assert link.wait_until(lambda: link.connected is not None, 5)
    assert link.fleet.online() == ["eve"]
    link.close()


def reply_to_evaluation(correct: int | None) -> Message:
    """What a grid makes of a device's score, after two that came unasked."""
    broker = MemoryBroker()
    link = make_link(broker)
    grid = MqttGrid(link)
    link.start(grid)
    device = MemoryTransport(broker, "eve")
    device.connect(None)
    assert link.wait_until(lambda: link.connected is not None, 5)
    say(device, "state", dump(Birth(connection=1, agent="a")))
    assert link.wait_until(lambda: link.fleet.online() == ["eve"], 5)
    for run, unasked in (("other", 5), ("r", 50)):
        say(device, "evt", dump(Evaluated(run=run, server_round=2, loss=0.1, correct=unasked, examples=10)))
    say(device, "state", dump(Birth(connection=1, agent="a")), "late")
    assert link.wait_until(lambda: "late" in link.fleet.online(), 5), "what came unasked was not handled first"
    message = Message(RecordDict({ROUND: offer_to_record(offer())}), node_id_of("eve"), "evaluate")
    timer = threading.Timer(
        0.1, say, (device, "evt", dump(Evaluated(run="r", server_round=2, loss=0.1, correct=correct, examples=10)))
    )
    timer.start()
    (reply,) = grid.send_and_receive([message], timeout=10)
    timer.join()
    link.close()
    return reply


def test_score_of_another_run_or_of_more_than_all_does_not_count() -> None:
    assert reply_to_evaluation(50).error.reason == "eve: claims 50 correct of 10 examples"


@pytest.mark.parametrize(
    ("correct", "figures"), [(5, {"num-examples", "loss", "correct"}), (None, {"num-examples", "loss"})]
)
def test_score_of_labels_that_are_no_classes_has_a_loss_alone(correct: int | None, figures: set[str]) -> None:
    assert set(reply_to_evaluation(correct).content.metric_records["metrics"]) == figures


def test_offers_of_one_device_do_not_shut_out_another() -> None:
    handler = Handler()
    with serving(MemoryBroker(), handler) as (_, device):
        device.subscribe(TOPICS.download("honest"))
        for number in range(10):
            say(device, "x", Open.of(bytes([number]) * 60_000, 1000).pack())
        say(device, "x", Open.of(b"h" * 60_000, 1000).pack(), "honest")
        replies = iter(lambda: device.receive(1.0), None)
        status = next(event.payload for event in replies if isinstance(event, Received))
    assert b"no room" not in status


def test_condition_and_refusals_of_a_device_are_told_to_the_operator() -> None:
    handler = Handler()
    with serving(MemoryBroker(), handler) as (link, device):
        say(device, "state", dump(Birth(connection=1, agent="a")))
        beat = Heartbeat(phase="idle", sent_bytes=0, received_bytes=0)
        say(device, "hb", dump(beat.model_copy(update={"readiness": "stop", "reasons": ("on battery", "hot")})))
        say(device, "evt", dump(Trouble(code="not_eligible", text="4 steps", run="r", server_round=2, reason="steps")))
        assert link.wait_until(lambda: len(handler.complaints) == 2, 5)
    assert handler.complaints == ["eve stops: on battery; hot", "eve declines (steps): 4 steps"]
