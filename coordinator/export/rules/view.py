"""Views, slices and joins, and their gradients."""

from collections.abc import Sequence

import torch

from coordinator.export.graph import Graph, Size
from coordinator.export.operand import Operand, ValueType, require
from coordinator.export.rules.registry import rule
from shared.errors import ExportError

aten = torch.ops.aten

TO_THE_END = 1 << 62


@rule(aten.view.default, aten._unsafe_view.default, aten.reshape.default)
def _view(g: Graph, out: ValueType, x: Operand, shape: Sequence[Size]) -> str:
    computed = sum(not isinstance(size, int) for size in shape)
    if computed == 1 and -1 not in shape:
        return g.reshape(x, [size if isinstance(size, int) else -1 for size in shape])
    return g.op("Reshape", x, g.sizes(shape))


@rule(aten.t.default)
def _matrix_transpose(g: Graph, out: ValueType, x: Operand) -> str:
    return g.transpose(x, list(range(x.rank))[::-1])


@rule(aten.transpose.int)
def _transpose(g: Graph, out: ValueType, x: Operand, first: int, second: int) -> str:
    order = list(range(x.rank))
    order[first], order[second] = order[second], order[first]
    return g.transpose(x, order)


@rule(aten.permute.default)
def _permute(g: Graph, out: ValueType, x: Operand, order: Sequence[int]) -> str:
    return g.transpose(x, [x.axis(dim) for dim in order])


@rule(aten.unsqueeze.default)
def _unsqueeze(g: Graph, out: ValueType, x: Operand, dim: int) -> str:
    return g.op("Unsqueeze", x, g.ints([dim % out.rank]))


@rule(aten.squeeze.dim, aten.squeeze.dims)
def _squeeze(g: Graph, out: ValueType, x: Operand, dims: int | Sequence[int]) -> str:
    single = [axis for axis in x.axes(dims) if x.shape[axis] == 1]
    return g.op("Squeeze", x, g.ints(single)) if single else x.name


@rule(aten.expand.default)
def _expand(g: Graph, out: ValueType, x: Operand, shape: Sequence[Size], implicit: bool = False) -> str:
    return g.op("Expand", x, g.sizes([1 if size == -1 else size for size in shape]))


@rule(aten.slice.Tensor)
def _slice_range(
    g: Graph,
    out: ValueType,
    x: Operand,
    dim: int = 0,
    start: Size | None = None,
    stop: Size | None = None,
    step: int = 1,
) -> str:
    start = 0 if start is None else start
    stop = TO_THE_END if stop is None else stop
    if start == 0 and isinstance(stop, int) and stop >= TO_THE_END and step == 1:
        return x.name
    return g.op("Slice", x, g.sizes([start]), g.sizes([stop]), g.ints([x.axis(dim)]), g.ints([step]))


@rule(aten.slice_backward.default)
def _slice_backward(
    g: Graph, out: ValueType, grad: Operand, shape: Sequence[Size], dim: int, start: int, stop: int, step: int
) -> str:
    require(step == 1, "the gradient of a slice with a step")
    axis = grad.axis(dim)
    if start == 0 and stop >= TO_THE_END:
        return grad.name
    size = fixed(shape[axis])
    first, last = (min(bound + size if bound < 0 else bound, size) for bound in (start, stop))
    return padded_along(g, grad.name, grad.rank, axis, first, size - last)


@rule(aten.select.int)
def _select(g: Graph, out: ValueType, x: Operand, dim: int, index: int) -> str:
    return g.op("Gather", x, g.ints(index), axis=x.axis(dim))


@rule(aten.select_backward.default)
def _select_backward(g: Graph, out: ValueType, grad: Operand, shape: Sequence[Size], dim: int, index: int) -> str:
    axis = dim % len(shape)
    size = fixed(shape[axis])
    row = g.op("Unsqueeze", grad, g.ints([axis]))
    return padded_along(g, row, len(shape), axis, index % size, size - 1 - index % size)


@rule(aten.flip.default)
def _flip(g: Graph, out: ValueType, x: Operand, dims: Sequence[int]) -> str:
    backwards = g.ints([-1] * len(dims))
    return g.op("Slice", x, backwards, g.ints([-TO_THE_END] * len(dims)), g.ints(x.axes(dims)), backwards)


@rule(aten.constant_pad_nd.default)
def _constant_pad(g: Graph, out: ValueType, x: Operand, pad: Sequence[int], value: float = 0.0) -> str:
    untouched = [0] * (x.rank - len(pad) // 2)
    before, after = list(pad[0::2])[::-1], list(pad[1::2])[::-1]
    return g.pad(x, [*untouched, *before], [*untouched, *after], float(value))


@rule(aten.cat.default)
def _concatenate(g: Graph, out: ValueType, parts: Sequence[Operand], dim: int = 0) -> str:
    return g.concat(parts, parts[0].axis(dim))


@rule(aten.stack.default)
def _stack(g: Graph, out: ValueType, parts: Sequence[Operand], dim: int = 0) -> str:
    axis = dim % out.rank
    return g.concat([g.op("Unsqueeze", part, g.ints([axis])) for part in parts], axis)


@rule(aten.split.Tensor)
def _split(g: Graph, out: ValueType, x: Operand, size: int, dim: int = 0) -> tuple[str, ...]:
    axis = x.axis(dim)
    total = x.fixed_size(axis)
    return tuple(g.slice(x, axis, start, min(start + size, total)) for start in range(0, total, size))


@rule(aten.unbind.int)
def _unbind(g: Graph, out: ValueType, x: Operand, dim: int = 0) -> tuple[str, ...]:
    axis = x.axis(dim)
    return tuple(g.op("Gather", x, g.ints(index), axis=axis) for index in range(x.fixed_size(axis)))


@rule(aten.sym_numel.default)
def _count(g: Graph, out: ValueType, x: Operand) -> str:
    return g.op("Size", x)


@rule(aten.sym_size.int)
def _size(g: Graph, out: ValueType, x: Operand, dim: int) -> str:
    return g.size(x, x.axis(dim))


def padded_along(g: Graph, value: str, rank: int, axis: int, before: int, after: int) -> str:
    """`value` with zeros added at both ends of one axis."""
    return g.pad(value, [before * (dim == axis) for dim in range(rank)], [after * (dim == axis) for dim in range(rank)])


def fixed(size: Size) -> int:
    """A size that must not depend on the batch."""
    if isinstance(size, Operand):
        raise ExportError("the gradient of a part of the batch is not supported")
    return size
