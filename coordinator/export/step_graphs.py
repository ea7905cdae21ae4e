"""What an export is: three graphs and the layout of their weights; and the weights that a model has itself."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.layout import F32, Layout

if TYPE_CHECKING:
    from torch import nn  # graphs are read without torch


@dataclass(frozen=True)
class StepGraphs:
    """Serialised ONNX models (opset 18, default domain, batch size free) that take all weights as inputs.

    `train` maps `x, y, p.<parameter>, b.<buffer>` to `loss, g.<parameter>, nb.<buffer>`: the gradient of the loss and
    the buffers after the step; a frozen parameter has no gradient. `evaluate`, of the same inputs, gives `loss` and,
    for class labels, `correct`: how many rows have their largest score at the label, or where there is one score a
    row, its sign on the label's side, int64. `predict` maps `x, p.*, b.*` to `y`.
    """

    train: bytes
    evaluate: bytes
    predict: bytes
    layout: Layout


def initial_weights(model: "nn.Module", layout: Layout) -> F32:
    """The model's parameters and buffers as one float32 `[layout.size]` vector."""
    tensors = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    return layout.join({tensor.name: tensors[tensor.name].detach().numpy() for tensor in layout.tensors})
