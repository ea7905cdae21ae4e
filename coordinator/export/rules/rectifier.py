"""The rectifier's gradient, which onnxruntime multiplies sooner than it selects."""

import torch

from coordinator.export.graph import Graph, Scalar
from coordinator.export.operand import Operand, ValueType
from coordinator.export.rules.registry import rule
from coordinator.export.rules.swapped import SWAP, is_swapped, swapped

aten = torch.ops.aten


def as_ones(g: Graph, rectified: str) -> str:
    """1 where a rectified value is positive, 0 where it is 0, as float32."""
    return g.cast(g.cast(rectified, torch.bool), torch.float32)


@rule(aten.threshold_backward.default)
def _threshold_backward(g: Graph, out: ValueType, grad: Operand, result: Operand, threshold: Scalar) -> str:
    if (grad.name, result.name) in g.rectified:
        return grad.name
    if is_swapped(g, result):
        inner = _threshold_backward(g, out, swapped(g, grad), swapped(g, result), threshold)
        return g.transpose(inner, SWAP)
    producer = g.producer(result.name)
    if producer is not None and producer.op_type == "Relu" and threshold == 0:
        return g.op("Mul", grad, as_ones(g, result.name))
    return g.op("Where", g.op("LessOrEqual", result, g.scalar(threshold, out.dtype)), 0.0, grad)
