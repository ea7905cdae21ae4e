"""Matrix products."""

import torch

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand, ValueType, require
from coordinator.export.rules.registry import rule

aten = torch.ops.aten


def untransposed(g: Graph, name: str) -> tuple[str, int]:
    """The matrix behind a transposition and 1, or the matrix itself and 0: Gemm transposes without a copy."""
    node = g.producer(name)
    return (node.input[0], 1) if node is not None and node.op_type == "Transpose" else (name, 0)


@rule(aten.mm.default)
def _matrix_product(g: Graph, out: ValueType, a: Operand, b: Operand) -> str:
    (left, left_turned), (right, right_turned) = untransposed(g, a.name), untransposed(g, b.name)
    return g.op("Gemm", left, right, transA=left_turned, transB=right_turned)


@rule(aten.addmm.default)
def _affine(g: Graph, out: ValueType, bias: Operand, a: Operand, b: Operand, beta: float = 1, alpha: float = 1) -> str:
    (left, left_turned), (right, right_turned) = untransposed(g, a.name), untransposed(g, b.name)
    require(beta == 1 and alpha == 1, "a scaled addmm")
    return g.op("Gemm", left, right, bias, transA=left_turned, transB=right_turned)


@rule(aten.bmm.default)
def _batched_product(g: Graph, out: ValueType, a: Operand, b: Operand) -> str:
    return g.op("MatMul", a, b)
