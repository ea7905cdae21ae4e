"""A node of Flower trains the device benchmark's LeNet on the same examples, by onnxruntime or torch.

The model travels as one float32 vector. The folder `folder` of the run's configuration holds what
`coordinator.bench.flower_node` wrote: `case.json` (`steps` by round, `batch_size`, `learning_rate`, and the graph's
layout), `train.onnx`, `eval.onnx`, `weights.f32`, `x.npy` and `y.npy`. A line is added to its file `progress` for every
finished training.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

Array = npt.NDArray[Any]
Case = dict[str, Any]

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One node's round."""
    folder = Path(str(context.run_config["folder"]))
    case = json.loads((folder / "case.json").read_text())
    steps = case["steps"][int(message.content["config"]["server-round"]) - 1]
    weights = message.content["arrays"].to_numpy_ndarrays()[0].copy()
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    train_with = _train_torch if context.run_config["library"] == "torch" else _train_onnx
    loss = train_with(folder, case, weights, _batches(x, y, case["batch_size"]), steps)
    with (folder / "progress").open("a") as progress:
        progress.write(f"{loss}\n")
    content = RecordDict(
        {
            "arrays": ArrayRecord([weights]),
            "metrics": MetricRecord({"num-examples": len(y), "loss": loss}),
        }
    )
    return Message(content=content, reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Plain federated averaging with one node and without evaluation."""
    weights = np.fromfile(Path(str(context.run_config["folder"])) / "weights.f32", np.float32)
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
    strategy.start(grid=grid, initial_arrays=ArrayRecord([weights]), num_rounds=int(context.run_config["rounds"]))


def _batches(x: Array, y: Array, size: int) -> Iterator[tuple[Array, Array]]:
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(y))
        for start in range(0, len(y) - size + 1, size):
            chosen = order[start : start + size]
            yield x[chosen], y[chosen]


def _train_onnx(folder: Path, case: Case, weights: Array, batches: Iterator[tuple[Array, Array]], steps: int) -> float:
    from edge_client.runtime import OnnxRuntime
    from shared.layout import Layout
    from shared.messages import LocalWork

    layout = Layout.of([(name, tuple(shape), role) for name, shape, role in case["layout"]])
    runtime = OnnxRuntime((folder / "train.onnx").read_bytes(), (folder / "eval.onnx").read_bytes(), layout)
    work = LocalWork(
        steps=steps, batch_size=case["batch_size"], learning_rate=case["learning_rate"], momentum=0.9, codec="", seed=0
    )
    return runtime.train(weights, batches, work, lambda: True).loss


def _train_torch(folder: Path, case: Case, weights: Array, batches: Iterator[tuple[Array, Array]], steps: int) -> float:
    import torch

    from coordinator.tasks.drill import LeNetOfRows

    torch.set_num_threads(1)
    model = LeNetOfRows()
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=case["learning_rate"], momentum=0.9)
    total = 0.0
    for _ in range(steps):
        x, y = (torch.from_numpy(part) for part in next(batches))
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    weights[:] = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    return total / steps
