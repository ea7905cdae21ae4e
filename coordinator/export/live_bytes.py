"""How much memory the values of a graph take while it runs: the most that is alive at any node."""

from collections.abc import Mapping, Sequence
from math import prod

import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, shape_inference

ELEMENT_BYTES: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.INT64: 8, TensorProto.INT32: 4, TensorProto.BOOL: 1}
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators whose output is their input's buffer under another shape."""


def live_bytes(model: bytes, batch_size: int) -> int:
    """The most bytes of values that a graph keeps at once for a batch, by the order of its nodes.

    Inputs and constants are not among them, outputs are. A value whose size no rule of ONNX tells counts as large as
    the largest that it is made from.
    """
    graph = _of_batch(onnx.load_from_string(model), batch_size).graph
    sizes = _sizes(graph)
    owner = _owners(graph.node)
    last = _last_uses(graph, owner)
    alive = most = 0
    made: dict[str, int] = {}
    for number, node in enumerate(graph.node):
        for name in node.output:
            if name and owner[name] == name:
                made[name] = sizes.get(name) or max((sizes.get(source, 0) for source in node.input), default=0)
                sizes[name] = made[name]
                alive += made[name]
        most = max(most, alive)
        for name in {owner.get(source, source) for source in [*node.input, *node.output]}:
            if name in made and last.get(name, number) <= number:
                alive -= made.pop(name)
    return most


def _of_batch(model: onnx.ModelProto, batch_size: int) -> onnx.ModelProto:
    """The model with its batch dimension fixed, and the shapes inside inferred from that."""
    for value in [*model.graph.input, *model.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = batch_size
    return shape_inference.infer_shapes(model, data_prop=True)


def _sizes(graph: onnx.GraphProto) -> dict[str, int]:
    """Bytes of every value whose shape is known."""
    sizes = {tensor.name: prod(tensor.dims) * _element_bytes(tensor.data_type) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        size = _size(value)
        if size is not None:
            sizes[value.name] = size
    return sizes


def _size(value: ValueInfoProto) -> int | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape") or not all(dimension.HasField("dim_value") for dimension in kind.shape.dim):
        return None
    return int(prod(dimension.dim_value for dimension in kind.shape.dim)) * _element_bytes(kind.elem_type)


def _element_bytes(kind: int) -> int:
    return ELEMENT_BYTES.get(kind, 8)


def _owners(nodes: Sequence[NodeProto]) -> dict[str, str]:
    """The value in whose buffer each one lies: its own, or that of which it is a view."""
    owner: dict[str, str] = {}
    for node in nodes:
        for name in node.output:
            source = node.input[0] if node.op_type in VIEWS else name
            owner[name] = owner.get(source, source)
    return owner


def _last_uses(graph: onnx.GraphProto, owner: Mapping[str, str]) -> dict[str, int]:
    """The number of the last node that reads a buffer; for an output, one after all."""
    last = {owner.get(name, name): number for number, node in enumerate(graph.node) for name in node.input}
    return last | {owner.get(value.name, value.name): len(graph.node) for value in graph.output}
