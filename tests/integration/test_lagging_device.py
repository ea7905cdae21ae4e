"""Devices that miss rounds: what they hold in the end, and what it costs them, through both ends' own code.

Over the in-memory broker, with real agents. Only the training is left out: the trainer here keeps the model up to date.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import strategy
from coordinator.job import Downlink, Job, Sieve
from coordinator.publisher import Publisher
from coordinator.strategy import SieveStrategy
from edge_client.agent import Agent
from edge_client.model_file import ModelFile
from edge_client.orders import Answer, NeedModel, Order, Scored
from edge_client.outbox import Outbox
from edge_client.settings import EdgeSettings
from shared.bundle import BundleManifest, Growth, file_entries, pack_bundle, sign_bundle
from shared.compression.registry import codec_by_name
from shared.growth import grow
from shared.layout import Layout
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.messages import DEVICE_EVENT, EvaluateCommand, Evaluated, Want, dump, parse
from shared.signing import SigningKey, seal
from shared.topics import Topics
from shared.transport import Connected, Publication, Received

KEY = SigningKey(bytes(range(32)))
TOPICS = Topics()
RUN, ME = "lag-1", "board-1"
LAYOUT = Layout.of([("w", (100, 200), "weight"), ("b", (100,), "bias")])
MODEL_BYTES = 4 * LAYOUT.size


def bundle() -> bytes:
    files = {name: name.encode() * 10 for name in ("train.onnx", "eval.onnx")}
    manifest = BundleManifest(
        name="lag",
        version="1",
        task="classification",
        input_shape=(4,),
        num_classes=2,
        preprocessing={},
        layout=tuple((tensor.name, tensor.shape, tensor.role) for tensor in LAYOUT.tensors),
        files=file_entries(files),
        estimated_peak_bytes=1,
    )
    return pack_bundle(sign_bundle(manifest, KEY), files)


BUNDLE = bundle()
GROWTH = Growth(seed=4, spreads=((0.0, 0.1), (0.0, 0.0)))


class Follower:
    """A trainer that gets to the round's model, and has nothing to score it with."""

    def __init__(self, state: Path, growth: Growth | None) -> None:
        self._state, self._growth = state, growth
        self._answers: list[Answer] = []

    def submit(self, order: Order) -> None:
        folder = self._state / "runs" / order.run
        folder.mkdir(parents=True, exist_ok=True)
        kept = ModelFile(folder, LAYOUT)
        kept.begin(self._growth)
        model = kept.load(order.target)
        if model is None and order.model is not None:
            model = kept.replace(Path(order.model), order.target)
        elif model is None and order.chain is not None:
            model = kept.advance(Path(order.chain), order.target)
        run, server_round, target = order.run, order.server_round, order.target
        if model is None:
            self._answers.append(NeedModel(run=run, server_round=server_round, held=kept.digest()))
        else:
            scored = Scored(run=run, server_round=server_round, loss=0.5, correct=1, examples=2, model=target)
            self._answers.append(scored)

    def poll(self) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def resident_bytes(self) -> int:
        return 0

    def peak_rss_bytes(self) -> int:
        return 0

    def resident_bytes(self) -> int:
        return 0

    def close(self) -> None:
        pass


class World:
    """A coordinator that makes rounds, and the lives of one device, under one clock that only `ask` moves."""

    def __init__(
        self, state: Path, history_rounds: int = 32, budget_bytes: int = 600, growth: Growth | None = None
    ) -> None:
        self.growth = growth
        self.now, self.state, self.broker = 0.0, state, MemoryBroker()
        downlink = Downlink(budget_bytes=budget_bytes, history_rounds=history_rounds)
        job = Job(name="lag", task="watch", sieve=Sieve(prior="none"), downlink=downlink)
        self.random = np.random.default_rng(5)
        drawn = self.random.normal(size=LAYOUT.size).astype(np.float32)
        initial = grow(growth, LAYOUT) if growth else drawn
        self.strategy = SieveStrategy(job, RUN, LAYOUT, initial, BUNDLE, grows=growth is not None)
        self.server_round = 1
        self.wanted: list[str] = []
        self.answered: set[int] = set()
        self.station = MemoryTransport(self.broker, "coordinator")
        self.station.connect(None)
        self.publisher = Publisher(self.station, TOPICS, KEY, "epoch", chunk_bytes=65536)
        self.publisher.announce(self.strategy.offer(1))
        self.agent: Agent | None = None
        self.settle()

    def wake(self) -> None:
        """Begin a life of the device, if it sleeps."""
        if self.agent is None:
            addressed = EdgeSettings(
                name=ME, data=self.state, state_dir=self.state, trusted_signers=(KEY.verify_key.hex,)
            )
            self.transport = MemoryTransport(self.broker, ME)
            trainer = Follower(self.state, self.growth)
            self.agent = Agent(
                addressed,
                Outbox(self.state),
                self.transport,
                trainer,
                jitter=lambda: 0.0,
                clock=lambda: self.now,
            )
            self.agent.start()
            self.settle()

    def sleep(self) -> None:
        """End the device's life, if it is awake."""
        if self.agent is not None:
            self.agent.leave()
            self.agent = None
            self.settle()

    def next_round(self) -> None:
        """Step the model, and open the round after."""
        update = (self.random.standard_t(3, LAYOUT.size) * 0.01).astype(np.float32)
        downlink = self.strategy.job.downlink
        self.strategy.model.step(update, 0.4, 1.0, codec_by_name(downlink.codec), downlink.budget_bytes)
        self.server_round += 1
        self.publisher.announce(self.strategy.offer(self.server_round))
        self.settle()

    def ask(self) -> None:
        """Ask the device for its score, and wait until it is there, at most a minute."""
        topic = TOPICS.command(ME)
        command = EvaluateCommand(run=RUN, server_round=self.server_round, seconds=100.0)
        self.station.publish(Publication(topic, seal(KEY, topic, dump(command))))
        for _ in range(60):
            self.settle()
            if self.server_round in self.answered:
                return
            self.now += 1.0
        pytest.fail(f"no answer in round {self.server_round}: {self.agent and self.agent.phase}")

    def settle(self) -> None:
        """Let both ends handle events until there are none."""
        while self._device_step() | self._station_step():
            pass

    @property
    def held(self) -> str | None:
        """The digest of the device's model."""
        return ModelFile(self.state / "runs" / RUN, LAYOUT).digest()

    def _device_step(self) -> bool:
        return self.agent is not None and self.agent.step(0.0) is not None

    def _station_step(self) -> bool:
        event = self.station.receive(0.0)
        if isinstance(event, Connected):
            self.station.subscribe(TOPICS.all_uplinks())
            self.publisher.restate()
        if isinstance(event, Received) and event.payload and event.topic == TOPICS.device_event(ME):
            said = parse(DEVICE_EVENT, event.payload)
            if isinstance(said, Want):
                self.wanted.append(said.digest)
                self.publisher.want(said.digest)
            elif isinstance(said, Evaluated):
                self.answered.add(said.server_round)
            else:
                pytest.fail(f"the device says {said}")
        return event is not None


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.wake()
    made.ask()
    yield made
    made.sleep()


def test_device_that_is_asked_in_every_round_fetches_nothing(world: World) -> None:
    for _ in range(5):
        world.next_round()
        world.ask()
        assert world.held == world.strategy.model.digest
    assert world.wanted == []


def test_device_that_was_awake_but_not_asked_fetches_nothing(world: World) -> None:
    for _ in range(10):
        world.next_round()
    world.ask()
    assert world.held == world.strategy.model.digest
    assert world.wanted == []


@pytest.mark.parametrize("lag", [2, 3, 10])
def test_device_that_slept_fetches_the_deltas_it_missed_and_little_more(world: World, lag: int) -> None:
    for _ in range(5):
        world.next_round()
    world.ask()
    world.sleep()
    for _ in range(lag):
        world.next_round()
    world.wake()
    world.ask()
    assert world.held == world.strategy.model.digest
    offer = world.strategy.offer(world.server_round)
    assert offer.manifest.history is not None
    assert world.wanted == [offer.manifest.history.digest]
    earlier = world.strategy.model.earlier
    missed_bytes = sum(len(link.frame) for link in earlier[-(lag - 1) :])
    manifest_bytes = len(dump(offer.manifest)) + len(offer.attachment)
    all_bytes = missed_bytes + offer.manifest.history.size + manifest_bytes
    assert all_bytes < world.transport.traffic.received_bytes < all_bytes + 500 + 60 * lag


def test_device_that_slept_through_one_round_fetches_nothing(world: World) -> None:
    world.sleep()
    world.next_round()
    world.wake()
    world.ask()
    assert world.held == world.strategy.model.digest
    assert world.wanted == []


def test_device_that_slept_longer_than_the_history_fetches_the_whole_model(tmp_path: Path) -> None:
    world = World(tmp_path, history_rounds=3)
    world.wake()
    world.ask()
    world.sleep()
    for _ in range(5):
        world.next_round()
    world.wake()
    world.ask()
    assert world.held == world.strategy.model.digest
    offer = world.strategy.offer(world.server_round)
    assert offer.manifest.history is not None
    assert world.wanted == [offer.manifest.history.digest, offer.manifest.model.digest]


def test_device_whose_deltas_would_cost_more_than_the_model_fetches_the_model(tmp_path: Path) -> None:
    world = World(tmp_path, budget_bytes=30_000)
    world.wake()
    world.ask()
    world.sleep()
    for _ in range(16):
        world.next_round()
    world.wake()
    world.ask()
    assert world.held == world.strategy.model.digest
    assert world.wanted[-1] == world.strategy.offer(world.server_round).manifest.model.digest
    assert world.transport.traffic.received_bytes < MODEL_BYTES + 35_000


def test_large_deltas_that_are_never_attached_are_fetched_one_by_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "LARGEST_INLINE_BYTES", 100)
    for _ in range(3):
        world.next_round()
    delta = world.strategy.offer(world.server_round).manifest.delta
    assert delta is not None
    assert delta.offset is None
    world.ask()
    assert world.held == world.strategy.model.digest
    assert world.strategy.model.digest not in world.wanted


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100_000])
def test_device_whose_model_was_damaged_fetches_the_whole_one(world: World, damage: bytes) -> None:
    (world.state / "runs" / RUN / "model.bin").write_bytes(damage)
    world.next_round()
    world.ask()
    assert world.held == world.strategy.model.digest
    assert world.wanted[-1] == world.strategy.model.digest


def test_device_that_grows_the_first_model_downloads_the_bundle_alone(tmp_path: Path) -> None:
    world = World(tmp_path, growth=GROWTH)
    world.wake()
    world.ask()
    assert world.held == world.strategy.model.digest
    assert world.wanted == []
    assert world.transport.traffic.received_bytes < len(BUNDLE) + 3000 < MODEL_BYTES


def test_device_that_joins_late_goes_by_deltas_from_the_model_it_grew(tmp_path: Path) -> None:
    world = World(tmp_path, growth=GROWTH)
    for _ in range(6):
        world.next_round()
    world.wake()
    world.ask()
    assert world.held == world.strategy.model.digest
    assert world.strategy.model.digest not in world.wanted
    assert world.transport.traffic.received_bytes < MODEL_BYTES / 4


def test_device_whose_grown_model_is_older_than_the_history_fetches_the_whole_one(tmp_path: Path) -> None:
    world = World(tmp_path, history_rounds=3, growth=GROWTH)
    for _ in range(6):
        world.next_round()
    world.wake()
    world.ask()
    assert world.held == world.strategy.model.digest
    assert world.wanted[-1] == world.strategy.model.digest


@settings(max_examples=40, deadline=None)
@given(
    fates=st.lists(st.sampled_from(["asked", "idle", "asleep", "asleep", "reboot", "broker", "void"]), max_size=14),
    history_rounds=st.sampled_from([0, 1, 3, 32]),
)
def test_device_of_any_fate_holds_the_coordinators_model_whenever_it_is_asked(
    fates: list[str], history_rounds: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And it fetches the whole model only if the model that it held is older than the history."""
    world = World(tmp_path_factory.mktemp("state"), history_rounds)
    world.wake()
    world.ask()
    models = [world.strategy.model.digest]
    for fate in [*fates, "asked"]:
        if fate == "asleep":
            world.sleep()
        elif fate == "broker":
            world.broker.stop()
            world.broker.start()
            world.settle()
        elif fate == "reboot":
            world.sleep()
            world.wake()
        if fate == "void":
            world.server_round += 1
            world.publisher.announce(world.strategy.offer(world.server_round))
        else:
            world.next_round()
            models.append(world.strategy.model.digest)
        if fate in ("asked", "void"):
            lag = len(models) - 1 - models.index(str(world.held))
            world.wanted.clear()
            world.wake()
            world.ask()
            assert world.held == world.strategy.model.digest
            assert lag > history_rounds + 1 or world.strategy.model.digest not in world.wanted
    world.sleep()


def test_history_costs_the_manifest_the_same_in_every_round(world: World) -> None:
    sizes = []
    for _ in range(12):
        world.next_round()
        offer = world.strategy.offer(world.server_round)
        bare = offer.manifest.model_copy(update={"history": None})
        sizes.append(len(dump(offer.manifest)) - len(dump(bare)))
    assert sizes[0] == 0
    assert all(98 <= size <= 100 for size in itertools.islice(sizes, 1, None))
