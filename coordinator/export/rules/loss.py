"""Softmax, its logarithm, and the negative log-likelihood."""

import torch

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand, ValueType, require
from coordinator.export.rules.registry import rule

aten = torch.ops.aten

PER_EXAMPLE, MEAN = 0, 1


@rule(aten._softmax.default)
def _softmax(g: Graph, out: ValueType, x: Operand, dim: int, half_to_float: bool) -> str:
    return g.op("Softmax", x, axis=x.axis(dim))


@rule(aten._softmax_backward_data.default)
def _softmax_backward(g: Graph, out: ValueType, grad: Operand, y: Operand, dim: int, dtype: torch.dtype) -> str:
    weighted = g.op("Mul", grad, y)
    return g.op("Sub", weighted, g.op("Mul", y, g.sum(weighted, [y.axis(dim)], keepdims=True)))


@rule(aten._log_softmax.default)
def _log_softmax(g: Graph, out: ValueType, x: Operand, dim: int, half_to_float: bool) -> str:
    return g.op("LogSoftmax", x, axis=x.axis(dim))


@rule(aten._log_softmax_backward_data.default)
def _log_softmax_backward(g: Graph, out: ValueType, grad: Operand, y: Operand, dim: int, dtype: torch.dtype) -> str:
    total = g.sum(grad, [y.axis(dim)], keepdims=True)
    return g.op("Sub", grad, g.op("Mul", g.op("Exp", y), total))


def one_hot(g: Graph, target: Operand, log_probability: Operand) -> str:
    """float32 `[B, classes]`: 1 in the column of each target."""
    classes = g.ints(log_probability.fixed(1))
    return g.op("OneHot", target, classes, g.constant([0.0, 1.0], "float32"), axis=1)


@rule(aten.nll_loss_forward.default)
def _nll_loss(
    g: Graph,
    out: ValueType,
    log_probability: Operand,
    target: Operand,
    weight: Operand | None,
    reduction: int,
    ignore: int,
) -> tuple[str, str | None]:
    require(weight is None, "cross entropy with class weights")
    require(log_probability.rank == 2, "cross entropy of more than one prediction per example")
    picked = g.op("Mul", log_probability, one_hot(g, target, log_probability))
    losses = g.op("Neg", g.sum(picked, [1]))
    if reduction == PER_EXAMPLE:
        return losses, None
    return (g.mean(losses, [0]) if reduction == MEAN else g.sum(losses, [0])), None


@rule(aten.nll_loss_backward.default)
def _nll_loss_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    log_probability: Operand,
    target: Operand,
    weight: Operand | None,
    reduction: int,
    ignore: int,
    total_weight: Operand | None,
) -> str:
    scale = g.op("Neg", grad)
    if reduction == MEAN:
        scale = g.op("Div", scale, g.cast(g.size(log_probability, 0), torch.float32))
    elif reduction == PER_EXAMPLE:
        scale = g.op("Unsqueeze", scale, g.ints([1]))
    return g.op("Mul", one_hot(g, target, log_probability), scale)
