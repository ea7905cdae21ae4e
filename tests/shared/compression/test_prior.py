import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.bits import BitReader, BitWriter
from shared.compression.plan import Plan
from shared.compression.prior import Prior, PriorKind, expected_lengths
from shared.errors import DecodeError
from shared.layout import I64, Layout

LAYOUT = Layout.of([("a.weight", (40, 100), "weight"), ("a.bias", (40,), "bias"), ("b.weight", (30, 64), "weight")])
BLOCKS = LAYOUT.num_blocks
PLAN = Plan(300, np.arange(BLOCKS, dtype=np.uint8) % 9)

sent_counts = hnp.arrays(np.int64, BLOCKS, elements=st.integers(0, 40)).filter(lambda sent: bool(sent.any()))


@settings(deadline=None, max_examples=60)
@given(sent_counts)
def test_every_prior_comes_back_in_the_announced_length(sent: I64) -> None:
    for prior in (
        Prior.whole(LAYOUT),
        Prior.tensors(sent, LAYOUT),
        Prior.blocks(sent, LAYOUT),
        Prior.public(PLAN, LAYOUT),
    ):
        writer = BitWriter()
        prior.write(writer, LAYOUT, PLAN)
        assert writer.length == prior.length(LAYOUT, PLAN)
        again = Prior.read(BitReader(writer.to_bytes()), LAYOUT, PLAN)
        assert again.kind is prior.kind
        np.testing.assert_array_equal(again.classes, prior.classes)


def test_blocks_that_send_most_are_marked_as_key() -> None:
    sent = np.where(np.arange(BLOCKS) % 5 == 0, 20, 1)
    prior = Prior.blocks(sent, LAYOUT)
    np.testing.assert_array_equal(prior.classes == 8, sent == 20)
    assert prior.kind is PriorKind.BLOCKS


def test_a_tensor_that_sends_nothing_is_dead() -> None:
    sent = np.where(LAYOUT.block_tensor == 0, 10, 0)
    assert set(Prior.tensors(sent, LAYOUT).classes[LAYOUT.block_tensor > 0].tolist()) == {0}


def test_the_plan_is_known_by_its_digest() -> None:
    writer = BitWriter()
    Prior.public(PLAN, LAYOUT).write(writer, LAYOUT, PLAN)
    assert writer.length == 18
    with pytest.raises(DecodeError, match="use that round's plan"):
        Prior.read(BitReader(writer.to_bytes()), LAYOUT, Plan(301, PLAN.density_classes))


def test_the_prior_that_knows_where_values_are_is_expected_to_be_shorter() -> None:
    sent = np.where(np.arange(BLOCKS) % 5 == 0, 20, 1)
    whole, blocks = expected_lengths([Prior.whole(LAYOUT), Prior.blocks(sent, LAYOUT)], sent, LAYOUT).tolist()
    assert blocks < 0.8 * whole
