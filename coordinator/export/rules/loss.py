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


def weighted_targets(g: Graph, target: Operand, log_probability: Operand, weight: Operand | None, ignored: int) -> str:
    """float32 `[B, classes]`: the class's weight in the column of each target, nothing where it is ignored."""
    require(log_probability.rank == 2, "cross entropy of more than one prediction per example")
    classes, chosen = log_probability.fixed_size(1), target.name
    if -classes <= ignored < classes:  # OneHot counts these from the end; outside, it writes a row of zeros
        is_ignored = g.op("Equal", target, g.ints(ignored))
        chosen = g.op("Where", is_ignored, g.ints(classes), target)
    rows = g.op("OneHot", chosen, g.ints([classes]), g.constant([0.0, 1.0], "float32"), axis=1)
    return rows if weight is None else g.op("Mul", rows, weight)


@rule(aten.nll_loss_forward.default)
def _nll_loss(
    g: Graph,
    out: ValueType,
    log_probability: Operand,
    target: Operand,
    weight: Operand | None,
    reduction: int,
    ignored: int,
) -> tuple[str, str | None]:
    rows = weighted_targets(g, target, log_probability, weight, ignored)
    losses = g.op("Neg", g.sum(g.op("Mul", log_probability, rows), [1]))
    if reduction == PER_EXAMPLE:
        return losses, None
    total = g.sum(losses, [0])
    total_weight = g.sum(rows, [0, 1])
    return (g.op("Div", total, total_weight) if reduction == MEAN else total), total_weight


@rule(aten.nll_loss_backward.default)
def _nll_loss_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    log_probability: Operand,
    target: Operand,
    weight: Operand | None,
    reduction: int,
    ignored: int,
    total_weight: Operand | None,
) -> str:
    scale = g.op("Neg", grad)
    if reduction == MEAN:
        scale = g.op("Div", scale, total_weight)
    elif reduction == PER_EXAMPLE:
        scale = g.op("Unsqueeze", scale, g.ints([1]))
    return g.op("Mul", weighted_targets(g, target, log_probability, weight, ignored), scale)
