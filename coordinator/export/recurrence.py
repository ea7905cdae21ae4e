"""Keeps a whole LSTM or GRU layer one operator while a model is captured, forward and backward.

torch would unroll a layer into some fifty operators a time step. As one operator it has a rule of its own, whose graph
is a fifth of the size and half as long under way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Parts = tuple[Tensor, ...]
Layer = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], Parts]

SCHEMAS = (
    "lstm(Tensor x, Tensor h, Tensor c, Tensor w_x, Tensor w_h, Tensor? bias) -> (Tensor, Tensor)",
    "lstm_backward(Tensor grad, Tensor? grad_c, Tensor x, Tensor h, Tensor c, Tensor w_x, Tensor w_h, Tensor? bias,"
    " Tensor y) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    "gru(Tensor x, Tensor h, Tensor w_x, Tensor w_h, Tensor? b_x, Tensor? b_h) -> Tensor",
    "gru_backward(Tensor grad, Tensor x, Tensor h, Tensor w_x, Tensor w_h, Tensor? b_x, Tensor? b_h, Tensor y)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
library = torch.library.Library("gradsieve", "DEF")  # type: ignore[no-untyped-call]  # torch leaves it unannotated
for schema in SCHEMAS:
    library.define(schema)  # type: ignore[no-untyped-call]  # the same
ops = torch.ops.gradsieve


class WholeRecurrences(TorchFunctionMode):
    """While it is entered, LSTM and GRU layers call the operators above, which compute nothing and are to be traced.

    Layers with projections, and packed sequences, are left to torch.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Take over a whole LSTM or GRU; anything else is torch's."""
        name = getattr(func, "__name__", "")
        if name in LAYERS and _is_plain(LAYERS[name][1], *args):
            return _recurrence(name, *args)
        return func(*args, **(kwargs or {}))


def _lstm_layer(x: Tensor, initial: Sequence[Tensor], weights: Sequence[Tensor]) -> Parts:
    """All hidden states `[T, B, H]` of one layer, the last of them, and the last cell state."""
    bias = weights[2] + weights[3] if len(weights) > 2 else None
    y, memory = ops.lstm(x, *initial, *weights[:2], bias)
    return y, y[-1], memory


def _gru_layer(x: Tensor, initial: Sequence[Tensor], weights: Sequence[Tensor]) -> Parts:
    """All hidden states `[T, B, H]` of one layer, and the last of them."""
    y = ops.gru(x, *initial, *weights, *([None, None] if len(weights) == 2 else []))
    return y, y[-1]


LAYERS: dict[str, tuple[Layer, int]] = {"lstm": (_lstm_layer, 4), "gru": (_gru_layer, 3)}
"""How each is computed, and how many gates it has."""


def _is_plain(gates: int, *args: Any) -> bool:
    """Whether this is a call for a padded sequence, of a layer without projections."""
    weights = args[2]
    return isinstance(weights, list | tuple) and weights[1].shape[0] == gates * weights[1].shape[1]


def _recurrence(
    kind: str,
    x: Tensor,
    states: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Parts:
    """What `torch.lstm` and `torch.gru` return, layer by layer and direction by direction."""
    layer, _ = LAYERS[kind]
    initial = (states,) if isinstance(states, Tensor) else tuple(states)
    each, directions, ends = 4 if has_biases else 2, 1 + bidirectional, []
    x = x.transpose(0, 1) if batch_first else x
    for number in range(num_layers):
        if number and dropout:
            x = functional.dropout(x, dropout, training)
        ways = []
        for direction in range(directions):
            place = number * directions + direction
            own = weights[each * place : each * (place + 1)]
            y, *last = layer(x.flip(0) if direction else x, [state[place] for state in initial], own)
            ways.append(y.flip(0) if direction else y)
            ends.append(last)
        x = torch.cat(ways, 2) if bidirectional else ways[0]
    return (x.transpose(0, 1) if batch_first else x), *(torch.stack(last) for last in zip(*ends, strict=True))


def _lstm_shapes(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor | None) -> Parts:
    return x.new_empty(x.shape[0], *h.shape), torch.empty_like(c)


def _gru_shapes(x: Tensor, h: Tensor, *weights: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], *h.shape)


def _lstm_backward_shapes(
    grad: Tensor,
    grad_c: Tensor | None,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    bias: Tensor | None,
    y: Tensor,
) -> Parts:
    return *(torch.empty_like(of) for of in (x, h, c, w_x, w_h)), w_h.new_empty(w_h.shape[0])


def _gru_backward_shapes(
    grad: Tensor,
    x: Tensor,
    h: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    b_x: Tensor | None,
    b_h: Tensor | None,
    y: Tensor,
) -> Parts:
    biases = w_h.new_empty(w_h.shape[0]), w_h.new_empty(w_h.shape[0])
    return *(torch.empty_like(of) for of in (x, h, w_x, w_h)), *biases


def _keep(ctx: Any, inputs: Sequence[Tensor | None], output: Tensor | Parts) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, output if isinstance(output, Tensor) else output[0])


def _lstm_gradients(ctx: Any, grad: Tensor | None, grad_c: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, y = ctx.saved_tensors
    found = ops.lstm_backward(torch.zeros_like(y) if grad is None else grad, grad_c, *inputs, y)
    return (*found[:-1], None if inputs[-1] is None else found[-1])


def _gru_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, y = ctx.saved_tensors
    found = ops.gru_backward(grad, *inputs, y)
    return found if inputs[-1] is not None else (*found[:-2], None, None)


SHAPES: dict[str, Callable[..., Tensor | Parts]] = {
    "lstm": _lstm_shapes,
    "gru": _gru_shapes,
    "lstm_backward": _lstm_backward_shapes,
    "gru_backward": _gru_backward_shapes,
}
for operator, shapes in SHAPES.items():
    torch.library.register_fake(f"gradsieve::{operator}", shapes)
torch.library.register_autograd("gradsieve::lstm", _lstm_gradients, setup_context=_keep)
torch.library.register_autograd("gradsieve::gru", _gru_gradients, setup_context=_keep)
