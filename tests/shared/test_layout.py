import numpy as np
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


PARTLY = Layout.of(
    [("a", (2, 3), "weight"), ("f", (5,), "frozen"), ("g", (1,), "frozen"), ("b", (2,), "bias"), ("c", (3,), "buffer")]
)


def test_values_that_are_not_frozen_lie_in_joined_parts() -> None:
    assert PARTLY.moving == (slice(0, 6), slice(12, 17))
    assert PARTLY.are_frozen(np.arange(17)).tolist() == [False] * 6 + [True] * 6 + [False] * 5
    assert PARTLY.has_frozen


@pytest.mark.parametrize("vectors", [0, 1, 2])
def test_vectors_come_back_with_nothing_where_they_are_frozen(vectors: int) -> None:
    values = np.arange(17 * vectors, dtype=np.float32)
    kept = PARTLY.without_frozen(values)
    assert kept.size == 11 * vectors
    expected = np.where(PARTLY.are_frozen(np.arange(17)), 0, values.reshape(-1, 17)).reshape(-1)
    np.testing.assert_array_equal(PARTLY.with_frozen(kept), expected)


def test_vector_of_another_size_is_refused_and_without_frozen_tensors_nothing_is_copied() -> None:
    with pytest.raises(ValueError, match="reshape"):
        PARTLY.with_frozen(np.zeros(17, np.float32))
    plain = Layout.of([("a", (4, 8), "weight"), ("b", (4,), "bias")])
    values = np.ones(36, np.float32)
    assert plain.without_frozen(values) is values
    assert plain.with_frozen(values) is values
    assert not plain.has_frozen
