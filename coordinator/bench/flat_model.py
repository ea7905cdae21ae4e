"""A torch module whose tensors are views of one flat vector, and plain SGD on that vector."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coordinator.export.step import layout_of
from coordinator.export.step_graphs import initial_weights
from coordinator.job import Work
from shared.layout import F32, Layout

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class FlatModel:
    """A module, its layout, and its weights and gradient as flat float32 `[layout.size]` tensors.

    The module's parameters and float buffers are views of `weights`, and each parameter's gradient one of `gradient`:
    an optimiser's step is a few operations on vectors, however many tensors there are.
    """

    module: torch.nn.Module
    layout: Layout
    weights: Tensor
    gradient: Tensor
    trained_size: int

    @classmethod
    def of(cls, make: Callable[[], torch.nn.Module], seed: int) -> "FlatModel":
        """A module of fresh weights drawn by `seed`; the process's own random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = make()
        layout = layout_of(module)
        weights = torch.from_numpy(initial_weights(module, layout))
        gradient = torch.zeros_like(weights)
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        trained_size = 0
        for tensor, start in zip(layout.tensors, layout.offsets, strict=False):
            part = slice(start, start + tensor.size)
            if tensor.name in parameters and parameters[tensor.name].requires_grad:
                parameters[tensor.name].data = weights[part].view(tensor.shape)
                parameters[tensor.name].grad = gradient[part].view(tensor.shape)
                trained_size = part.stop
            else:
                (parameters | buffers)[tensor.name].data = weights[part].view(tensor.shape)
        module.train()
        return cls(module, layout, weights, gradient, trained_size)

    def load(self, vector: F32) -> None:
        """Take over the weights of a float32 `[layout.size]` vector."""
        self.weights.copy_(torch.from_numpy(vector))

    def vector(self) -> F32:
        """The weights as a float32 `[layout.size]` vector of their own."""
        return np.asarray(self.weights.numpy().copy(), np.float32)

    def train(self, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss, work: Work) -> float:
        """SGD from the weights as they are, a step a batch; returns the mean loss.

        As on a device: the gradient is clipped, then decay, momentum and learning rate apply; momentum begins at zero.
        """
        weights, gradient = self.weights[: self.trained_size], self.gradient[: self.trained_size]
        velocity, total, steps = torch.zeros_like(weights), 0.0, 0
        for x, y in batches:
            gradient.zero_()
            value = loss(self.module(x), y)
            torch.autograd.backward(value)
            total, steps = total + float(value.detach()), steps + 1
            with torch.no_grad():
                _clip(gradient, work.clip_norm)
                if work.weight_decay:
                    gradient.add_(weights, alpha=work.weight_decay)
                velocity.mul_(work.momentum).add_(gradient)
                weights.add_(velocity, alpha=-work.learning_rate)
        return total / max(steps, 1)


def _clip(gradient: Tensor, most: float | None) -> None:
    """Shorten a gradient to Euclidean norm `most`."""
    if most is not None and (length := math.sqrt(float(gradient.dot(gradient)))) > most:
        gradient.mul_(most / length)
