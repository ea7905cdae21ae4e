import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from coordinator.export.live_bytes import live_bytes

COLUMNS = 8


def model(*nodes: tuple[str, list[str], list[str]], outputs: list[str]) -> bytes:
    """Nodes over the input x float32 `[B, 8]` and a weight w `[8, 8]`."""
    made = [helper.make_node(kind, inputs, results) for kind, inputs, results in nodes]
    batched: list[str | int | None] = ["B", COLUMNS]
    graph = helper.make_graph(
        made,
        "test",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, batched),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [COLUMNS, COLUMNS]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.array([-1, 4], np.int64), "narrow")],
    )
    opset = helper.make_opsetid("", 18)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


@pytest.mark.parametrize("batch_size", [1, 16])
def test_values_die_after_their_last_use(batch_size: int) -> None:
    chain = model(
        ("MatMul", ["x", "w"], ["a"]),
        ("Relu", ["a"], ["b"]),
        ("Relu", ["b"], ["c"]),
        ("Relu", ["c"], ["d"]),
        outputs=["d"],
    )
    assert live_bytes(chain, batch_size) == 2 * 4 * batch_size * COLUMNS


def test_value_that_the_backward_pass_needs_stays() -> None:
    kept = model(
        ("MatMul", ["x", "w"], ["a"]),
        ("Relu", ["a"], ["b"]),
        ("Relu", ["b"], ["c"]),
        ("Add", ["c", "a"], ["d"]),
        outputs=["d"],
    )
    assert live_bytes(kept, 2) == 3 * 4 * 2 * COLUMNS


def test_view_takes_nothing_and_keeps_its_source() -> None:
    viewed = model(
        ("MatMul", ["x", "w"], ["a"]), ("Reshape", ["a", "narrow"], ["v"]), ("Relu", ["v"], ["b"]), outputs=["b"]
    )
    assert live_bytes(viewed, 2) == 2 * 4 * 2 * COLUMNS


def test_output_is_kept_to_the_end() -> None:
    early = model(("Relu", ["w"], ["a"]), ("Relu", ["x"], ["b"]), ("Relu", ["b"], ["c"]), outputs=["a", "c"])
    assert live_bytes(early, 1) == 4 * COLUMNS * COLUMNS + 2 * 4 * COLUMNS


def test_result_that_nothing_reads_is_freed_at_once() -> None:
    unread = model(("Relu", ["x"], ["a"]), ("Relu", ["x"], ["b"]), ("Relu", ["b"], ["c"]), outputs=["c"])
    assert live_bytes(unread, 1) == 2 * 4 * COLUMNS
