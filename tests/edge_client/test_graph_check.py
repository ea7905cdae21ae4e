import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, external_data_helper, helper, numpy_helper

from edge_client.graph_check import check_graph
from shared.errors import BundleError

if TYPE_CHECKING:
    from tests.edge_client.conftest import TinyTask

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])


def model(*nodes: NodeProto, constants: tuple[TensorProto, ...] = ()) -> ModelProto:
    return helper.make_model(
        helper.make_graph(list(nodes), "g", [X], [Y], list(constants)), opset_imports=[helper.make_opsetid("", 18)]
    )


def branching(inner: NodeProto) -> NodeProto:
    outputs: list[ValueInfoProto] = [Y]
    then, other = helper.make_graph([RELU], "then", [], outputs), helper.make_graph([inner], "else", [], outputs)
    return helper.make_node("If", ["x"], ["y"], then_branch=then, else_branch=other)


RELU = helper.make_node("Relu", ["x"], ["y"])
FOREIGN = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")


def test_graph_of_standard_operators_passes() -> None:
    weight = numpy_helper.from_array(np.ones(1, np.float32), "w")
    check_graph(model(RELU, constants=(weight,)).SerializeToString())
    check_graph(model(branching(RELU)).SerializeToString())


def test_exported_graphs_pass(tiny_task: "TinyTask") -> None:
    check_graph(tiny_task.graphs.train)
    check_graph(tiny_task.graphs.evaluate)


def test_foreign_operator_is_refused_although_its_domain_is_not_imported() -> None:
    with pytest.raises(BundleError, match=r"'com\.microsoft'"):
        check_graph(model(FOREIGN).SerializeToString())


def test_foreign_operator_in_a_branch_is_refused() -> None:
    with pytest.raises(BundleError, match=r"'com\.microsoft'"):
        check_graph(model(branching(branching(FOREIGN))).SerializeToString())


def test_foreign_operator_in_a_second_graph_field_is_refused() -> None:
    first, second = model(RELU), ModelProto()
    second.graph.CopyFrom(model(FOREIGN).graph)
    with pytest.raises(BundleError, match=r"'com\.microsoft'"):
        check_graph(first.SerializeToString() + second.SerializeToString())


def test_function_of_its_own_is_refused() -> None:
    with_function = model(RELU)
    with_function.functions.append(
        helper.make_function("own", "F", ["x"], ["y"], [RELU], [helper.make_opsetid("", 18)])
    )
    with pytest.raises(BundleError, match="functions of its own"):
        check_graph(with_function.SerializeToString())


@pytest.mark.parametrize("where", ["initializer", "attribute"])
def test_constant_in_another_file_is_refused(where: str) -> None:
    outside = numpy_helper.from_array(np.ones(4, np.float32), "w")
    external_data_helper.set_external_data(outside, "elsewhere.bin")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    node = helper.make_node("Constant", [], ["c"], value=outside)
    broken = model(RELU, constants=(outside,)) if where == "initializer" else model(node, RELU)
    with pytest.raises(BundleError, match="another file"):
        check_graph(broken.SerializeToString())


def test_sparse_constant_is_refused() -> None:
    values, indices = (
        numpy_helper.from_array(np.ones(1, np.float32), "w"),
        numpy_helper.from_array(np.zeros(1, np.int64)),
    )
    sparse = model(RELU)
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(BundleError, match="sparse"):
        check_graph(sparse.SerializeToString())


def test_endless_nesting_is_refused() -> None:
    node = RELU
    for _ in range(20):
        node = branching(node)
    with pytest.raises(BundleError, match="nested"):
        check_graph(model(node).SerializeToString())


@given(data=st.binary(max_size=200))
def test_any_bytes_pass_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(BundleError):
        check_graph(data)


@given(cut=st.integers(1, 80))
def test_truncated_graph_is_refused_or_shorter(cut: int) -> None:
    whole = model(branching(RELU)).SerializeToString()
    with contextlib.suppress(BundleError):
        check_graph(whole[: -min(cut, len(whole))])
