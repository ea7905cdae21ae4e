"""A user's own module and loss, made ready to export by what one forward pass tells of their shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from coordinator.embeddings import embeddings_of
from coordinator.export.step import Loss
from coordinator.import_path import FAULTS, fault, load_object
from coordinator.tasks.task import EXAMPLE_BATCH
from shared.errors import ExportError
from shared.preprocessing import ExamplePreprocessing, Preprocessing

Kind = Literal["classification", "regression"]


def binary_cross_entropy(prediction: Tensor, y: Tensor) -> Tensor:
    """Of logits: `[B]` or `[B, 1]` with class labels 0 and 1, or of any shape with float labels of the same."""
    logits = prediction if y.is_floating_point() else prediction.flatten()
    return functional.binary_cross_entropy_with_logits(logits, y.to(logits.dtype))


UNIT = (0.0, 1.0)
"""Between them lie the labels of a binary cross entropy; outside it has no least value."""
WINDOW_AXES = 2

LOSSES: dict[str, Loss] = {
    "cross-entropy": functional.cross_entropy,
    "binary-cross-entropy": binary_cross_entropy,
    "mse": functional.mse_loss,
    "huber": functional.huber_loss,
}


@dataclass(frozen=True, slots=True)
class InputForm:
    """What an exporter may say of inputs: samples between windows, scale of each channel, order of an image's colours.

    Without a scale devices standardise by their own data; 0 and 1 leave the data as it is.
    """

    stride: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: Literal["bgr"] | None = None


@dataclass(frozen=True)
class UserModel:
    """A module, its loss, and a batch of the right shapes and dtypes; `num_classes` counts scores in a regression.

    Where inputs are tokens, `vocabulary` is how many there are.
    """

    model: nn.Module
    loss: Loss
    kind: Kind
    x: Tensor
    y: Tensor
    num_classes: int
    vocabulary: int | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        loss: Loss | None,
        input_shape: Sequence[int],
        tokens: bool,
        kind: Kind,
        vocabulary: int | None = None,
    ) -> "UserModel":
        """The model with labels that fit what it returns for inputs of this shape, int64 where they are `tokens`.

        Without a loss it is cross entropy, binary where there is one score, and of numbers the mean squared error.
        Without a vocabulary it is that of the embedding that reads the inputs. Raises `ExportError` where the forward
        pass fails or returns no scores, or the vocabulary is not known.
        """
        x = torch.zeros(EXAMPLE_BATCH, *input_shape, dtype=torch.int64 if tokens else torch.float32)
        with embeddings_of(model, x) as sizes:
            scores = _scores(model, x)
        vocabulary = _vocabulary(vocabulary, sizes) if tokens else None
        if kind == "regression":
            y, count = torch.zeros_like(scores), max(1, scores[0].numel())
            return cls(model, loss or LOSSES["mse"], kind, x, y, count, vocabulary)
        is_single = scores.ndim == 1 or scores.shape[1:] == (1,)
        usual = LOSSES["binary-cross-entropy" if is_single else "cross-entropy"]
        y = torch.zeros(EXAMPLE_BATCH, dtype=torch.int64)
        return cls(model, loss or usual, kind, x, y, 2 if is_single else scores.shape[1], vocabulary)

    def preprocessing(self, form: InputForm) -> Preprocessing | ExamplePreprocessing:
        """How devices make inputs: windows of recordings for `[channels, samples]`, else whole examples.

        Raises `ExportError` where the form is not one of such inputs.
        """
        fields: dict[str, object] = {"mean": form.mean, "std": form.std, "num_classes": self.num_classes}
        if self.kind == "regression":
            bounds = UNIT if self.loss is binary_cross_entropy else None
            fields["targets"] = {"shape": tuple(self.y.shape[1:]), "bounds": bounds}
        shape = tuple(self.x.shape[1:])
        try:
            if len(shape) == WINDOW_AXES and self.vocabulary is None:
                channels, window = shape
                stride = form.stride or max(1, window // 2)
                return Preprocessing.model_validate(fields | {"channels": channels, "window": window, "stride": stride})
            if form.stride is not None:
                raise ExportError(f"inputs of shape {shape} are no windows of a recording: leave --stride out")
            own = {"shape": shape, "vocabulary": self.vocabulary, "channel_order": form.channel_order}
            return ExamplePreprocessing.model_validate(fields | own)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ExportError(f"inputs of shape {shape}: {first['msg'].removeprefix('Value error, ')}") from None


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


def _vocabulary(given: int | None, sizes: set[int]) -> int:
    """The number of tokens, which no embedding may be too small for."""
    if given is None and not sizes:
        raise ExportError("no nn.Embedding of the model reads the inputs themselves: say --vocabulary N")
    if given is not None and sizes and given > min(sizes):
        raise ExportError(f"--vocabulary {given}: an embedding of the model knows {min(sizes)} tokens: say no more")
    return min(sizes) if given is None else given


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
