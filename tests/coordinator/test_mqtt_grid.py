"""Stock Flower over MqttGrid: unmodified strategies and ClientApps, on the in-memory broker and on a real one."""

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from coordinator.broker import DevBroker
from coordinator.flower_compat import node_id_of
from coordinator.link import Link
from coordinator.mqtt_grid import MqttGrid
from coordinator.publisher import Publisher
from edge_client.flower_app import FlowerNode
from shared.errors import RunError
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.paho_transport import PahoTransport
from shared.receiver import Receiver
from shared.settings import BrokerSettings
from shared.signing import SigningKey
from shared.spool import MemorySpool
from shared.topics import Topics
from shared.transport import Transport

TARGET = np.linspace(-1, 1, 1000, dtype=np.float32)

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Half of the way to the target; counts its calls in the state that Flower keeps for it."""
    weights = message.content.array_records["arrays"]["w"].numpy()
    calls = context.state.metric_records.setdefault("calls", MetricRecord({"n": 0}))
    calls["n"] = int(str(calls["n"])) + 1
    arrays = ArrayRecord({"w": Array((weights + (TARGET - weights) / 2).astype(np.float32))})
    metrics = MetricRecord({"num-examples": 10, "calls": calls["n"]})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    weights = message.content.array_records["arrays"]["w"].numpy()
    metrics = MetricRecord({"num-examples": 10, "loss": float(np.abs(weights - TARGET).mean())})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


failing_app = ClientApp()


@failing_app.train()
def fail(message: Message, context: Context) -> Message:
    raise ValueError("no data today")


def link_over(transport: Transport) -> Link:
    publisher = Publisher(transport, Topics(), SigningKey(bytes(32)), "epoch", chunk_bytes=2048)
    return Link(transport, Topics(), publisher, Receiver(1 << 20, 1 << 22, MemorySpool()), random.Random(1).random)


@contextmanager
def node(transport: Transport, name: str, client_app: ClientApp = app) -> Iterator[None]:
    stop = threading.Event()
    flower_node = FlowerNode(client_app, transport, name, random.Random(2).random, chunk_bytes=2048)
    thread = threading.Thread(target=flower_node.run, args=(stop,), name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        transport.wake()
        thread.join(10)


@contextmanager
def fleet(broker: MemoryBroker, apps: dict[str, ClientApp]) -> Iterator[MqttGrid]:
    with ExitStack() as stack:
        link = link_over(MemoryTransport(broker, "coordinator"))
        grid = MqttGrid(link, grace_seconds=0.0)
        stack.callback(link.close)
        link.start(grid)
        for name, client_app in apps.items():
            stack.enter_context(node(MemoryTransport(broker, name), name, client_app))
        assert link.wait_until(lambda: len(grid.devices()) == len(apps), 10)
        yield grid


def strategy(nodes: int) -> FedAvg:
    return FedAvg(min_train_nodes=nodes, min_evaluate_nodes=nodes, min_available_nodes=nodes)


def start_arrays() -> ArrayRecord:
    return ArrayRecord({"w": Array(np.zeros(1000, np.float32))})


def check_three_rounds(grid: MqttGrid) -> None:
    result = strategy(3).start(grid, start_arrays(), num_rounds=3, timeout=30)
    np.testing.assert_allclose(result.arrays["w"].numpy(), TARGET * (1 - 0.5**3), rtol=1e-5)
    losses = [result.evaluate_metrics_clientapp[r]["loss"] for r in (1, 2, 3)]
    assert losses == sorted(losses, reverse=True)
    assert result.train_metrics_clientapp[3]["calls"] == 3


def test_stock_fedavg_completes_rounds_with_unmodified_client_apps() -> None:
    with fleet(MemoryBroker(), {"a": app, "b": app, "c": app}) as grid:
        check_three_rounds(grid)


@pytest.mark.broker
def test_stock_fedavg_completes_rounds_over_a_real_broker() -> None:
    with DevBroker() as broker, ExitStack() as stack:
        transport = real(broker.settings, "coordinator")
        link = link_over(transport)
        grid = MqttGrid(link)
        stack.callback(link.close)
        link.start(grid)
        for name in ("a", "b", "c"):
            stack.enter_context(node(real(broker.settings, name), name))
        assert link.wait_until(lambda: len(grid.devices()) == 3, 20)
        check_three_rounds(grid)


def real(settings: BrokerSettings, name: str) -> PahoTransport:
    return PahoTransport(settings, name, random.Random(name))


def test_failing_client_app_replies_with_an_error_and_the_round_goes_on() -> None:
    with fleet(MemoryBroker(), {"a": app, "b": failing_app}) as grid:
        replies = list(grid.send_and_receive(messages(grid, "train"), timeout=30))
    errors = [reply.error.reason for reply in replies if reply.has_error()]
    assert len(replies) == 2
    assert errors == ["ValueError: no data today"]


def test_node_that_vanishes_is_an_error_long_before_the_deadline() -> None:
    broker = MemoryBroker()
    with fleet(broker, {"a": app}) as grid:
        link = grid._link
        link.fleet.expect("gone", 0.0)
        message = Message(RecordDict({"config": ConfigRecord()}), node_id_of("gone"), "train")
        (reply,) = grid.send_and_receive([message], timeout=60)
    assert reply.error.reason == "gone: went offline"


def test_message_to_an_unknown_node_says_where_ids_come_from() -> None:
    with fleet(MemoryBroker(), {"a": app}) as grid:
        message = Message(RecordDict({"config": ConfigRecord()}), 12345, "train")
        with pytest.raises(RunError, match="get_node_ids"):
            grid.send_and_receive([message], timeout=5)


def test_pushed_messages_are_pulled_once() -> None:
    with fleet(MemoryBroker(), {"a": app}) as grid:
        ids = list(grid.push_messages(messages(grid, "train")))
        assert grid._link.wait_until(lambda: all(grid._pending[i].reply for i in ids), 10)
        assert len(list(grid.pull_messages(ids))) == 1
        assert list(grid.pull_messages(ids)) == []


def messages(grid: MqttGrid, kind: str) -> list[Message]:
    record = RecordDict({"arrays": start_arrays(), "config": ConfigRecord()})
    return [Message(record, node_id, kind) for node_id in grid.get_node_ids()]
