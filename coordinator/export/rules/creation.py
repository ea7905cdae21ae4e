"""Tensors made from nothing but a size and a value."""

from collections.abc import Sequence

import torch

from coordinator.export.graph import Graph, Scalar, Size
from coordinator.export.operand import Operand, ValueType
from coordinator.export.rules.elementwise import as_type
from coordinator.export.rules.registry import rule

aten = torch.ops.aten


@rule(aten.full.default)
def _full(g: Graph, out: ValueType, shape: Sequence[Size], value: Operand | Scalar, **options: object) -> str:
    scalar = as_type(g, value, out.dtype)
    return g.op("Expand", scalar, g.sizes(shape)) if shape else scalar


@rule(aten.zeros.default)
def _zeros(g: Graph, out: ValueType, shape: Sequence[Size], **options: object) -> str:
    return _full(g, out, shape, 0)


@rule(aten.new_zeros.default)
def _new_zeros(g: Graph, out: ValueType, like: Operand, shape: Sequence[Size], **options: object) -> str:
    return _full(g, out, shape, 0)


@rule(aten.full_like.default)
def _full_like(g: Graph, out: ValueType, like: Operand, value: Scalar, **options: object) -> str:
    scalar = g.scalar(value, out.dtype)
    return g.op("Expand", scalar, g.op("Shape", like)) if out.rank else scalar


@rule(aten.scalar_tensor.default)
def _scalar_tensor(g: Graph, out: ValueType, value: Operand | Scalar, **options: object) -> str:
    return as_type(g, value, out.dtype)
