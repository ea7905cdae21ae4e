import pytest

from shared.layout import Layout, TensorRole


def blocks(role: TensorRole, shape: tuple[int, ...]) -> list[int]:
    sizes: list[int] = Layout.of([("t", shape, role)]).block_sizes.tolist()
    return sizes


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 64), [64] * 4), ((6, 20), [80, 40]), ((2, 2048), [1024] * 4), ((3000,), [1024, 1024, 952])],
)
def test_weight_is_cut_by_rows_towards_64_to_1024_values(shape: tuple[int, ...], expected: list[int]) -> None:
    assert blocks("weight", shape) == expected


def test_frozen_tensor_is_one_block_and_one_column_whatever_its_size() -> None:
    layout = Layout.of([("w", (4, 64), "weight"), ("f", (512, 200), "frozen"), ("b", (7,), "bias")])
    assert layout.block_sizes.tolist() == [64, 64, 64, 64, 512 * 200, 7]
    assert layout.column_starts.tolist() == [0, 64, 65, 66]
