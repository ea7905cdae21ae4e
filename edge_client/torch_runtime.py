"""Training with torch instead of the bundle's graphs, by a module that this machine has itself and was never sent.

For emulated fleets and boards with memory to spare, where torch's convolutions are quicker than onnxruntime's. It is
the one part of a device that may load torch, and nothing loads it that does not ask for it.
"""

import importlib
import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from edge_client.optimizer import optimizer_for
from edge_client.runtime import EVALUATION_BATCH, Batch, Score, TrainReport
from shared.errors import BundleError, TrainerError
from shared.fleet_brief import TorchModule
from shared.labels import Inputs, Labels
from shared.layout import F32, Layout
from shared.messages import LocalWork

Loss = Callable[[Tensor, Tensor], Tensor]


class TorchRuntime:
    """A `Runtime` of one thread; images are kept with their channels last, which torch's convolutions like best.

    Raises `BundleError` where the module cannot be made, or its tensors are not those of `layout`.
    """

    def __init__(self, module: TorchModule, layout: Layout) -> None:
        torch.set_num_threads(1)
        self._layout = layout
        factory, self._loss = cast(Callable[[], nn.Module], _found(module.factory)), cast(Loss, _found(module.loss))
        self._module = factory()
        for part in self._module.modules():
            if isinstance(part, nn.Conv2d):  # of one plane torch cannot tell the formats apart, and takes the slow one
                part.register_forward_hook(_last)
        self._parameters = dict(self._module.named_parameters())
        self._tensors = self._parameters | dict(self._module.named_buffers())
        for tensor in layout.tensors:
            if tensor.name not in self._tensors or tuple(self._tensors[tensor.name].shape) != tensor.shape:
                raise BundleError(f"{module.factory} has no {tensor.name} of shape {tensor.shape}: it is another model")

    def train(
        self, weights: F32, batches: Iterable[Batch], work: LocalWork, has_time: Callable[[], bool]
    ) -> TrainReport:
        """Train `weights` in place."""
        gradient = np.zeros(weights.size, np.float32)
        trained = self._lay_over(weights)
        results = [self._layout.split(gradient)[name] for name in trained]
        parameters = [self._parameters[name] for name in trained]
        optimizer = optimizer_for(work, self._spans(trained), weights)
        self._module.train()
        steps, loss_sum = 0, 0.0
        for x, y in islice(batches, work.steps):
            if not has_time():
                break
            loss = self._loss(self._module(_inputs(x)), torch.from_numpy(y))
            for result, found in zip(results, torch.autograd.grad(loss, parameters), strict=True):
                np.copyto(result, found.numpy())
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainerError(f"the loss of step {steps + 1} is {value}: lower the learning rate")
            optimizer.step(weights, gradient)
            steps, loss_sum = steps + 1, loss_sum + value
        if not np.isfinite(weights).all():
            raise TrainerError(f"the weights are no longer finite after {steps} steps: lower the learning rate")
        return TrainReport(steps, loss_sum / max(steps, 1))

    def evaluate(self, weights: F32, x: Inputs, y: Labels) -> Score:
        """Score `weights`."""
        self._lay_over(weights)
        self._module.eval()
        loss_sum, correct = 0.0, 0
        with torch.inference_mode():
            for start in range(0, len(x), EVALUATION_BATCH):
                part, labels = _inputs(x[start : start + EVALUATION_BATCH]), torch.from_numpy(y)[start:]
                labels = labels[: len(part)]
                logits = self._module(part)
                loss_sum += float(self._loss(logits, labels)) * len(part)
                correct += 0 if labels.is_floating_point() else int((logits.argmax(1) == labels).sum())
        if not math.isfinite(loss_sum):
            raise TrainerError(f"the loss on the test windows is {loss_sum}: the model is not usable")
        return Score(loss_sum / len(x), None if y.dtype.kind == "f" else correct, len(x))

    def _lay_over(self, weights: F32) -> list[str]:
        """Let the module's tensors be the very memory of `weights`; returns the names of those that are trained."""
        flat = torch.from_numpy(weights if weights.flags.writeable else weights.copy())
        for tensor, start in zip(self._layout.tensors, self._layout.offsets, strict=False):
            self._tensors[tensor.name].data = flat[start : start + tensor.size].view(tensor.shape)
        return [t.name for t in self._layout.tensors if t.name in self._parameters and t.role != "frozen"]

    def _spans(self, names: list[str]) -> list[slice]:
        """Where tensors of these names lie in the flat vector, neighbours joined."""
        joined: list[slice] = []
        for tensor, start in zip(self._layout.tensors, self._layout.offsets, strict=False):
            if tensor.name in names:
                first = joined.pop().start if joined and joined[-1].stop == start else start
                joined.append(slice(first, start + tensor.size))
        return joined


def _last(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return output.contiguous(memory_format=torch.channels_last)


def _inputs(x: Inputs) -> Tensor:
    inputs = torch.from_numpy(x)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


def _found(path: str) -> object:
    module, _, name = path.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise BundleError(f"{path} cannot be loaded: {error}: install it on this machine") from None
    return found
