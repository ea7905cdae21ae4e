"""A model with its exported graphs, run by onnxruntime beside the same model in float64 torch."""

import copy
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from coordinator.export.step import Loss, export_step
from coordinator.export.step_graphs import StepGraphs, initial_weights
from shared.layout import F32

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Exported:
    """A torch model, a copy of it from before the export, and its graphs."""

    model: nn.Module
    untouched: nn.Module
    loss: Loss
    graphs: StepGraphs

    @classmethod
    def of(cls, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> "Exported":
        """The export of a model for batches like `x` and `y`."""
        torch.set_num_threads(1)
        return cls(model, copy.deepcopy(model), loss, export_step(model, loss, x, y))

    @property
    def weights(self) -> F32:
        """The model's tensors in layout order."""
        return initial_weights(self.model, self.graphs.layout)

    def feed(self, x: Tensor, y: Tensor, weights: F32) -> Arrays:
        """What the graphs take."""
        parameters = dict(self.model.named_parameters())
        named = self.graphs.layout.split(weights)
        tensors = {f"{'p' if name in parameters else 'b'}.{name}": array for name, array in named.items()}
        return {"x": x.numpy(), "y": y.numpy(), **tensors}

    def train(self, x: Tensor, y: Tensor) -> Arrays:
        """The training graph's outputs for the model's own weights."""
        return run(self.graphs.train, self.feed(x, y, self.weights))

    def reference(self, x: Tensor, y: Tensor) -> Arrays:
        """The same outputs by autograd in float64."""
        model = copy.deepcopy(self.model).double().train()
        loss = copy.deepcopy(self.loss)
        if isinstance(loss, nn.Module):
            loss.double()
        value = loss(model(_double(x)), _double(y))
        trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        gradients = torch.autograd.grad(value, list(trained.values()))
        buffers = {f"nb.{name}": b.numpy() for name, b in model.named_buffers() if b.is_floating_point()}
        named = {f"g.{name}": gradient.numpy() for name, gradient in zip(trained, gradients, strict=True)}
        return {"loss": np.asarray(value.item()), **named, **buffers}

    def gradient_error(self, outputs: Arrays, expected: Arrays) -> float:
        """Norm of the whole gradient's error, relative to its own norm."""
        names = [name for name in expected if name.startswith("g.")]
        wanted = np.concatenate([expected[name].reshape(-1) for name in names])
        found = np.concatenate([outputs[name].reshape(-1) for name in names])
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


@functools.cache
def session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(graph: bytes, feed: Arrays) -> Arrays:
    """A graph's outputs by name."""
    opened = session(graph)
    wanted = {value.name for value in opened.get_inputs()}
    results = opened.run(None, {name: array for name, array in feed.items() if name in wanted})
    return dict(zip([value.name for value in opened.get_outputs()], results, strict=True))


def away_from_start(model: nn.Module) -> nn.Module:
    """Norms start at exactly 1 and 0, which would hide a weight that is left out: move every parameter a little."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model
