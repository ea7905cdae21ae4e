"""Every stock strategy of the installed Flower, unchanged, over MqttGrid with sieved updates: it trains on digits."""

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import adaptiveclipping_mod, fixedclipping_mod
from flwr.clientapp.typing import Mod
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from torch import nn
from torch.nn import functional

from coordinator.broker import DevBroker
from coordinator.flower_compat import node_id_of
from coordinator.link import Link
from coordinator.mqtt_grid import MqttGrid
from coordinator.publisher import Publisher
from coordinator.sieved_grid import SievedGrid
from coordinator.tasks.examples import Examples
from edge_client.flower_app import FlowerNode
from edge_client.flower_sieve import SieveMod
from shared.errors import SettingsError
from shared.flower_records import FRAME, SIEVED
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.paho_transport import PahoTransport
from shared.receiver import Receiver
from shared.signing import SigningKey
from shared.spool import MemorySpool
from shared.topics import Topics
from shared.transport import Transport

digits = pytest.importorskip("coordinator.tasks.digits", reason="the task digits needs scikit-learn")
pytest.importorskip("sklearn", reason="the task digits needs scikit-learn")

CLIENTS, ROUNDS, RATIO = 8, 5, 20.0
STEPS, BATCH, RATE = 25, 32, 0.1
CHANCE = 0.1


@pytest.fixture(scope="module")
def data() -> tuple[Examples, Examples]:
    loaded: tuple[Examples, Examples] = digits.load()
    return loaded


def net() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


def client_app(data: tuple[Examples, Examples], mods: list[Mod]) -> ClientApp:
    x, y = torch.from_numpy(data[0].x), torch.from_numpy(data[0].y)
    owners = {node_id_of(f"client-{number}"): number for number in range(CLIENTS)}
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        own = slice(owners[message.metadata.dst_node_id], None, CLIENTS)
        model, order = net(), np.random.default_rng(own.start)
        model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        with torch.inference_mode():  # QFedAvg asks for the loss of the model that was received
            received_loss = float(functional.cross_entropy(model(x[own]), y[own]))
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
        for _ in range(STEPS):
            rows = torch.from_numpy(order.integers(0, len(y[own]), BATCH))
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x[own][rows]), y[own][rows])
            torch.autograd.backward(loss)
            optimizer.step()
        metrics = MetricRecord({"num-examples": len(y[own]), "train_loss": received_loss})
        arrays = ArrayRecord(model.state_dict())
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def accuracy(arrays: ArrayRecord, test: Examples) -> float:
    model = net()
    model.load_state_dict(arrays.to_torch_state_dict())
    with torch.inference_mode():
        return float((model(torch.from_numpy(test.x)).argmax(1).numpy() == test.y).mean())


@contextmanager
def nodes(app: ClientApp, transports: list[Transport]) -> Iterator[None]:
    stop, threads = threading.Event(), []
    for number, transport in enumerate(transports):
        node = FlowerNode(app, transport, f"client-{number}", random.Random(number).random)
        threads.append(threading.Thread(target=node.run, args=(stop,), name=f"client-{number}"))
        threads[-1].start()
    try:
        yield
    finally:
        stop.set()
        for transport, thread in zip(transports, threads, strict=True):
            transport.wake()
            thread.join(10)


@contextmanager
def grid_over(transport: Transport) -> Iterator[SievedGrid]:
    publisher = Publisher(transport, Topics(), SigningKey(bytes(32)), "epoch", chunk_bytes=65536)
    link = Link(transport, Topics(), publisher, Receiver(1 << 20, 1 << 24, MemorySpool()), random.Random(1).random)
    grid = MqttGrid(link)
    link.start(grid)
    try:
        assert link.wait_until(lambda: len(grid.devices()) == CLIENTS, 20)
        yield SievedGrid(grid)
    finally:
        link.close()


def trained(strategy: Strategy, data: tuple[Examples, Examples], mods: list[Mod]) -> tuple[float, SievedGrid]:
    """Accuracy on the test images after a few rounds over the in-memory broker."""
    broker = MemoryBroker()
    with ExitStack() as stack:
        transports: list[Transport] = [MemoryTransport(broker, f"client-{n}") for n in range(CLIENTS)]
        stack.enter_context(nodes(client_app(data, mods), transports))
        grid = stack.enter_context(grid_over(MemoryTransport(broker, "coordinator")))
        result = strategy.start(
            grid=grid, initial_arrays=ArrayRecord(net().state_dict()), num_rounds=ROUNDS, timeout=60
        )
        return accuracy(result.arrays, data[1]), grid


ALL: dict[str, Any] = {"fraction_evaluate": 0.0, "min_train_nodes": CLIENTS, "min_available_nodes": CLIENTS}
STOCK: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedProx": {"proximal_mu": 0.01},
    "FedAvgM": {"server_learning_rate": 1.0, "server_momentum": 0.3},
    "FedAdam": {"eta": 0.03},
    "FedAdagrad": {"eta": 0.1},
    "FedYogi": {"eta": 0.03},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.2},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 5},
    "Bulyan": {"num_malicious_nodes": 1},
    "QFedAvg": {"client_learning_rate": RATE, "q": 0.1, "train_loss_key": "train_loss"},
}


def test_every_stock_strategy_is_tested() -> None:
    """A new Flower may bring new ones: they belong here, or here with a reason."""
    elsewhere = {"Result", "Strategy", "FedXgbBagging", "FedXgbCyclic"}  # trees have no arrays to sieve
    wrappers = {name for name in dir(flower) if name.startswith("DifferentialPrivacy")}
    assert {name for name in dir(flower) if name[0].isupper()} == set(STOCK) | wrappers | elsewhere


@pytest.mark.parametrize("name", STOCK)
def test_a_stock_strategy_trains_on_sieved_updates(name: str, data: tuple[Examples, Examples]) -> None:
    strategy: Strategy = getattr(flower, name)(**ALL, **STOCK[name])
    reached, grid = trained(strategy, data, [SieveMod(RATIO)])
    assert reached > 4 * CHANCE
    assert grid.traffic.updates == CLIENTS * ROUNDS
    assert grid.traffic.ratio > 0.9 * RATIO


@pytest.mark.parametrize(
    ("wrapper", "options", "mods"),
    [
        ("DifferentialPrivacyServerSideFixedClipping", {"noise_multiplier": 0.02, "clipping_norm": 3.0}, []),
        (
            "DifferentialPrivacyServerSideAdaptiveClipping",
            {"noise_multiplier": 0.02, "initial_clipping_norm": 3.0},
            [],
        ),
        (
            "DifferentialPrivacyClientSideFixedClipping",
            {"noise_multiplier": 0.02, "clipping_norm": 3.0},
            [fixedclipping_mod],
        ),
        (
            "DifferentialPrivacyClientSideAdaptiveClipping",
            {"noise_multiplier": 0.02, "initial_clipping_norm": 3.0},
            [adaptiveclipping_mod],
        ),
    ],
)
def test_a_wrapper_for_privacy_trains_on_sieved_updates(
    wrapper: str, options: dict[str, float], mods: list[Mod], data: tuple[Examples, Examples]
) -> None:
    strategy = getattr(flower, wrapper)(FedAvg(**ALL), num_sampled_clients=CLIENTS, **options)
    reached, grid = trained(strategy, data, [SieveMod(RATIO), *mods])
    assert reached > 3 * CHANCE
    assert grid.traffic.ratio > 0.9 * RATIO


@pytest.mark.broker
def test_the_same_works_over_a_real_broker(data: tuple[Examples, Examples]) -> None:
    with DevBroker() as broker, ExitStack() as stack:
        transports: list[Transport] = [
            PahoTransport(broker.settings, f"client-{n}", random.Random(n)) for n in range(CLIENTS)
        ]
        stack.enter_context(nodes(client_app(data, [SieveMod(RATIO)]), transports))
        grid = stack.enter_context(grid_over(PahoTransport(broker.settings, "coordinator", random.Random(9))))
        arrays = ArrayRecord(net().state_dict())
        result = FedAvg(**ALL).start(grid=grid, initial_arrays=arrays, num_rounds=3, timeout=60)
        assert accuracy(result.arrays, data[1]) > 4 * CHANCE


def request(arrays: ArrayRecord, kind: str = "train") -> Message:
    return Message(RecordDict({"arrays": arrays}), 7, kind)


def context() -> Context:
    return Context(1, 7, node_config={}, state=RecordDict(), run_config={})


def test_what_a_frame_does_not_deliver_is_added_to_the_next_update() -> None:
    random_ = np.random.default_rng(3)
    before, step = random_.standard_normal((2, 40, 50)).astype(np.float32)
    mod, kept, sent = SieveMod(ratio=20), context(), np.zeros((40, 50), np.float32)

    def once(message: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": ArrayRecord({"w": Array(before + step)})}), reply_to=message)

    def idle(message: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": ArrayRecord({"w": Array(before)})}), reply_to=message)

    grid = SievedGrid(MqttGrid.__new__(MqttGrid))
    for number in range(60):
        asked = request(ArrayRecord({"w": Array(before)}))
        asked.metadata.__dict__["_message_id"] = f"m{number}"
        reply = mod(asked, kept, idle if number else once)
        assert len(reply.content.config_records[SIEVED][FRAME]) <= 400  # type: ignore[arg-type]
        grid._remember(f"m{number}", asked)
        reply.metadata.__dict__["_reply_to_message_id"] = f"m{number}"
        sent += grid._whole(reply).content.array_records["arrays"]["w"].numpy() - before
    assert np.linalg.norm(sent - step) < 0.15 * np.linalg.norm(step)


def test_other_messages_and_other_types_pass_untouched() -> None:
    arrays = ArrayRecord({"w": Array(np.ones((4, 4), np.float32)), "steps": Array(np.array([3], np.int64))})

    def same(message: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    asked = request(arrays, "evaluate")
    assert SIEVED not in SieveMod()(asked, context(), same).content.config_records
    sieved = SieveMod()(request(arrays), context(), same)
    assert list(sieved.content.array_records["arrays"]) == ["steps"]


@pytest.mark.parametrize("frame", [b"", b"\xff" * 30, b"\x01\x00", "text"])
def test_a_frame_that_cannot_be_read_is_an_error_and_not_an_update(frame: bytes | str) -> None:
    grid, asked = (
        SievedGrid(MqttGrid.__new__(MqttGrid)),
        request(ArrayRecord({"w": Array(np.ones((4, 4), np.float32))})),
    )
    asked.metadata.__dict__["_message_id"] = "m"
    grid._remember("m", asked)
    reply = Message(
        RecordDict({"arrays": ArrayRecord(), SIEVED: ConfigRecord({FRAME: frame} if frame else {})}), reply_to=asked
    )
    reply.metadata.__dict__["_reply_to_message_id"] = "m"
    assert grid._whole(reply).has_error()
    assert grid.traffic.updates == 0


def test_a_reply_of_other_arrays_than_the_request_is_the_apps_error() -> None:
    def other(message: Message, context: Context) -> Message:
        return Message(RecordDict({"arrays": ArrayRecord({"v": Array(np.ones(4, np.float32))})}), reply_to=message)

    with pytest.raises(SettingsError, match="other names"):
        SieveMod()(request(ArrayRecord({"w": Array(np.ones(4, np.float32))})), context(), other)


def test_a_ratio_below_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 1"):
        SieveMod(ratio=0.5)
