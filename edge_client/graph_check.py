"""What a training graph may contain, read from its protobuf bytes before onnxruntime sees them.

onnxruntime offers no look before it loads, and it fills in missing operator-set imports of its own domains, so that a
model's import list proves nothing: only its nodes do. The scan follows every field by which a node or a tensor can hang
in a model (ONNX IR, `ModelProto` and below), each time it occurs, and needs no ONNX library.
"""

from collections.abc import Iterator

from shared.errors import BundleError

DEFAULT_DOMAINS = (b"", b"ai.onnx")
DEEPEST_NESTING = 16

MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE_INITIALIZER = 1, 5, 15
NODE_ATTRIBUTE, NODE_DOMAIN = 5, 7
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE_TENSORS = (5, 10), (6, 11), (22, 23)
TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 13, 14

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
MOST_VARINT_BYTES = 10


def check_graph(model: bytes) -> None:
    """Raise `BundleError` unless all nodes are of the default ONNX domain and all constants lie in `model` itself."""
    for number, value in _fields(memoryview(model)):
        if number == MODEL_FUNCTIONS:
            raise BundleError("training graph: defines functions of its own: export the model again")
        if number == MODEL_GRAPH:
            _check_graph(value, DEEPEST_NESTING)


def _check_graph(graph: memoryview, depth: int) -> None:
    if depth == 0:
        raise BundleError(f"training graph: nested more than {DEEPEST_NESTING} deep: export the model again")
    for number, value in _fields(graph):
        if number == GRAPH_NODE:
            _check_node(value, depth)
        elif number == GRAPH_INITIALIZER:
            _check_tensor(value)
        elif number == GRAPH_SPARSE_INITIALIZER:
            raise BundleError("training graph: has a sparse constant: export the model again")


def _check_node(node: memoryview, depth: int) -> None:
    for number, value in _fields(node):
        if number == NODE_DOMAIN and bytes(value) not in DEFAULT_DOMAINS:
            domain = bytes(value[:80]).decode(errors="replace")
            raise BundleError(f"training graph: an operator of domain {domain!r}: only standard ONNX operators may run")
        if number == NODE_ATTRIBUTE:
            _check_attribute(value, depth)


def _check_attribute(attribute: memoryview, depth: int) -> None:
    for number, value in _fields(attribute):
        if number in ATTRIBUTE_GRAPHS:
            _check_graph(value, depth - 1)
        elif number in ATTRIBUTE_TENSORS:
            _check_tensor(value)
        elif number in ATTRIBUTE_SPARSE_TENSORS:
            raise BundleError("training graph: has a sparse constant: export the model again")


def _check_tensor(tensor: memoryview) -> None:
    if any(number in (TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION) for number, _ in _fields(tensor)):
        raise BundleError("training graph: a constant lies in another file: export the model again")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field of a protobuf message; numbers of no length (varint, fixed) come as empty."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire_type, length = tag & 7, 0
        if wire_type == VARINT:
            _, position = _varint(message, position)
        elif wire_type == DELIMITED:
            length, position = _varint(message, position)
        elif wire_type in (FIXED64, FIXED32):
            position += 8 if wire_type == FIXED64 else 4
        else:
            raise BundleError(f"training graph: protobuf wire type {wire_type} is not allowed: export the model again")
        if position + length > len(message):
            raise BundleError("training graph: truncated: fetch the bundle again")
        yield tag >> 3, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[position : position + MOST_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise BundleError("training graph: a bad protobuf number: fetch the bundle again")
