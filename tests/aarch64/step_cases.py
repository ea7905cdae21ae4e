"""Models exported here to be trained on a board: a network of LeNet's kind, a perceptron, 1-D convolutions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coordinator.export.step import export_step
from coordinator.export.step_graphs import initial_weights
from coordinator.tasks.lenet import LeNet
from coordinator.tasks.watch import WatchNet
from shared.layout import F32

BATCH = 32

Case = tuple[Callable[[], nn.Module], tuple[int, ...], int]


def perceptron() -> nn.Module:
    """One hidden layer: float32 `[n, 784]` to logits `[n, 10]`."""
    return nn.Sequential(nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 10))


CASES: dict[str, Case] = {
    "lenet": (LeNet, (1, 28, 28), 10),
    "mlp": (perceptron, (784,), 10),
    "cnn1d": (WatchNet, (6, 100), 7),
}


def write_case(name: str, folder: Path) -> tuple[float, F32]:
    """Write what `training_step` reads of the case `name`; returns torch's loss and gradient, float32 `[size]`."""
    make, shape, classes = CASES[name]
    torch.set_num_threads(1)
    torch.manual_seed(7)
    model, x, y = make(), torch.randn(BATCH, *shape), torch.randint(0, classes, (BATCH,))
    graphs = export_step(model, functional.cross_entropy, x, y)
    folder.mkdir(parents=True)
    (folder / "train.onnx").write_bytes(graphs.train)
    (folder / "eval.onnx").write_bytes(graphs.evaluate)
    (folder / "layout.json").write_text(json.dumps(graphs.layout.to_json()))
    weights = initial_weights(model, graphs.layout)
    np.savez(folder / "inputs.npz", allow_pickle=False, weights=weights, x=x.numpy(), y=y.numpy())
    loss = functional.cross_entropy(model(x), y)
    torch.autograd.backward(loss)
    gradients = {
        name: parameter.grad.numpy() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    return loss.item(), graphs.layout.join(gradients)
