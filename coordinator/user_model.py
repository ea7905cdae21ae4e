"""A user's own module and loss, made ready to export by what one forward pass tells of their shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from coordinator.export.step import Loss
from coordinator.import_path import FAULTS, fault, load_object
from coordinator.tasks.task import EXAMPLE_BATCH
from shared.errors import ExportError
from shared.preprocessing import Preprocessing

Kind = Literal["classification", "regression"]


def binary_cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Of logits: `[B]` or `[B, 1]` with class labels 0 and 1, or of any shape with float labels of the same."""
    logits = prediction if y.is_floating_point() else prediction.flatten()
    return functional.binary_cross_entropy_with_logits(logits, y.to(logits.dtype))


LOSSES: dict[str, Loss] = {
    "cross-entropy": functional.cross_entropy,
    "binary-cross-entropy": binary_cross_entropy,
    "mse": functional.mse_loss,
    "huber": functional.huber_loss,
}


@dataclass(frozen=True)
class UserModel:
    """A module, its loss, and a batch of the right shapes and dtypes; `num_classes` counts scores in a regression."""

    model: nn.Module
    loss: Loss
    kind: Kind
    x: Tensor
    y: Tensor
    num_classes: int

    @classmethod
    def of(
        cls, model: nn.Module, loss: Loss | None, input_shape: Sequence[int], tokens: bool, kind: Kind
    ) -> "UserModel":
        """The model with labels that fit what it returns for inputs of this shape, int64 where they are `tokens`.

        Without a loss it is cross entropy, binary where there is one score, and of numbers the mean squared error.
        Raises `ExportError` where the forward pass fails or returns no scores.
        """
        x = torch.zeros(EXAMPLE_BATCH, *input_shape, dtype=torch.int64 if tokens else torch.float32)
        scores = _scores(model, x)
        if kind == "regression":
            return cls(model, loss or LOSSES["mse"], kind, x, torch.zeros_like(scores), max(1, scores[0].numel()))
        is_single = scores.ndim == 1 or scores.shape[1:] == (1,)
        usual = LOSSES["binary-cross-entropy" if is_single else "cross-entropy"]
        y = torch.zeros(EXAMPLE_BATCH, dtype=torch.int64)
        return cls(model, loss or usual, kind, x, y, 2 if is_single else scores.shape[1])

    def windows(self, stride: int | None) -> Preprocessing | None:
        """How devices cut recordings for this model: windows of a series, None where inputs are no such windows."""
        if self.x.ndim != 3 or not self.x.is_floating_point() or self.kind != "classification":
            return None
        channels, window = self.x.shape[1:]
        return Preprocessing(
            channels=channels, window=window, stride=stride or max(1, window // 2), num_classes=self.num_classes
        )


def load_model(path: str, seed: int) -> nn.Module:
    """The module that a factory such as `net:Net` makes, its weights drawn by `seed`; raises `ExportError`."""
    factory = load_object(path)
    if not callable(factory):
        raise ExportError(f"{path} is of type {type(factory).__name__}: name a class or function that makes the module")
    torch.manual_seed(seed)
    try:
        model = factory()
    except FAULTS as error:
        raise ExportError(f"{path} must make a module without arguments, but fails: {fault(error)}") from error
    if not isinstance(model, nn.Module):
        raise ExportError(f"{path} returns a value of type {type(model).__name__}: return a torch.nn.Module")
    return model


def load_loss(path: str) -> Loss:
    """The loss of that name, or the user's own `module:name`, a function or a module; raises `ExportError`."""
    if ":" not in path:
        if path not in LOSSES:
            raise ExportError(f"no loss is called {path}: choose {', '.join(LOSSES)}, or your own as module:name")
        return LOSSES[path]
    found = load_object(path)
    made: object = found() if isinstance(found, type) and issubclass(found, nn.Module) else found
    if not callable(made):
        raise ExportError(
            f"{path} is of type {type(made).__name__}: name a function of (prediction, y), or a loss module"
        )
    loss: Callable[[Tensor, Tensor], Tensor] = made
    return loss


def _scores(model: nn.Module, x: Tensor) -> Tensor:
    """What the model returns for a batch, in evaluation mode; afterwards it is as it was."""
    was_training = model.training
    try:
        with torch.no_grad():
            scores = model.eval()(x)
    except FAULTS as error:
        raise ExportError(f"the model fails on inputs of shape {tuple(x.shape[1:])}: {fault(error)}") from error
    finally:
        model.train(was_training)
    if not isinstance(scores, Tensor) or scores.ndim == 0 or len(scores) != len(x):
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ExportError(f"the model returns {found} for a batch of {len(x)}: return one tensor, a row an example")
    return scores
