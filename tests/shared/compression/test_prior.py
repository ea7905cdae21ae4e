import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.bits import BitReader, BitWriter
from shared.compression.history import SendHistory
from shared.compression.plan import Plan
from shared.compression.prior import Prior, PriorKind, expected_lengths
from shared.errors import DecodeError
from shared.layout import I64, Layout

LAYOUT = Layout.of([("a.weight", (40, 100), "weight"), ("a.bias", (40,), "bias"), ("b.weight", (30, 64), "weight")])
BLOCKS = LAYOUT.num_blocks
PLAN = Plan(300, np.arange(BLOCKS, dtype=np.uint8) % 9)
STEPS = (np.arange(LAYOUT.num_columns) % 15 - 7).astype(np.int8)
HISTORY = SendHistory.empty(LAYOUT).after(np.arange(0, LAYOUT.size, 37), LAYOUT)

sent_counts = hnp.arrays(np.int64, BLOCKS, elements=st.integers(0, 40)).filter(lambda sent: bool(sent.any()))


@settings(deadline=None, max_examples=60)
@given(sent_counts)
def test_every_prior_comes_back_in_the_announced_length(sent: I64) -> None:
    for prior in (
        Prior.whole(LAYOUT),
        Prior.tensors(sent, LAYOUT),
        Prior.blocks(sent, LAYOUT),
    ):
        check_round_trip(prior, PLAN)


@pytest.mark.parametrize(
    ("plan", "kind", "bits"),
    [
        (PLAN, PriorKind.PUBLIC, 11),
        (Plan(300, PLAN.density_classes, STEPS), PriorKind.PUBLIC, 11),
        (PLAN.knowing(HISTORY), PriorKind.CLIENT, 11),
        (Plan(300).knowing(HISTORY), PriorKind.CLIENT, 11),
    ],
)
def test_what_both_ends_know_comes_back_at_the_price_of_a_check(plan: Plan, kind: PriorKind, bits: int) -> None:
    prior = Prior.shared(plan, LAYOUT)
    assert prior is not None
    assert (prior.kind, prior.length(LAYOUT, plan)) == (kind, bits)
    check_round_trip(prior, plan)


def test_a_plan_without_classes_and_a_client_without_history_share_nothing() -> None:
    assert Prior.shared(Plan(300), LAYOUT) is None
    assert Prior.shared(Plan(300).knowing(SendHistory.empty(LAYOUT)), LAYOUT) is None


def check_round_trip(prior: Prior, plan: Plan) -> None:
    writer = BitWriter()
    prior.write(writer, LAYOUT, plan)
    assert writer.length == prior.length(LAYOUT, plan)
    again = Prior.read(BitReader(writer.to_bytes()), LAYOUT, plan)
    assert (again.kind, again.by_value) == (prior.kind, prior.by_value)
    np.testing.assert_array_equal(again.classes, prior.classes)


def test_blocks_that_send_most_are_marked_as_key() -> None:
    sent = np.where(np.arange(BLOCKS) % 5 == 0, 20, 1)
    prior = Prior.blocks(sent, LAYOUT)
    np.testing.assert_array_equal(prior.classes == 8, sent == 20)
    assert prior.kind is PriorKind.BLOCKS


def test_a_tensor_that_sends_nothing_is_dead() -> None:
    sent = np.where(LAYOUT.block_tensor == 0, 10, 0)
    assert set(Prior.tensors(sent, LAYOUT).classes[LAYOUT.block_tensor > 0].tolist()) == {0}


@pytest.mark.parametrize(
    ("made", "read"),
    [
        (PLAN, Plan(300, 8 - (np.arange(BLOCKS, dtype=np.uint8) % 9))),
        (PLAN, Plan(300, PLAN.density_classes, STEPS)),
        (PLAN.knowing(HISTORY), PLAN.knowing(HISTORY.after(np.array([3, 5]), LAYOUT))),
        (PLAN.knowing(HISTORY), PLAN),
        (PLAN.knowing(HISTORY), Plan(300).knowing(HISTORY)),
    ],
)
def test_a_frame_of_another_plan_or_history_is_refused(made: Plan, read: Plan) -> None:
    writer, prior = BitWriter(), Prior.shared(made, LAYOUT)
    assert prior is not None
    prior.write(writer, LAYOUT, made)
    with pytest.raises(DecodeError, match=r"must be that round's plan|knows nothing"):
        Prior.read(BitReader(writer.to_bytes()), LAYOUT, read)


def test_a_receiver_that_knows_a_history_reads_frames_made_without_it() -> None:
    writer, prior = BitWriter(), Prior.shared(PLAN, LAYOUT)
    assert prior is not None
    prior.write(writer, LAYOUT, PLAN)
    assert Prior.read(BitReader(writer.to_bytes()), LAYOUT, PLAN.knowing(HISTORY)).kind is PriorKind.PUBLIC


def test_the_prior_that_knows_where_values_are_is_expected_to_be_shorter() -> None:
    sent = np.where(np.arange(BLOCKS) % 5 == 0, 20, 1)
    whole, blocks = expected_lengths([Prior.whole(LAYOUT), Prior.blocks(sent, LAYOUT)], sent, LAYOUT).tolist()
    assert blocks < 0.8 * whole


@pytest.mark.parametrize(("others", "sparse"), [(0, 0), (3, 0), (380, 2)])
def test_blocks_that_are_not_key_are_dead_only_if_they_send_next_to_nothing(others: int, sparse: int) -> None:
    layout = Layout.of([("weight", (400, 1_000), "weight")])
    sent = np.zeros(400, np.int64)
    sent[:others] = 1
    sent[380:] = 300
    classes = Prior.blocks(sent, layout).classes
    assert set(classes[:380].tolist()) == {sparse}
    assert set(classes[380:].tolist()) == {8}


@pytest.mark.parametrize(("faint", "density_class"), [(0, 0), (1, 0), (100, 2)])
def test_a_faint_tensor_is_dead_only_if_it_sends_next_to_nothing(faint: int, density_class: int) -> None:
    layout = Layout.of([("dense", (10, 1_000), "weight"), ("faint", (100, 1_000), "weight")])
    sent = np.zeros(110, np.int64)
    sent[:10] = 300
    sent[10 : 10 + faint] = 1
    assert set(Prior.tensors(sent, layout).classes[10:].tolist()) == {density_class}
