"""An ONNX graph under construction: constants are pooled, equal nodes made once, unused nodes dropped."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from coordinator.export.operand import NUMPY_TYPES, ONNX_TYPES, Operand

OPSET = 18
IR_VERSION = 8

Scalar = bool | int | float
Input = Operand | str | float | None
Attribute = int | float | str | Sequence[int]
Size = int | Operand


class Graph:
    """Appends ONNX nodes and hands out the names of their outputs, counted from 1 in order of creation.

    A float given as an input stands for a float32 constant, None for an optional input left out. `rectified` has the
    pairs of a gradient and a rectified value of which it is known that the one is 0 wherever the other is; `by_column`
    what can give a value `[B, C, rows, columns]` as n parts, each with every n-th column, channels last.
    """

    def __init__(self) -> None:
        self.rectified: set[tuple[str, str]] = set()
        self.by_column: dict[str, Callable[[int], Sequence[str] | None]] = {}
        self._nodes: list[NodeProto] = []
        self._producers: dict[str, NodeProto] = {}
        self._constants: dict[tuple[bytes, tuple[int, ...], str], TensorProto] = {}
        self._made: dict[tuple[object, ...], tuple[str, ...]] = {}

    def op(self, kind: str, *inputs: Input, **attributes: Attribute) -> str:
        """The output of a node of one output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Input, **attributes: Attribute) -> tuple[str, ...]:
        """The outputs of a node, which is made only if an equal one does not exist yet."""
        names = [self._name(value) for value in inputs]
        key = (kind, outputs, *names, repr(sorted(attributes.items())))
        if key not in self._made:
            self._made[key] = self._append(kind, outputs, names, attributes)
        return self._made[key]

    def random(self, kind: str, *inputs: Input, **attributes: Attribute) -> str:
        """The output of a node that draws random numbers: two equal ones must stay two."""
        return self._append(kind, 1, [self._name(value) for value in inputs], attributes)[0]

    def producer(self, name: str) -> NodeProto | None:
        """The node whose output is `name`; None for an input or a constant."""
        return self._producers.get(name)

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """A constant of this dtype."""
        values = np.asarray(array, dtype)
        key = (values.tobytes(), values.shape, values.dtype.str)
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(values, f"c{len(self._constants) + 1}")
        return self._constants[key].name

    def scalar(self, value: Scalar, dtype: torch.dtype) -> str:
        """A constant without dimensions, of a torch dtype."""
        return self.constant(value, NUMPY_TYPES[dtype])

    def ints(self, values: int | Iterable[int]) -> str:
        """An int64 constant: a scalar, or a vector."""
        return self.constant(values if isinstance(values, int) else list(values), np.int64)

    def sizes(self, sizes: Sequence[Size]) -> str:
        """An int64 vector of sizes, some of which the graph computes."""
        if all(isinstance(size, int) for size in sizes):
            return self.ints([size for size in sizes if isinstance(size, int)])
        vectors = [self.ints([size]) if isinstance(size, int) else self.reshape(size, [1]) for size in sizes]
        return self.op("Concat", *vectors, axis=0) if len(vectors) > 1 else vectors[0]

    def reshape(self, value: Input, shape: Sequence[int]) -> str:
        """`value` with these dimensions: 0 keeps one, -1 is inferred."""
        return self.op("Reshape", value, self.ints(shape))

    def transpose(self, value: Input, order: Sequence[int]) -> str:
        """`value` with its dimensions in this order; consecutive transpositions become one."""
        name, order = self._name(value), list(order)
        before = self.producer(name)
        if before is not None and before.op_type == "Transpose":
            name, inner = before.input[0], list(before.attribute[0].ints)
            order = [inner[dim] for dim in order]
        return name if order == sorted(order) else self.op("Transpose", name, perm=order)

    def slice(self, value: Input, axis: int, start: int, stop: int) -> str:
        """The range `start:stop` of one axis."""
        return self.op("Slice", value, self.ints([start]), self.ints([stop]), self.ints([axis]))

    def concat(self, values: Sequence[Input], axis: int) -> str:
        """These values one after the other along an axis."""
        return self.op("Concat", *values, axis=axis) if len(values) > 1 else self._name(values[0])

    def pad(self, value: Input, before: Sequence[int], after: Sequence[int], fill: float = 0.0) -> str:
        """`value` with so many entries added before and after each dimension."""
        if not any(before) and not any(after):
            return self._name(value)
        return self.op("Pad", value, self.ints([*before, *after]), *([fill] if fill else []))

    def sum(self, value: Input, axes: Sequence[int], keepdims: bool = False) -> str:
        """The sum over these axes."""
        return self.op("ReduceSum", value, self.ints(axes), keepdims=int(keepdims)) if axes else self._name(value)

    def mean(self, value: Input, axes: Sequence[int], keepdims: bool = False) -> str:
        """The mean over these axes."""
        return self.op("ReduceMean", value, self.ints(axes), keepdims=int(keepdims)) if axes else self._name(value)

    def cast(self, value: Input, dtype: torch.dtype) -> str:
        """`value` converted to a torch dtype."""
        return self.op("Cast", value, to=ONNX_TYPES[dtype])

    def size(self, value: Input, axis: int) -> str:
        """One dimension of `value`, an int64 scalar."""
        return self.op("Gather", self.op("Shape", value), self.ints(axis), axis=0)

    def model(
        self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[tuple[str, ValueInfoProto]]
    ) -> ModelProto:
        """The finished model, which hands out each value under the name and type that go with it."""
        named = [helper.make_node("Identity", [value], [info.name], name=info.name) for value, info in outputs]
        needed = {value for value, _ in outputs}
        live: list[NodeProto] = []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                live.append(node)
                needed.update(node.input)
        constants = [tensor for tensor in self._constants.values() if tensor.name in needed]
        infos = [info for _, info in outputs]
        graph = helper.make_graph([*reversed(live), *named], name, list(inputs), infos, constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="gradsieve")

    def _name(self, value: Input) -> str:
        if value is None:
            return ""
        if isinstance(value, Operand):
            return value.name
        return value if isinstance(value, str) else self.constant(value, np.float32)

    def _append(
        self, kind: str, outputs: int, inputs: Sequence[str], attributes: Mapping[str, Attribute]
    ) -> tuple[str, ...]:
        number = len(self._nodes) + 1
        names = [f"v{number}" if outputs == 1 else f"v{number}.{index}" for index in range(outputs)]
        node = helper.make_node(kind, list(inputs), names, name=f"{kind}{number}")
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(node)
        self._producers.update(dict.fromkeys(names, node))
        return tuple(names)
