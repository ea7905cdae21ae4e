"""Writes a captured aten graph as an ONNX model."""

import operator
from collections.abc import Sequence
from typing import cast

import torch
from onnx import ModelProto, ValueInfoProto, checker, helper
from torch import Tensor, fx

from coordinator.export.graph import Graph
from coordinator.export.operand import ONNX_TYPES, Operand, ValueType
from coordinator.export.rules import RULES
from shared.errors import ExportError

BATCH = "B"

Parts = tuple[Operand | None, ...]


def translate(
    captured: fx.GraphModule, name: str, inputs: Sequence[str | None], outputs: Sequence[str | None]
) -> ModelProto:
    """The checked ONNX model of a captured graph, its inputs and outputs named in order; None leaves one out.

    Raises `ExportError` naming the operator and the model's line where an operator has no rule.
    """
    nodes = list(captured.graph.nodes)
    placeholders = [node for node in nodes if node.op == "placeholder"]
    results = cast(tuple[fx.Node, ...], nodes[-1].args[0])
    translation = Translation(captured)
    for node, label in zip(placeholders, inputs, strict=True):
        translation.values[node] = Operand(label or node.name, _type(node.meta["val"]))
    for node in nodes:
        translation.visit(node)
    batch = str(placeholders[0].meta["val"].shape[0])
    model = translation.graph.model(
        name,
        [_info(node, label, batch) for node, label in zip(placeholders, inputs, strict=True) if label],
        [
            (translation.values[node].name, _info(node, label, batch))
            for node, label in zip(results, outputs, strict=True)
            if label
        ],
    )
    checker.check_model(model, full_check=True)
    return model


class Translation:
    """The values made so far, by the aten node that they stand for."""

    def __init__(self, captured: fx.GraphModule) -> None:
        self.graph = Graph()
        self.values: dict[fx.Node, Operand] = {}
        self._parts: dict[fx.Node, Parts] = {}
        self._captured = captured

    def visit(self, node: fx.Node) -> None:
        """Translate one node, unless nothing uses it."""
        if node.op == "get_attr":
            constant = cast(Tensor, getattr(self._captured, str(node.target))).detach()
            array = constant.numpy()
            self.values[node] = Operand(self.graph.constant(array, array.dtype), _type(constant))
        elif node.target is operator.getitem:
            part = self._parts[cast(fx.Node, node.args[0])][cast(int, node.args[1])]
            if part is not None:
                self.values[node] = part
        elif node.op == "call_function" and node.users:
            self._call(node)

    def _call(self, node: fx.Node) -> None:
        rule = RULES.get(node.target)
        if rule is None:
            raise ExportError(f"operator {node.target} has no ONNX rule; {_place(node)}")
        value = node.meta["val"]
        types = [_type(part) for part in value] if isinstance(value, tuple | list) else [_type(value)]
        positional, named = cast(
            tuple[tuple[object, ...], dict[str, object]],
            fx.map_arg((node.args, node.kwargs), self._argument),  # type: ignore[arg-type]  # nodes become our own values
        )
        try:
            result = rule(self.graph, types[0], *positional, **named)
        except ExportError as error:
            raise ExportError(f"operator {node.target}: {error}; {_place(node)}") from error
        if isinstance(result, str):
            self.values[node] = Operand(result, types[0])
        else:
            parts = zip(result, types, strict=True)
            self._parts[node] = tuple(None if name is None else Operand(name, part) for name, part in parts)

    def _argument(self, node: fx.Node) -> Operand | Parts | None:
        """What a rule sees of a node: None for a result that its rule left out."""
        return self.values[node] if node in self.values else self._parts.get(node)


def _type(value: object) -> ValueType:
    """The type of a traced value: a tensor, a size, or nothing where a result was not asked for."""
    if isinstance(value, Tensor):
        return ValueType(tuple(size if isinstance(size, int) else None for size in value.shape), value.dtype)
    return ValueType((), torch.float32 if isinstance(value, float | torch.SymFloat) else torch.int64)


def _info(node: fx.Node, label: str, batch: str) -> ValueInfoProto:
    """The ONNX description of an input or output; sizes other than the batch that depend on it are left open."""
    value = node.meta["val"]
    sizes = [size if isinstance(size, int) else BATCH if str(size) == batch else None for size in value.shape]
    return helper.make_tensor_value_info(label, ONNX_TYPES[value.dtype], sizes)


def _place(node: fx.Node) -> str:
    """Where in the model a node comes from; where only torch's own code asked for it, what it is made from."""
    nearby = [node]
    for source in nearby:
        if label := source.meta.get("stack_trace"):
            return label if source is node else f"used in the loss, or on what is {label}"
        nearby.extend(earlier for earlier in source.all_input_nodes if earlier not in nearby)
    return "used in the loss"
