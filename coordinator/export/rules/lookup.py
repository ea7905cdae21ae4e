"""Values and rows of a table, such as embeddings, picked by index."""

import torch

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand, ValueType, require
from coordinator.export.rules.registry import rule

aten = torch.ops.aten


@rule(aten.embedding.default)
def _embedding(g: Graph, out: ValueType, table: Operand, indices: Operand, *options: object) -> str:
    return g.op("Gather", table, indices, axis=0)


@rule(aten.gather.default)
def _gather(g: Graph, out: ValueType, x: Operand, dim: int, indices: Operand, sparse_grad: bool = False) -> str:
    return g.op("GatherElements", x, indices, axis=x.axis(dim))


@rule(aten.embedding_dense_backward.default)
def _embedding_backward(
    g: Graph, out: ValueType, grad: Operand, indices: Operand, rows: int, padding_index: int, by_frequency: bool
) -> str:
    require(padding_index < 0 and not by_frequency, "an embedding with padding_idx or scale_grad_by_freq")
    width = grad.fixed_size(-1)
    zeros = g.op("Expand", 0.0, g.ints([rows, width]))
    return g.op("ScatterND", zeros, g.reshape(indices, [-1, 1]), g.reshape(grad, [-1, width]), reduction="add")
