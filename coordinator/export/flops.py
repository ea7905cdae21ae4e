"""How many floating-point operations training takes for one example, read off the matrix products of its model."""

from math import prod

import onnx
from onnx import shape_inference

Shape = list[int] | None


PASSES = 3
"""What the forward pass computes once, the backward pass does twice: for the weights, and for what came in."""


def example_flops(eval_onnx: bytes) -> float:
    """Operations of the convolutions, matrix products and recurrent layers for a step on a batch of one.

    What is done element by element is left out: a few per cent; that the first layer needs no gradient of its input
    too. A node of which a shape is not known counts nothing.
    """
    model = onnx.load_from_string(eval_onnx)
    for entry in model.graph.input:
        for dimension in entry.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = 1
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {entry.name: _shape(entry) for entry in (*inferred.value_info, *inferred.input, *inferred.output)}
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    return float(PASSES * sum(_flops(node, shapes) for node in inferred.node))


def _shape(entry: onnx.ValueInfoProto) -> Shape:
    dimensions = entry.type.tensor_type.shape.dim
    return [d.dim_value for d in dimensions] if dimensions and all(d.dim_value for d in dimensions) else None


def _flops(node: onnx.NodeProto, shapes: dict[str, Shape]) -> int:
    given = [shapes.get(name) for name in node.input]
    made = shapes.get(node.output[0])
    match node.op_type:
        case "Conv" if made and given[1]:
            return 2 * prod(made) * prod(given[1][1:])
        case "MatMul" | "Gemm" if made and given[0]:
            return 2 * prod(made) * given[0][-1]
        case "LSTM" | "GRU" | "RNN" if given[0] and given[1] and given[2]:
            return 2 * given[0][0] * given[0][1] * (prod(given[1]) + prod(given[2]))
    return 0
