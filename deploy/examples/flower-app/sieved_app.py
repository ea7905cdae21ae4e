"""An ordinary Flower app; two lines of it are gradsieve's: the client's mod, and the grid around the server's."""

import json
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from sklearn.datasets import load_digits
from torch.nn import Linear, Module, ReLU, Sequential, functional

from coordinator.sieved_grid import SievedGrid
from edge_client.flower_sieve import SieveMod

TEST = 360
STEPS, BATCH, RATE = 25, 32, 0.1

client_app = ClientApp(mods=[SieveMod(ratio=20.0)])  # gradsieve: sieve what leaves
server_app = ServerApp()


def net() -> Module:
    """64-48-10."""
    torch.manual_seed(2)
    return Sequential(Linear(64, 48), ReLU(), Linear(48, 10))


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels, in one fixed order."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return torch.from_numpy((images[order] / 16).astype(np.float32)), torch.from_numpy(labels[order])


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One client's part of a round."""
    torch.set_num_threads(1)
    part, parts = int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])
    x, y = (values[TEST + part :: parts] for values in digits())
    model, random = net(), np.random.default_rng(part)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    for _ in range(STEPS):
        rows = torch.from_numpy(random.integers(0, len(y), BATCH))
        optimizer.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": len(y)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Stock FedAvg; any other strategy of Flower does as well."""
    sieved, nodes = SievedGrid(grid), int(context.run_config["nodes"])  # gradsieve: whole arrays for the strategy
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    arrays = ArrayRecord(net().state_dict())
    result = strategy.start(grid=sieved, initial_arrays=arrays, num_rounds=int(context.run_config["rounds"]))
    model, (x, y) = net(), digits()
    model.load_state_dict(result.arrays.to_torch_state_dict())
    accuracy = float((model(x[:TEST]).argmax(1) == y[:TEST]).float().mean())
    figures = {"accuracy": accuracy, "updates": sieved.traffic.updates, "ratio": sieved.traffic.ratio}
    print(figures)
    if context.run_config["out"]:
        Path(str(context.run_config["out"])).write_text(json.dumps(figures))
