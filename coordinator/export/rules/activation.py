"""Activation functions and the gradients that torch does not decompose by itself."""

import math

import torch

from coordinator.export.graph import Graph, Scalar
from coordinator.export.operand import Operand, ValueType, require
from coordinator.export.rules.elementwise import unary
from coordinator.export.rules.registry import rule
from coordinator.export.rules.swapped import either_way

aten = torch.ops.aten

rule(aten.sigmoid.default)(unary("Sigmoid"))
rule(aten.tanh.default)(unary("Tanh"))
rule(aten.hardswish.default)(unary("HardSwish"))


@rule(aten.relu.default)
def _relu(g: Graph, out: ValueType, x: Operand) -> str:
    return either_way(g, x, lambda image: g.op("Relu", image))


@rule(aten.leaky_relu.default)
def _leaky_relu(g: Graph, out: ValueType, x: Operand, slope: float = 0.01) -> str:
    return g.op("LeakyRelu", x, alpha=slope)


@rule(aten.elu.default)
def _elu(g: Graph, out: ValueType, x: Operand, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> str:
    require(scale == 1 and input_scale == 1, "a scaled ELU")
    return g.op("Elu", x, alpha=float(alpha))


@rule(aten.silu.default)
def _silu(g: Graph, out: ValueType, x: Operand) -> str:
    return g.op("Mul", x, g.op("Sigmoid", x))


@rule(aten.hardtanh.default)
def _hardtanh(g: Graph, out: ValueType, x: Operand, low: Scalar = -1, high: Scalar = 1) -> str:
    return g.op("Clip", x, float(low), float(high))


def normal_cdf(g: Graph, x: Operand) -> str:
    """The standard normal distribution function, which GELU and its gradient share."""
    erf = g.op("Erf", g.op("Mul", x, math.sqrt(0.5)))
    return g.op("Mul", g.op("Add", erf, 1.0), 0.5)


@rule(aten.gelu.default)
def _gelu(g: Graph, out: ValueType, x: Operand, approximate: str = "none") -> str:
    require(approximate == "none", f"GELU with approximate={approximate!r}")
    return g.op("Mul", x, normal_cdf(g, x))


@rule(aten.gelu_backward.default)
def _gelu_backward(g: Graph, out: ValueType, grad: Operand, x: Operand, approximate: str = "none") -> str:
    bell = g.op("Exp", g.op("Mul", g.op("Mul", x, x), -0.5))
    slope = g.op("Mul", g.op("Mul", x, bell), 1 / math.sqrt(2 * math.pi))
    return g.op("Mul", grad, g.op("Add", normal_cdf(g, x), slope))


@rule(aten.native_dropout.default)
def _dropout(g: Graph, out: ValueType, x: Operand, probability: float, train: bool | None) -> tuple[str, str]:
    require(train is not False, "dropout that is switched off")
    draws = g.random("RandomUniformLike", x)
    kept = g.op("GreaterOrEqual", draws, float(probability))
    return scaled_where(g, x.name, kept, 1 / (1 - probability)), kept


@rule(aten.native_dropout_backward.default)
def _dropout_backward(g: Graph, out: ValueType, grad: Operand, kept: Operand, scale: float) -> str:
    return scaled_where(g, grad.name, kept.name, scale)


def scaled_where(g: Graph, value: str, kept: str, scale: float) -> str:
    """`value * scale` where it is kept, 0 elsewhere."""
    return g.op("Mul", value, g.op("Mul", g.cast(kept, torch.float32), float(scale)))
