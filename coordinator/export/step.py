"""From a torch module and a loss to the three graphs that a device runs, and the layout of its weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from coordinator.export.capture import Step, capture
from coordinator.export.step_graphs import StepGraphs
from coordinator.export.translate import translate
from shared.errors import ExportError
from shared.layout import Layout, TensorRole

Loss = Callable[[Tensor, Tensor], Tensor]


def export_step(model: nn.Module, loss: Loss, example_x: Tensor, example_y: Tensor) -> StepGraphs:
    """The graphs of a model of one input; `loss(model(x), y)` must be a float32 scalar, a mean over the batch.

    Only shapes and dtypes of the examples count, and their first dimension is the batch. `y` is int64 `[B]` for class
    labels, and float32 for numbers. Raises `ExportError` naming the operator and the model's line, or the parameter,
    that stands in the way.
    """
    state, examples = _State.of(model), (example_x, example_y)
    _check_examples(example_x, example_y)
    with _mode(model, training=True):
        training = capture(state.train_step(loss), model, examples, state.tensors)
    with _mode(model, training=False):
        classes = not example_y.is_floating_point()
        evaluation = capture(state.evaluate_step(loss, classes), model, examples, state.tensors)
    labels = ["x", "y", *state.inputs]
    scores = ["loss", "correct"] if classes else ["loss"]
    return StepGraphs(
        _graph(training, "train", labels, state.train_outputs),
        _graph(evaluation, "evaluate", labels, [None, *scores]),
        _graph(evaluation, "predict", ["x", None, *state.inputs], ["y", *(None for _ in scores)]),
        state.layout,
    )


def layout_of(model: nn.Module) -> Layout:
    """The layout of a model's parameters and buffers; raises `ExportError` naming a tensor of another kind."""
    return _State.of(model).layout


@dataclass(frozen=True)
class _State:
    """The tensors of a model: parameters that are trained or frozen, float buffers, integer constants."""

    model: nn.Module
    trained: dict[str, Tensor]
    frozen: dict[str, Tensor]
    buffers: dict[str, Tensor]
    constants: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> "_State":
        parameters: dict[str, Tensor] = {**dict(model.named_parameters())}
        buffers = dict(model.named_buffers())
        trained = {name: tensor for name, tensor in parameters.items() if tensor.requires_grad}
        if not trained:
            raise ExportError("the model has no parameter that requires a gradient: unfreeze what is to be trained")
        frozen = {name: tensor for name, tensor in parameters.items() if name not in trained}
        floating = {name: tensor for name, tensor in buffers.items() if tensor.is_floating_point()}
        for name, tensor in (trained | frozen | floating).items():
            if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
                raise ExportError(f"tensor {name} is {tensor.dtype} on {tensor.device}: use float32 on the CPU")
        constants = {name: tensor for name, tensor in buffers.items() if name not in floating}
        return cls(model, trained, frozen, floating, constants)

    @property
    def named(self) -> dict[str, Tensor]:
        return self.trained | self.frozen | self.buffers

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor.detach() for tensor in self.named.values()]

    @property
    def inputs(self) -> list[str]:
        return [*(f"p.{name}" for name in self.trained | self.frozen), *(f"b.{name}" for name in self.buffers)]

    @property
    def train_outputs(self) -> list[str]:
        return ["loss", *(f"g.{name}" for name in self.trained), *(f"nb.{name}" for name in self.buffers)]

    @property
    def layout(self) -> Layout:
        return Layout.of([(name, tuple(tensor.shape), self._role(name)) for name, tensor in self.named.items()])

    def train_step(self, loss: Loss) -> Step:
        def step(x: Tensor, y: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            frozen_end = len(self.trained) + len(self.frozen)
            weights = [tensor.detach().requires_grad_() for tensor in tensors[: len(self.trained)]]
            frozen = tensors[len(self.trained) : frozen_end]
            buffers = [tensor.clone() for tensor in tensors[frozen_end:]]
            value = _scalar(loss(self._predict(x, [*weights, *frozen, *buffers]), y))
            # torch.func.grad would record a differentiable backward, and so decompose every normalisation's.
            gradients = torch.autograd.grad(value, weights, allow_unused=True)
            for name, gradient in zip(self.trained, gradients, strict=True):
                if gradient is None:
                    raise ExportError(f"parameter {name} does not affect the loss: remove it or freeze it")
            return (value, *gradients, *buffers)

        return step

    def evaluate_step(self, loss: Loss, classes: bool) -> Step:
        def step(x: Tensor, y: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            prediction = self._predict(x, tensors)
            value = _scalar(loss(prediction, y))
            return (prediction, value, _hits(prediction, y)) if classes else (prediction, value)

        return step

    def _predict(self, x: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        named = dict(zip(self.named, tensors, strict=True))
        constants = {name: tensor.clone() for name, tensor in self.constants.items()}
        prediction = functional_call(self.model, {**named, **constants}, (x,))
        if not isinstance(prediction, Tensor):
            raise ExportError(f"the model returns {type(prediction).__name__}: return one tensor")
        return prediction

    def _role(self, name: str) -> TensorRole:
        if name in self.buffers:
            return "buffer"
        if name in self.frozen:
            return "frozen"
        owner = type(self.model.get_submodule(name.rpartition(".")[0])).__name__
        if "Norm" in owner:
            return "norm"
        return "bias" if name.rpartition(".")[2].startswith("bias") else "weight"


def _graph(captured: fx.GraphModule, name: str, inputs: Sequence[str | None], outputs: Sequence[str | None]) -> bytes:
    return bytes(translate(captured, name, inputs, outputs).SerializeToString(deterministic=True))


def _check_examples(x: Tensor, y: Tensor) -> None:
    if x.dtype not in (torch.float32, torch.int64):
        raise ExportError(f"inputs are {x.dtype}: use float32, or int64 for indices")
    if y.dtype not in (torch.float32, torch.int64) or (y.dtype == torch.int64 and y.ndim != 1):
        raise ExportError(
            f"labels are {y.dtype} of shape {tuple(y.shape)}: use int64 [batch] for classes, else float32"
        )


def _hits(prediction: Tensor, y: Tensor) -> Tensor:
    """How many labels int64 `[B]` are met by scores `[B, classes]`, or by the signs of `[B]` or `[B, 1]` scores."""
    if prediction.ndim == 1 or prediction.shape[1:] == (1,):
        return ((prediction.flatten() > 0) == (y > 0)).sum()
    if prediction.ndim != 2:
        raise ExportError(f"the model returns {tuple(prediction.shape)} for class labels: return a score a class")
    return (prediction.argmax(1) == y).sum()


def _scalar(loss: Tensor) -> Tensor:
    if loss.ndim or loss.dtype != torch.float32:
        raise ExportError(f"the loss is {loss.dtype} of shape {tuple(loss.shape)}: return a float32 scalar")
    return loss


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Every module in training or evaluation mode, and afterwards as it was."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before.items():
            module.training = was_training
