"""Arithmetic, comparison, selection and conversion, element by element."""

import operator

import torch

from coordinator.export.graph import Graph, Scalar
from coordinator.export.operand import Operand, ValueType
from coordinator.export.rules.registry import Rule, rule

aten = torch.ops.aten

UNARY = {
    "Abs": aten.abs.default,
    "Erf": aten.erf.default,
    "Exp": aten.exp.default,
    "Log": aten.log.default,
    "Neg": aten.neg.default,
    "Reciprocal": aten.reciprocal.default,
    "Sqrt": aten.sqrt.default,
}
BINARY = {
    "Add": (aten.add.Tensor, aten.add.Scalar),
    "Sub": (aten.sub.Tensor, aten.sub.Scalar),
    "Mul": (aten.mul.Tensor, aten.mul.Scalar, operator.mul),
    "Div": (aten.div.Tensor, aten.div.Scalar, operator.floordiv, operator.truediv),
    "Max": (aten.maximum.default,),
    "Min": (aten.minimum.default,),
}
COMPARISON = {
    "Equal": (aten.eq.Tensor, aten.eq.Scalar),
    "Greater": (aten.gt.Tensor, aten.gt.Scalar),
    "GreaterOrEqual": (aten.ge.Tensor, aten.ge.Scalar),
    "Less": (aten.lt.Tensor, aten.lt.Scalar),
    "LessOrEqual": (aten.le.Tensor, aten.le.Scalar),
}


def as_type(g: Graph, value: Operand | Scalar, dtype: torch.dtype) -> str:
    """`value` in this dtype: a constant, or a cast where it has another one."""
    if not isinstance(value, Operand):
        return g.scalar(value, dtype)
    return value.name if value.dtype == dtype else g.cast(value, dtype)


def unary(kind: str) -> Rule:
    """A rule that applies one ONNX operator to one tensor."""
    return lambda g, out, x: g.op(kind, as_type(g, x, out.dtype))


def binary(kind: str) -> Rule:
    """A rule that applies one ONNX operator to two tensors or sizes, the second one scaled by `alpha`."""

    def apply(g: Graph, out: ValueType, a: Operand | Scalar, b: Operand | Scalar, alpha: Scalar = 1) -> str:
        second = as_type(g, b, out.dtype)
        if alpha != 1:
            second = g.op("Mul", second, g.scalar(alpha, out.dtype))
        return g.op(kind, as_type(g, a, out.dtype), second)

    return apply


def comparison(kind: str) -> Rule:
    """A rule that compares in the dtype that torch would promote to."""

    def apply(g: Graph, out: ValueType, a: Operand, b: Operand | Scalar) -> str:
        if isinstance(b, Operand):
            common = torch.promote_types(a.dtype, b.dtype)
        else:
            common = torch.float32 if isinstance(b, float) else a.dtype
        return g.op(kind, as_type(g, a, common), as_type(g, b, common))

    return apply


for onnx_kind, overload in UNARY.items():
    rule(overload)(unary(onnx_kind))
for onnx_kind, overloads in BINARY.items():
    rule(*overloads)(binary(onnx_kind))
for onnx_kind, overloads in COMPARISON.items():
    rule(*overloads)(comparison(onnx_kind))

rule(operator.add)(binary("Add"))
rule(operator.sub)(binary("Sub"))
rule(operator.neg)(unary("Neg"))
rule(aten.sign.default, aten.sgn.default)(unary("Sign"))
rule(aten.logical_not.default, aten.bitwise_not.default)(unary("Not"))
rule(aten.logical_and.default, aten.bitwise_and.Tensor)(binary("And"))
rule(aten.logical_or.default, aten.bitwise_or.Tensor)(binary("Or"))


@rule(aten.rsub.Scalar)
def _reversed_subtract(g: Graph, out: ValueType, x: Operand, minuend: Scalar) -> str:
    return g.op("Sub", g.scalar(minuend, out.dtype), x)


@rule(aten.rsqrt.default)
def _reciprocal_root(g: Graph, out: ValueType, x: Operand) -> str:
    return g.op("Reciprocal", g.op("Sqrt", x))


@rule(aten.isnan.default)
def _is_not_a_number(g: Graph, out: ValueType, x: Operand) -> str:
    return g.op("IsNaN", x)


@rule(aten.log1p.default)
def _log_of_more_than_one(g: Graph, out: ValueType, x: Operand) -> str:
    return g.op("Log", g.op("Add", x, 1.0))


@rule(aten.pow.Tensor_Scalar)
def _power(g: Graph, out: ValueType, x: Operand, exponent: float) -> str:
    return g.op("Mul", x, x) if exponent == 2 else g.op("Pow", x, float(exponent))


@rule(aten.clamp.default)
def _clamp(g: Graph, out: ValueType, x: Operand, low: Scalar | None = None, high: Scalar | None = None) -> str:
    bounds = [None if bound is None else g.scalar(bound, out.dtype) for bound in (low, high)]
    return g.op("Clip", as_type(g, x, out.dtype), *bounds)


@rule(aten.where.self)
def _where(g: Graph, out: ValueType, condition: Operand, a: Operand, b: Operand) -> str:
    return g.op("Where", condition, as_type(g, a, out.dtype), as_type(g, b, out.dtype))


@rule(aten.masked_fill.Scalar)
def _masked_fill(g: Graph, out: ValueType, x: Operand, mask: Operand, value: Scalar) -> str:
    return g.op("Where", mask, g.scalar(value, out.dtype), x)


@rule(aten.detach.default, aten.clone.default, aten.alias.default, aten.lift_fresh_copy.default)
def _same(g: Graph, out: ValueType, x: Operand, **memory: object) -> str:
    return x.name


@rule(aten._to_copy.default, torch.sym_float)
def _convert(g: Graph, out: ValueType, x: Operand, **target: object) -> str:
    return as_type(g, x, out.dtype)
