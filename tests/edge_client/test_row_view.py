import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.row_view import RowView


@given(st.lists(st.lists(st.integers(), max_size=5), max_size=6))
def test_rows_are_those_of_the_blocks_in_order(blocks: list[list[int]]) -> None:
    view = RowView([len(block) for block in blocks], lambda block, row: blocks[block][row])
    rows = [row for block in blocks for row in block]
    assert list(view) == rows
    assert [view[number] for number in range(-len(rows), len(rows))] == rows + rows
    assert (view[1:4], view[::-1]) == (rows[1:4], rows[::-1])
    with pytest.raises(IndexError):
        view[len(rows)]
