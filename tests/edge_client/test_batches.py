from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_client.batches import batch_order, shuffled


def batches(rows: int, size: int, count: int, device: str = "dev", server_round: int = 0) -> list[list[int]]:
    x, y = np.arange(rows, dtype=np.float32)[:, None], np.arange(rows, dtype=np.int64)
    taken = islice(shuffled(x, y, size, batch_order(1, server_round, device)), count)
    pairs = [(part_x[:, 0].astype(int).tolist(), part_y.tolist()) for part_x, part_y in taken]
    assert all(part_x == part_y for part_x, part_y in pairs)
    return [part_y for _, part_y in pairs]


@given(rows=st.integers(1, 50), size=st.integers(1, 60))
def test_epoch_shows_no_window_twice_and_no_partial_batch(rows: int, size: int) -> None:
    epoch = batches(rows, size, max(1, rows // size))
    seen = [row for batch in epoch for row in batch]
    assert len(seen) == len(set(seen))
    assert {len(batch) for batch in epoch} == {min(rows, size)}


def test_order_depends_on_seed_round_and_device_only() -> None:
    assert batches(20, 5, 9) == batches(20, 5, 9)
    assert batches(20, 5, 9) != batches(20, 5, 9, device="other")
    assert batches(20, 5, 9) != batches(20, 5, 9, server_round=1)


def test_epochs_differ() -> None:
    both = batches(20, 20, 2)
    assert both[0] != both[1]
    assert sorted(both[0]) == sorted(both[1])


def test_order_is_the_agreed_one() -> None:
    assert batches(8, 8, 1) == [batch_order(1, 0, "dev").permutation(8).tolist()]
    assert batch_order(1, 0, "dev").integers(0, 1 << 32, 2).tolist() == [3548302666, 18429425]
