"""Whole agents over the in-memory broker, with a scripted coordinator and a trainer that only writes files."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_client.agent import Agent, agent_version
from edge_client.gate import GateLimits, Reading
from edge_client.orders import Answer, Failed, NeedModel, Order, Scored, Trained, TrainOrder, failed
from edge_client.outbox import Outbox
from edge_client.pending import PendingStore, PendingUpdate
from edge_client.policy import Policy
from edge_client.settings import EdgeSettings
from edge_client.trainer_process import ProcessTrainer
from shared.blobs import chunks_of
from shared.bundle import BundleManifest, file_entries, pack_bundle, sign_bundle
from shared.delta_chain import Link, pack_chain
from shared.errors import BrokerUnreachable
from shared.frame import unpack_frame
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.messages import (
    DEVICE_EVENT,
    DEVICE_STATE,
    Birth,
    BlobRef,
    CancelCommand,
    Death,
    EvaluateCommand,
    Evaluated,
    Heartbeat,
    LocalWork,
    Message,
    RoundManifest,
    TrainCommand,
    Trouble,
    Want,
    dump,
    parse,
)
from shared.receiver import Completed, Outcome, Receiver
from shared.signing import SigningKey, seal
from shared.spool import MemorySpool
from shared.topics import Topics
from shared.transport import Publication, Received
from shared.update import base_tag
from shared.varint import write_varint
from shared.verdicts import Ruling, Verdict

if TYPE_CHECKING:
    from tests.edge_client.conftest import Lab

KEY = SigningKey(bytes(32))
TOPICS = Topics()
ME = "board-1"
CHUNK_BYTES = 1024
MODEL = bytes(range(256)) * 20
DELTA, PLAN = b"delta", b"plan"
WORK = LocalWork(steps=3, batch_size=8, learning_rate=0.1, momentum=0.9, codec="partition", seed=1)
BASE = hashlib.sha256(b"the model before").hexdigest()
CHAIN = pack_chain([Link(base_tag(BASE), DELTA)])


def bundle(key: SigningKey = KEY, peak_bytes: int = 1) -> bytes:
    files = {name: name.encode() * 10 for name in ("train.onnx", "eval.onnx")}
    manifest = BundleManifest(
        name="task",
        version="1",
        task="classification",
        input_shape=(4,),
        num_classes=2,
        preprocessing={},
        layout=(("w", (2, 4), "weight"),),
        files=file_entries(files),
        estimated_peak_bytes=peak_bytes,
    )
    return pack_bundle(sign_bundle(manifest, key), files)


def ref(content: bytes, offset: int | None = None) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), offset=offset)


class FakeTrainer:
    """Commits an update of `object_bytes` for every order, as far as it holds the base."""

    def __init__(self, state: Path, *, has_base: bool = True, object_bytes: int = 100) -> None:
        self.orders: list[Order] = []
        self.closed = False
        self.resident = 0
        self._state, self._has_base, self._object_bytes = state, has_base, object_bytes
        self._answers: list[Answer] = []

    def submit(self, order: Order) -> None:
        self.orders.append(order)
        self._answers.append(self._carry_out(order))

    def poll(self) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def peak_rss_bytes(self) -> int:
        return 77

    def resident_bytes(self) -> int:
        return self.resident

    def close(self) -> None:
        self.closed = True

    def _carry_out(self, order: Order) -> Answer:
        run, server_round, target = order.run, order.server_round, order.target
        if order.model is not None:
            if hashlib.sha256(Path(order.model).read_bytes()).hexdigest() != target:
                return Failed(run=run, server_round=server_round, code="trainer_failed", text="not the model")
        elif not self._has_base:
            return NeedModel(run=run, server_round=server_round)
        if not isinstance(order, TrainOrder):
            return Scored(run=run, server_round=server_round, loss=0.5, correct=3, examples=4, model=target)
        content = (f"{run} {server_round} ".encode() * self._object_bytes)[: self._object_bytes]
        folder = self._state / "runs" / run
        PendingStore(folder).commit(PendingUpdate(run, server_round, target, 3, content), b"\0" * 8)
        return Trained(run=run, server_round=server_round, object_bytes=len(content), steps=3, model=target)


class Coordinator:
    """Publishes a round, answers wants and uploads, and keeps what devices said."""

    def __init__(self, broker: MemoryBroker, clock: Callable[[], float]) -> None:
        self.transport = MemoryTransport(broker, "coordinator")
        self.verdict: Verdict | None = Verdict.DONE
        self.updates: list[bytes] = []
        self.said: list[Message] = []
        self.blobs: dict[str, bytes] = {}
        self._clock = clock
        self._receiver = Receiver(1 << 20, 1 << 20, MemorySpool())
        self.transport.connect(None)
        self.transport.subscribe(TOPICS.all_uplinks())

    def open(self, server_round: int = 1, *, archive: bytes | None = None) -> None:
        """Publish a round that leads from `BASE` to `MODEL`; its bundle and model come when they are wanted."""
        archive = bundle() if archive is None else archive
        manifest = RoundManifest(
            run="a",
            server_round=server_round,
            bundle=ref(archive),
            model=ref(MODEL),
            base=BASE,
            delta=ref(DELTA, 0),
            plan=ref(PLAN, len(DELTA)),
            work=WORK,
        )
        self.publish(manifest, DELTA + PLAN, (archive, MODEL))

    def publish(self, manifest: RoundManifest, attachment: bytes, blobs: tuple[bytes, ...]) -> None:
        self.blobs = {ref(content).digest: content for content in blobs}
        text = dump(manifest)
        self._say(TOPICS.round_manifest(manifest.run), write_varint(len(text)) + text + attachment, retain=True)

    def command(self, command: Message) -> None:
        self._say(TOPICS.command(ME), dump(command))

    def step(self) -> bool:
        """Handle one event; False when there was none."""
        event = self.transport.receive(0.0)
        if isinstance(event, Received) and event.payload:
            self._hear(TOPICS.parse_uplink(event.topic).channel, event.payload)
        return event is not None

    def reports(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.said if isinstance(message, kind)]

    def _hear(self, channel: str, payload: bytes) -> None:
        if channel == "x":
            self._receive(self._receiver.on_frame(ME, unpack_frame(payload), self._clock()))
        elif channel == "hb":
            self.said.append(Heartbeat.model_validate_json(payload))
        else:
            message: Message = parse(DEVICE_STATE, payload) if channel == "state" else parse(DEVICE_EVENT, payload)
            self.said.append(message)
            if isinstance(message, Want):
                self.publish_blob(message.digest)

    def _receive(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Completed):
                self.updates.append(outcome.content)
                if self.verdict is None:
                    continue
                outcome = self._receiver.conclude(ME, outcome.transfer_id, Ruling(self.verdict))
            self.transport.publish(Publication(TOPICS.download(ME), outcome.payload))

    def publish_blob(self, digest: str) -> None:
        for index, chunk in enumerate(chunks_of(self.blobs[digest], CHUNK_BYTES)):
            self.transport.publish(Publication(TOPICS.blob_chunk(digest, index), chunk, retain=True))

    def _say(self, topic: str, body: bytes, *, retain: bool = False) -> None:
        self.transport.publish(Publication(topic, seal(KEY, topic, body), retain=retain))


class World:
    """A broker, a coordinator and the lives of one device, under one clock that only `pass_time` moves."""

    def __init__(self, state: Path) -> None:
        self.now = 1000.0
        self.reading = Reading()
        self.broker = MemoryBroker()
        self.coordinator = Coordinator(self.broker, lambda: self.now)
        self.state = state
        self.born()

    def born(
        self,
        *,
        has_base: bool = True,
        object_bytes: int = 100,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        gate: GateLimits = GateLimits(),  # noqa: B008 - frozen
    ) -> None:
        """Start a new life of the device from its state directory."""
        settings = EdgeSettings(name=ME, data=self.state, state_dir=self.state, trusted_signers=(KEY.verify_key.hex,))
        settings = settings.model_copy(
            update={"broker": settings.broker.model_copy(update={"max_chunk_bytes": CHUNK_BYTES}), "gate": gate}
        )
        self.trainer = FakeTrainer(self.state, has_base=has_base, object_bytes=object_bytes)
        self.transport = MemoryTransport(self.broker, ME)
        self.agent = Agent(
            settings,
            Outbox(self.state),
            self.transport,
            self.trainer,
            jitter=lambda: 0.0,
            clock=lambda: self.now,
            wall_clock=lambda: self.now,
            policy=policy,
            read_board=lambda: self.reading,
        )
        self.agent.start()

    def settle(self) -> None:
        """Let both ends handle events until there are none."""
        while (self.agent.step(0.0) is not None) | self.coordinator.step():
            pass

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            self.settle()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.agent.leave()


TRAIN = TrainCommand(run="a", server_round=1, seconds=100)


def test_one_round_from_command_to_settled_update(world: World) -> None:
    world.coordinator.open()
    world.settle()
    assert world.coordinator.reports(Birth)
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    assert len(world.coordinator.reports(Want)) == 1
    [order] = world.trainer.orders
    assert isinstance(order, TrainOrder)
    assert order.chain is not None
    assert order.plan is not None
    assert (Path(order.chain).read_bytes(), Path(order.plan).read_bytes()) == (CHAIN, PLAN)
    assert Path(order.bundle).read_bytes() == bundle()
    assert len(world.coordinator.updates) == 1
    assert Outbox(world.state).recover().settled_rounds == (("a", 1),)
    assert world.agent.phase == "idle"


def test_second_round_needs_no_new_bundle(world: World) -> None:
    world.coordinator.open()
    world.coordinator.command(TRAIN)
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    world.coordinator.open(2)
    world.coordinator.command(TrainCommand(run="a", server_round=2, seconds=100))
    world.settle()
    assert len(world.coordinator.updates) == 2
    assert len(world.coordinator.reports(Want)) == 1


def test_device_without_the_base_fetches_the_model_in_chunks(world: World) -> None:
    world.agent.leave()
    world.born(has_base=False)
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(12)
    assert [order.model is None for order in world.trainer.orders] == [True, False]
    assert len(world.coordinator.updates) == 1


def test_crash_before_the_verdict_offers_the_update_again_at_the_next_start(world: World) -> None:
    world.coordinator.verdict = None
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    assert len(world.coordinator.updates) == 1
    world.coordinator = Coordinator(world.broker, lambda: world.now)
    world.born()
    world.settle()
    assert world.coordinator.updates == [b"a 1 " * 25]
    assert world.trainer.orders == []
    assert Outbox(world.state).recover().settled_rounds == (("a", 1),)
    assert world.coordinator.reports(Birth)[-1] == Birth(connection=2, agent=agent_version())


def test_lost_link_resumes_a_chunked_upload(world: World) -> None:
    world.agent.leave()
    world.born(object_bytes=20 * CHUNK_BYTES)
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    while not world.trainer.orders:
        world.now += 1.0
        world.agent.step(0.0)
        world.coordinator.step()
    for _ in range(6):
        world.agent.step(0.0)
        world.coordinator.step()
    assert world.coordinator.updates == []
    world.broker.disconnect(ME)
    world.pass_time(5)
    assert [len(update) for update in world.coordinator.updates] == [20 * CHUNK_BYTES]
    assert len(world.trainer.orders) == 1
    assert len(world.coordinator.reports(Birth)) == 2
    assert Outbox(world.state).recover().unsettled == ()


def test_bundle_of_a_stranger_is_refused_and_reported(world: World) -> None:
    world.coordinator.open(archive=bundle(SigningKey(b"s" * 32)))
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    [trouble] = world.coordinator.reports(Trouble)
    assert isinstance(trouble, Trouble)
    assert trouble.code == "bundle_refused"
    assert "not among the trusted keys" in trouble.text
    assert world.trainer.orders == []


def test_evaluation_is_reported(world: World) -> None:
    world.coordinator.open()
    world.settle()
    world.coordinator.command(EvaluateCommand(run="a", server_round=1, seconds=100))
    world.pass_time(6)
    expected = Evaluated(run="a", server_round=1, loss=0.5, correct=3, examples=4)
    assert world.coordinator.reports(Evaluated) == [expected]


def test_cancel_removes_the_runs_files_and_sends_counters(world: World) -> None:
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    world.coordinator.command(CancelCommand(run="a"))
    world.settle()
    assert not (world.state / "runs" / "a").exists()
    heartbeat = world.coordinator.reports(Heartbeat)[-1]
    assert isinstance(heartbeat, Heartbeat)
    assert heartbeat.phase == "idle"
    assert heartbeat.sent_bytes > 100
    assert heartbeat.received_bytes > len(bundle())
    assert heartbeat.peak_rss_bytes > 1 << 20
    assert heartbeat.trainer_peak_rss_bytes == 77


def test_leaving_publishes_the_death_of_this_life_and_ends_the_trainer(world: World) -> None:
    world.settle()
    world.agent.leave()
    world.coordinator.step()
    assert world.coordinator.said[-1] == Death(connection=1)
    assert world.trainer.closed


def test_bundle_that_cannot_be_stored_is_reported(world: World) -> None:
    (world.state / "bundles").rmdir()
    (world.state / "bundles").write_text("not a folder")
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    [trouble] = world.coordinator.reports(Trouble)
    assert isinstance(trouble, Trouble)
    assert "cannot be stored" in trouble.text


def test_bundle_that_does_not_fit_is_refused_with_both_numbers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_client.checks.available_bytes", lambda: 40_000_000)
    world.trainer.resident = 2_000_000
    (world.state / "a.npz").write_bytes(b"x")
    world.coordinator.open(archive=bundle(peak_bytes=55_999_998))  # and three times the data file of one byte
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    [trouble] = world.coordinator.reports(Trouble)
    assert isinstance(trouble, Trouble)
    assert trouble.code == "bundle_refused"
    assert "training needs about 56000001 bytes of memory, 56000000 are available" in trouble.text
    assert world.trainer.orders == []


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_verdict_that_could_not_be_recorded_is_repeated_once_there_is_space(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "settle", full)
        world.pass_time(40)
    assert "state directory: [Errno 28] No space left on device: check space and rights" in caplog.text
    assert world.coordinator.reports(Heartbeat)
    world.coordinator.open(2)
    world.coordinator.command(TrainCommand(run="a", server_round=2, seconds=100))
    world.settle()
    assert len(world.trainer.orders) == 1
    world.pass_time(60)
    assert [order.server_round for order in world.trainer.orders] == [1, 2]
    assert Outbox(world.state).recover().settled_rounds == (("a", 2),)


def test_order_whose_files_cannot_be_written_fails_and_the_next_succeeds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.coordinator.open()
    world.settle()
    world.coordinator.command(EvaluateCommand(run="a", server_round=1, seconds=100))
    world.pass_time(6)
    world.trainer.orders.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "keep", full)
        world.coordinator.command(TRAIN)
        world.settle()
    assert world.trainer.orders == []
    [trouble] = world.coordinator.reports(Trouble)
    assert isinstance(trouble, Trouble)
    assert (trouble.code, trouble.server_round) == ("trainer_failed", 1)
    assert "No space left on device" in trouble.text
    world.coordinator.command(TRAIN)
    world.settle()
    assert len(world.coordinator.updates) == 1


def test_update_that_cannot_be_read_back_is_offered_after_the_next_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "pending", full)
        world.pass_time(6)
    assert world.coordinator.updates == []
    monkeypatch.setattr(world.trainer, "_carry_out", lambda order: failed(order, "not_eligible", "waits"))
    world.coordinator.open(2)
    world.coordinator.command(TrainCommand(run="a", server_round=2, seconds=100))
    world.settle()
    assert len(world.coordinator.updates) == 1
    assert Outbox(world.state).recover().settled_rounds == (("a", 1),)


def test_ordered_bundle_counts_as_used(world: World) -> None:
    world.coordinator.open()
    world.settle()
    world.coordinator.command(EvaluateCommand(run="a", server_round=1, seconds=100))
    world.pass_time(6)
    archive = Path(world.trainer.orders[0].bundle)
    os.utime(archive, (0, 0))
    world.coordinator.command(TRAIN)
    world.settle()
    assert archive.stat().st_mtime > 0


def test_heartbeat_that_cannot_be_made_keeps_the_device_on_the_air(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.settle()
    with monkeypatch.context() as patch:
        patch.setattr(world.trainer, "peak_rss_bytes", full)
        world.pass_time(31)
    assert "SendHeartbeat: [Errno 28] No space left on device" in caplog.text
    world.pass_time(31)
    assert world.coordinator.reports(Heartbeat)


def test_absent_broker_is_named_when_the_agent_gives_up(world: World) -> None:
    world.agent.leave()
    world.broker.stop()
    world.born()
    clock = iter(range(1000, 1100))
    world.agent._clock = lambda: float(next(clock))
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1883 within 5 s: the broker is stopped"):
        world.agent.run(threading.Event(), connect_seconds=5)


def test_stopped_agent_leaves(world: World) -> None:
    stop = threading.Event()
    stop.set()
    world.agent.run(stop)
    assert world.trainer.closed


def until(condition: Callable[[], bool], agent: Agent, coordinator: Coordinator) -> None:
    """Let both ends work in real time until `condition` holds."""
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up, agent.phase
        agent.step(0.1)
        while coordinator.step():
            pass


def test_agent_and_trainer_process_carry_a_round_from_model_to_update(lab: "Lab", tmp_path: Path) -> None:
    model = lab.model.read_bytes()
    broker, state = MemoryBroker(), tmp_path / "device"
    coordinator = Coordinator(broker, time.monotonic)
    transport = MemoryTransport(broker, ME)
    settings = EdgeSettings(name=ME, data=lab.data, state_dir=state, trusted_signers=(KEY.verify_key.hex,))
    trainer = ProcessTrainer(state, lab.data, transport.wake)
    agent = Agent(settings, Outbox(state), transport, trainer)
    agent.start()
    archive, work = lab.task.archive, WORK.model_copy(update={"codec": "dense"})
    manifest = RoundManifest(run="a", server_round=1, bundle=ref(archive), model=ref(model), work=work)
    coordinator.publish(manifest, b"", (archive, model))
    for digest in coordinator.blobs:
        coordinator.publish_blob(digest)
    until(lambda: bool(coordinator.reports(Birth)), agent, coordinator)
    coordinator.command(TRAIN)
    until(lambda: bool(coordinator.updates or coordinator.reports(Trouble)), agent, coordinator)
    agent.leave()
    assert coordinator.reports(Trouble) == []
    [content] = coordinator.updates
    assert len(content) > len(model)
    assert trainer.peak_rss_bytes() > 1 << 20


def test_bytes_of_the_day_hold_over_a_restart(world: World) -> None:
    policy = Policy(upload_bytes_a_day=200)
    world.agent.leave()
    world.born(policy=policy)
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    assert len(world.coordinator.updates) == 1
    world.agent.leave()
    world.born(policy=policy)
    world.coordinator.open(2)
    world.settle()
    world.coordinator.command(TrainCommand(run="a", server_round=2, seconds=100))
    world.pass_time(90)
    assert len(world.coordinator.updates) == 1
    [trouble] = world.coordinator.reports(Trouble)
    assert isinstance(trouble, Trouble)
    assert trouble.reason == "upload_bytes"
    world.now += 86_400
    world.pass_time(90)
    assert [update[:3] for update in world.coordinator.updates] == [b"a 1", b"a 2"]  # what was kept back goes out


def test_update_from_before_noise_was_asked_for_is_never_sent(world: World) -> None:
    world.coordinator.verdict = None
    world.coordinator.open()
    world.settle()
    world.coordinator.command(TRAIN)
    world.pass_time(6)
    assert len(world.coordinator.updates) == 1
    world.agent.leave()
    world.coordinator = Coordinator(world.broker, lambda: world.now)
    world.born(policy=Policy.model_validate({"privacy": {"clip_norm": 1.0, "noise_multiplier": 1.0}}))
    world.pass_time(90)
    assert world.coordinator.updates == []
    assert PendingStore(world.state / "runs" / "a").unsettled() is None


def test_condition_of_the_board_reaches_the_coordinator_and_holds_the_work(world: World) -> None:
    world.agent.leave()
    world.born(gate=GateLimits(hottest_celsius=75))
    world.coordinator.open()
    world.settle()
    world.reading = Reading(celsius=80.0)
    world.pass_time(10)
    beat = world.coordinator.reports(Heartbeat)[-1]
    assert isinstance(beat, Heartbeat)
    assert (beat.readiness, beat.reasons) == ("wait", ("the board has 80 °C, gate.hottest_celsius = 75",))
    world.coordinator.command(TRAIN)
    world.pass_time(20)
    assert not world.trainer.orders
    world.reading = Reading(celsius=60.0)
    world.pass_time(10)
    assert world.trainer.orders[0].rules.hottest_celsius == 75
    beat = world.coordinator.reports(Heartbeat)[-1]
    assert isinstance(beat, Heartbeat)
    assert beat.readiness == "go"
