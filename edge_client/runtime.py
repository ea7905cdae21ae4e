"""Local training and evaluation: the runtime seam, and onnxruntime behind it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Protocol, Self

import numpy as np

from edge_client.graph_session import GraphSession
from edge_client.optimizer import optimizer_for
from shared.errors import BundleError, TrainerError
from shared.labels import Inputs, Labels
from shared.layout import F32, Layout
from shared.messages import LocalWork

EVALUATION_BATCH = 32
EVALUATION_OUTPUTS = (("loss", "correct"), ("loss",))

Batch = tuple[Inputs, Labels]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """Steps really done, and the mean loss over them."""

    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class Score:
    """Mean loss, and how many of `examples` were classified right: None where labels are no classes."""

    loss: float
    correct: int | None
    examples: int

    def in_thousandths(self) -> Self:
        """The same accuracy, rounded, as if there had been 1,000 examples: it does not tell how many there were."""
        if not self.examples or self.correct is None:
            return self
        return replace(self, correct=round(1000 * self.correct / self.examples), examples=1000)


class Runtime(Protocol):
    """Runs the graphs of a bundle on a flat float32 `[layout.size]` vector of weights."""

    def train(
        self, weights: F32, batches: Iterable[Batch], work: LocalWork, has_time: Callable[[], bool]
    ) -> TrainReport:
        """Train `weights` in place for `work.steps` steps, fewer when `has_time` says no before one.

        Raises `TrainerError` when the loss or the weights are no longer finite.
        """

    def evaluate(self, weights: F32, x: Inputs, y: Labels) -> Score:
        """Score `weights` on examples `x` `[n, ...]` with labels `y`, n at least 1; raises `TrainerError`."""


class OnnxRuntime:
    """The graphs `train_onnx` and `eval_onnx` on one thread of onnxruntime, each loaded when first used.

    Graph inputs: `x`, `y`, a parameter `p.{name}` and buffer `b.{name}`; outputs of training: `loss`, `g.{name}` (the
    gradient), `nb.{name}` (the buffer's new value); of evaluation: `loss` (mean of the batch) and, for class labels,
    `correct`. Raises `BundleError` where a graph is not allowed or does not fit `layout`.
    """

    def __init__(self, train_onnx: bytes, eval_onnx: bytes, layout: Layout) -> None:
        self._train_onnx, self._eval_onnx, self._layout = train_onnx, eval_onnx, layout

    def train(
        self, weights: F32, batches: Iterable[Batch], work: LocalWork, has_time: Callable[[], bool]
    ) -> TrainReport:
        """Train `weights` in place."""
        graph = self._training
        gradient = np.zeros(weights.size, np.float32)  # where frozen it is never touched, and so takes no memory
        feed, results = self._feed(graph, weights), self._results(graph, weights, gradient)
        optimizer = optimizer_for(work, self._trainable(graph), weights)
        steps, loss_sum = 0, 0.0
        for x, y in islice(batches, work.steps):
            if not has_time():
                break
            loss, *outputs = graph.run({**feed, "x": x, "y": y})
            if not math.isfinite(loss):
                raise TrainerError(f"the loss of step {steps + 1} is {loss}: lower the learning rate")
            for result, output in zip(results, outputs, strict=True):
                np.copyto(result, output)
            outputs.clear()  # or they would lie beside those of the next step
            optimizer.step(weights, gradient)
            steps, loss_sum = steps + 1, loss_sum + float(loss)
        if not np.isfinite(weights).all():
            raise TrainerError(f"the weights are no longer finite after {steps} steps: lower the learning rate")
        return TrainReport(steps, loss_sum / max(steps, 1))

    def evaluate(self, weights: F32, x: Inputs, y: Labels) -> Score:
        """Score `weights`."""
        graph, feed = self._evaluation, self._feed(self._evaluation, weights)
        loss_sum, correct = 0.0, 0
        for start in range(0, len(x), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            loss, *hits = graph.run(feed | {"x": x[part], "y": y[part]})
            loss_sum, correct = loss_sum + float(loss) * len(x[part]), correct + sum(map(int, hits))
        if not math.isfinite(loss_sum):
            raise TrainerError(f"the loss on the test windows is {loss_sum}: the model is not usable")
        return Score(loss_sum / len(x), correct if "correct" in graph.outputs else None, len(x))

    def load(self) -> None:
        """Load both graphs now instead of when they are first used."""
        _ = self._training, self._evaluation

    @cached_property
    def _training(self) -> GraphSession:
        graph = self._load("training", self._train_onnx)
        if next(iter(graph.outputs), None) != "loss":
            raise BundleError("training graph: its first output must be loss: export the model again")
        return graph

    @cached_property
    def _evaluation(self) -> GraphSession:
        graph = self._load("evaluation", self._eval_onnx)
        if tuple(graph.outputs) not in EVALUATION_OUTPUTS:
            raise BundleError("evaluation graph: its outputs must be loss and correct, or loss: export the model again")
        return graph

    def _load(self, label: str, model: bytes) -> GraphSession:
        graph = GraphSession(label, model)
        shapes = {tensor.name: tensor.shape for tensor in self._layout.tensors}
        for name, shape in (graph.inputs | graph.outputs).items():
            if "." in name and shapes.get(_tensor(name)) != shape:
                raise BundleError(
                    f"{label} graph: {name} of shape {shape} is not in the layout: export the model again"
                )
        return graph

    def _feed(self, graph: GraphSession, weights: F32) -> dict[str, F32]:
        """Views of the weights by graph input."""
        views = self._layout.split(weights)
        return {name: views[_tensor(name)] for name in graph.inputs if "." in name}

    def _results(self, graph: GraphSession, weights: F32, gradient: F32) -> list[F32]:
        """Where each output after the loss goes: gradients into `gradient`, new buffers into `weights`."""
        gradients, buffers = self._layout.split(gradient), self._layout.split(weights)
        return [
            (gradients if name.startswith("g.") else buffers)[_tensor(name)] for name in graph.outputs if "." in name
        ]

    def _trainable(self, graph: GraphSession) -> list[slice]:
        """Where tensors with a gradient lie in the flat vector, neighbours joined."""
        joined: list[slice] = []
        for tensor, start in zip(self._layout.tensors, self._layout.offsets, strict=False):
            if f"g.{tensor.name}" in graph.outputs:
                first = joined.pop().start if joined and joined[-1].stop == start else start
                joined.append(slice(first, start + tensor.size))
        return joined


def _tensor(name: str) -> str:
    """The tensor that a graph input or output is about: `p.conv1.weight` is about `conv1.weight`."""
    return name.partition(".")[2]
