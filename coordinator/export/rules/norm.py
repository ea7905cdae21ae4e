"""Group and layer normalisation: the forward rule's normalised values serve the gradient as well."""

from collections.abc import Sequence

import torch

from coordinator.export.graph import Graph, Input
from coordinator.export.operand import Operand, ValueType
from coordinator.export.rules.registry import rule
from coordinator.export.rules.swapped import SWAP, is_swapped, swapped

aten = torch.ops.aten


def normalise(g: Graph, value: Input, shape: Sequence[int], epsilon: float) -> tuple[str, ...]:
    """Normalised values, mean and reciprocal deviation over the last dimensions, of this shape."""
    ones = g.op("Expand", 1.0, g.ints(shape))
    return g.ops("LayerNormalization", 3, value, ones, axis=-len(shape), epsilon=epsilon)


def normalised_by(g: Graph, mean: Operand) -> tuple[str, str]:
    """The normalised values and reciprocal deviation that were computed together with this mean."""
    node = g.producer(mean.name)
    assert node is not None  # noqa: S101 - only the forward rule makes a mean that the gradient can refer to
    return node.output[0], node.output[2]


def scaled(g: Graph, value: str, weight: Input, bias: Input) -> str:
    """`value * weight + bias`, either of which may be missing."""
    if weight is not None:
        value = g.op("Mul", value, weight)
    return value if bias is None else g.op("Add", value, bias)


def affine(g: Graph, value: str, scale: Input, shift: Input, channels: int | None) -> str:
    """`value * scale + shift` for each of dimension 1, in one pass; None where that many depend on the batch.

    It is batch normalisation by a mean of 0 and a deviation of 1.
    """
    count = g.ints([channels]) if channels is not None else g.op("Shape", scale)
    zeros, ones = g.op("Expand", 0.0, count), g.op("Expand", 1.0, count)
    return g.op("BatchNormalization", value, scale, shift, zeros, ones, epsilon=0.0)


@rule(aten.native_layer_norm.default)
def _layer_norm(
    g: Graph,
    out: ValueType,
    x: Operand,
    shape: Sequence[int],
    weight: Operand | None,
    bias: Operand | None,
    epsilon: float,
) -> tuple[str, ...]:
    values, mean, deviation = normalise(g, x, shape, epsilon)
    return scaled(g, values, weight, bias), mean, deviation


@rule(aten.native_layer_norm_backward.default)
def _layer_norm_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    x: Operand,
    shape: Sequence[int],
    mean: Operand,
    deviation: Operand,
    weight: Operand | None,
    bias: Operand | None,
    wanted: Sequence[bool],
) -> tuple[str, ...]:
    values, reciprocal = normalised_by(g, mean)
    outer, inner = list(range(x.rank - len(shape))), list(range(x.rank - len(shape), x.rank))
    inside = scaled(g, grad.name, weight, None)
    shift = g.mean(inside, inner, keepdims=True)
    stretch = g.op("Mul", values, g.mean(g.op("Mul", inside, values), inner, keepdims=True))
    along = g.op("Mul", g.op("Sub", g.op("Sub", inside, shift), stretch), reciprocal)
    return along, g.sum(g.op("Mul", grad, values), outer), g.sum(grad, outer)


@rule(aten.native_group_norm.default)
def _group_norm(
    g: Graph,
    out: ValueType,
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    batch: object,
    channels: int,
    pixels: int,
    groups: int,
    epsilon: float,
) -> tuple[str, ...]:
    if is_swapped(g, x):
        inner = _group_norm(g, out, swapped(g, x), weight, bias, batch, channels, pixels, groups, epsilon)
        return g.transpose(inner[0], SWAP), *inner[1:]
    size = channels // groups * pixels
    values, mean, deviation = normalise(g, g.reshape(x, [0, groups, size]), [size], epsilon)
    values = g.reshape(values, [0, *x.fixed(*range(1, x.rank))])
    if weight is not None and bias is not None:
        return affine(g, values, weight, bias, channels), mean, deviation
    columns = [None if value is None else g.reshape(value, [channels] + [1] * (x.rank - 2)) for value in (weight, bias)]
    return scaled(g, values, *columns), mean, deviation


@rule(aten.native_group_norm_backward.default)
def _group_norm_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    x: Operand,
    mean: Operand,
    deviation: Operand,
    weight: Operand | None,
    batch: object,
    channels: int,
    pixels: int,
    groups: int,
    wanted: Sequence[bool],
) -> tuple[str, ...]:
    if is_swapped(g, x):
        images = swapped(g, grad), swapped(g, x)
        inner = _group_norm_backward(g, out, *images, mean, deviation, weight, batch, channels, pixels, groups, wanted)
        return g.transpose(inner[0], SWAP), *inner[1:]
    values, reciprocal = normalised_by(g, mean)  # [B, groups, members * pixels] and [B, groups, 1]
    members = channels // groups
    by_pixel = [0, channels, pixels]
    flat_grad = g.reshape(grad, by_pixel)
    grad_sum = g.sum(flat_grad, [2])
    product_sum = g.sum(g.op("Mul", flat_grad, g.reshape(values, by_pixel)), [2])

    def group_mean(sums: str) -> str:
        weighted = scaled(g, sums, weight, None)
        mean_sum = g.mean(g.reshape(weighted, [0, groups, members]), [2], keepdims=True)
        return g.op("Mul", g.op("Mul", mean_sum, 1 / pixels), reciprocal)

    gain = None if weight is None else g.reshape(weight, [1, groups, members])
    slope = g.op("Unsqueeze", scaled(g, reciprocal, gain, None), g.ints([3]))
    direct = g.op("Mul", g.reshape(grad, [0, groups, members, pixels]), slope)
    # All groups of all examples as the channels of one example.
    scales, shifts = (g.reshape(group_mean(sums), [-1]) for sums in (product_sum, grad_sum))
    correction = affine(g, g.reshape(values, [1, -1, members * pixels]), scales, shifts, None)
    along = g.op("Sub", g.reshape(direct, [1, -1, members * pixels]), correction)
    return g.reshape(along, [-1, *x.fixed(*range(1, x.rank))]), g.sum(product_sum, [0]), g.sum(grad_sum, [0])
