"""Batch normalisation, whose running statistics are buffers that a training step returns."""

from collections.abc import Sequence

import torch

from coordinator.export.graph import Graph, Input
from coordinator.export.operand import Operand, ValueType
from coordinator.export.rules.norm import scaled
from coordinator.export.rules.registry import rule

aten = torch.ops.aten


def column(g: Graph, x: Operand, per_channel: Operand | None) -> str | None:
    """A `[channels]` tensor shaped to meet dimension 1 of `x`."""
    return None if per_channel is None else g.reshape(per_channel, [-1] + [1] * (x.rank - 2))


def reciprocal_deviation(g: Graph, x: Operand, running_variance: Operand, epsilon: float) -> str:
    """What an example is multiplied by once it is centred, shaped to meet dimension 1 of `x`."""
    return g.op("Reciprocal", g.op("Sqrt", g.op("Add", column(g, x, running_variance), epsilon)))


def across(x: Operand) -> list[int]:
    """All dimensions but the channels."""
    return [dim for dim in range(x.rank) if dim != 1]


@rule(aten._native_batch_norm_legit_no_training.default)
def _batch_norm_evaluation(
    g: Graph,
    out: ValueType,
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    running_mean: Operand,
    running_variance: Operand,
    momentum: float,
    epsilon: float,
) -> tuple[str | None, ...]:
    deviation = g.op("Sqrt", g.op("Add", column(g, x, running_variance), epsilon))
    values = g.op("Div", g.op("Sub", x, column(g, x, running_mean)), deviation)
    return scaled(g, values, column(g, x, weight), column(g, x, bias)), None, None


@rule(aten._native_batch_norm_legit_functional.default)
def _batch_norm(
    g: Graph,
    out: ValueType,
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    running_mean: Operand,
    running_variance: Operand,
    training: bool,
    momentum: float,
    epsilon: float,
) -> tuple[str, ...]:
    mean = g.mean(x, across(x), keepdims=True)
    centred = g.op("Sub", x, mean)
    variance = g.mean(g.op("Mul", centred, centred), across(x), keepdims=True)
    reciprocal = g.op("Reciprocal", g.op("Sqrt", g.op("Add", variance, epsilon)))
    values = g.op("Mul", centred, reciprocal)

    def moved(running: Operand, current: str) -> str:
        kept = g.op("Mul", running, 1 - momentum)
        return g.op("Add", kept, g.op("Mul", g.reshape(current, [-1]), momentum))

    count = g.op("Mul", g.size(x, 0), g.ints(x.fixed_size(*range(2, x.rank)) if x.rank > 2 else 1))
    samples = g.cast(count, torch.float32)
    unbiased = g.op("Mul", variance, g.op("Div", samples, g.op("Sub", samples, 1.0)))
    result = scaled(g, values, column(g, x, weight), column(g, x, bias))
    return result, mean, reciprocal, moved(running_mean, mean), moved(running_variance, unbiased)


@rule(aten.native_batch_norm_backward.default)
def _batch_norm_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    x: Operand,
    weight: Operand | None,
    running_mean: Operand,
    running_variance: Operand,
    mean: Operand | None,
    reciprocal: Operand | None,
    training: bool,
    epsilon: float,
    wanted: Sequence[bool],
) -> tuple[str, ...]:
    centre: Input = mean if training else column(g, x, running_mean)
    scale: Input = reciprocal if training else reciprocal_deviation(g, x, running_variance, epsilon)
    values = g.op("Mul", g.op("Sub", x, centre), scale)
    product = g.op("Mul", grad, values)
    inner = grad.name
    if training:  # in evaluation mode the statistics do not depend on the batch
        shift = g.mean(grad, across(x), keepdims=True)
        stretch = g.op("Mul", values, g.mean(product, across(x), keepdims=True))
        inner = g.op("Sub", g.op("Sub", inner, shift), stretch)
    along = g.op("Mul", scaled(g, inner, column(g, x, weight), None), scale)
    return along, g.sum(product, across(x)), g.sum(grad, across(x))
