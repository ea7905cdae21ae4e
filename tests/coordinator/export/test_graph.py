import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from coordinator.export.graph import Graph


def kinds(graph: Graph, output: str) -> list[str]:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 4])
    model = graph.model("test", [x], [(output, y)])
    onnx.checker.check_model(model)
    return [node.op_type for node in model.graph.node]


def test_equal_nodes_are_made_once() -> None:
    graph = Graph()
    assert graph.op("Exp", "x") == graph.op("Exp", "x")
    assert graph.op("Softmax", "x", axis=1) != graph.op("Softmax", "x", axis=2)


def test_random_nodes_stay_apart() -> None:
    graph = Graph()
    assert graph.random("RandomUniformLike", "x") != graph.random("RandomUniformLike", "x")


def test_constants_of_equal_bytes_but_other_type_or_shape_stay_apart() -> None:
    graph = Graph()
    names = [graph.constant(0, np.float32), graph.constant([0], np.float32), graph.constant(0, np.int32)]
    assert len(set(names)) == 3
    assert graph.constant(0, np.float32) == names[0]


def test_unused_nodes_and_constants_are_dropped() -> None:
    graph = Graph()
    graph.op("Mul", "x", 3.0)
    assert kinds(graph, graph.op("Neg", "x")) == ["Neg", "Identity"]


def test_transposition_and_its_inverse_cancel() -> None:
    graph = Graph()
    assert graph.transpose(graph.transpose("x", [1, 2, 0]), [2, 0, 1]) == "x"


@pytest.mark.parametrize(("first", "second"), [([1, 2, 0], [1, 2, 0]), ([2, 1, 0], [0, 2, 1]), ([0, 2, 1], [1, 0, 2])])
def test_two_transpositions_become_one(first: list[int], second: list[int]) -> None:
    graph = Graph()
    output = graph.transpose(graph.transpose("x", first), second)
    producer = graph.producer(output)
    assert producer is not None
    assert list(producer.input) == ["x"]
    x = np.arange(24).reshape(2, 3, 4)
    order = list(producer.attribute[0].ints)
    np.testing.assert_array_equal(x.transpose(order), x.transpose(first).transpose(second))


def test_padding_by_nothing_is_no_node() -> None:
    assert Graph().pad("x", [0, 0], [0, 0]) == "x"
