"""Sums, means and the index of the largest value."""

from collections.abc import Sequence

import torch

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand, ValueType
from coordinator.export.rules.elementwise import as_type
from coordinator.export.rules.registry import rule

aten = torch.ops.aten

Dims = int | Sequence[int] | None


@rule(aten.sum.default, aten.sum.dim_IntList)
def _total(
    g: Graph, out: ValueType, x: Operand, dims: Dims = None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> str:
    return g.sum(as_type(g, x, out.dtype), x.axes(dims), keepdim)


@rule(aten.mean.default, aten.mean.dim)
def _mean(
    g: Graph, out: ValueType, x: Operand, dims: Dims = None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> str:
    return g.mean(as_type(g, x, out.dtype), x.axes(dims), keepdim)


@rule(aten.argmax.default)
def _argmax(g: Graph, out: ValueType, x: Operand, dim: int, keepdim: bool = False) -> str:
    return g.op("ArgMax", x, axis=x.axis(dim), keepdims=int(keepdim))
