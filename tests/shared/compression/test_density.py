from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.density import STEPS_PER_OCTAVE, _log2, value_classes
from shared.compression.history import RECENT_FRAMES, SendHistory
from shared.compression.plan import DENSEST_CLASS, Plan
from shared.layout import Layout

LAYOUT = Layout.of([("a.weight", (8, 64), "weight"), ("a.bias", (8,), "bias"), ("b.weight", (3, 130), "weight")])
FLAT = np.full(LAYOUT.num_blocks, DENSEST_CLASS, np.uint8)
LEVEL = np.zeros(LAYOUT.num_columns, np.int8)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, (1 << 53) - 1))
def test_logarithms_are_right_to_a_sixteenth_of_an_octave(rate: int) -> None:
    assert abs(float(_log2(np.array([rate]))[0]) / STEPS_PER_OCTAVE - np.log2(rate)) <= 0.5 / STEPS_PER_OCTAVE + 1e-6


def test_logarithms_rise_with_the_rate() -> None:
    rates = np.unique(np.geomspace(1, 2**50, 20_000).astype(np.int64))
    assert (np.diff(_log2(rates)) >= 0).all()


def test_a_denser_column_lifts_its_values_in_every_row_by_its_octaves() -> None:
    steps = LEVEL.copy()
    steps[5] = 3
    classes = value_classes(Plan(60, FLAT, steps), LAYOUT)
    weight = classes[: 8 * 64].reshape(8, 64)
    assert set(weight[:, 5].tolist()) == {DENSEST_CLASS}
    assert set(np.delete(weight, 5, axis=1).ravel().tolist()) == {DENSEST_CLASS - 3}


def test_a_sparser_block_lowers_its_values_by_its_classes() -> None:
    blocks = FLAT.copy()
    blocks[2] = DENSEST_CLASS - 4
    classes = value_classes(Plan(60, blocks, LEVEL), LAYOUT)
    inside = np.arange(LAYOUT.size) // 64 == 2
    assert set(classes[inside & (np.arange(LAYOUT.size) < 512)].tolist()) == {DENSEST_CLASS - 4}
    assert set(classes[:128].tolist()) == {DENSEST_CLASS}


def test_what_a_client_sends_often_is_denser() -> None:
    history = SendHistory.empty(LAYOUT)
    for shift in range(8):
        row, column = np.arange(64 + shift, 128, 4), np.arange(0, 512, 64) + 9
        history = history.after(np.union1d(row, column), LAYOUT)
    history = forget_recent(history)
    weight = value_classes(Plan(60, FLAT, LEVEL).knowing(history), LAYOUT)[:512].reshape(8, 64).astype(int)
    assert weight[1].mean() > np.delete(weight, 1, axis=0).mean() + 1
    assert weight[:, 9].mean() > np.delete(weight, 9, axis=1).mean() + 1


def test_what_a_client_has_just_sent_is_sparser_where_that_was_so_before() -> None:
    everything, history = np.arange(512), SendHistory.empty(LAYOUT)
    for turn in range(2 * RECENT_FRAMES):
        history = history.after(everything[turn % RECENT_FRAMES :: RECENT_FRAMES], LAYOUT)
    classes = value_classes(Plan(60, FLAT, LEVEL).knowing(history), LAYOUT).astype(int)
    oldest, newest = history.recent[-1], history.recent[0]
    assert classes[newest].mean() <= classes[oldest].mean() - 3


def test_what_a_client_has_just_sent_is_as_dense_as_ever_where_it_sends_the_same_again_and_again() -> None:
    history = SendHistory.empty(LAYOUT)
    for _ in range(2 * RECENT_FRAMES):
        history = history.after(np.arange(0, 512, 7), LAYOUT)
    plan = Plan(60, FLAT, LEVEL)
    just, long_ago = (value_classes(plan.knowing(known), LAYOUT) for known in (history, forget_recent(history)))
    np.testing.assert_array_equal(just, long_ago)


def forget_recent(history: SendHistory) -> SendHistory:
    """The same counts, but the last frames' positions are gone."""
    return replace(history, recent=tuple(np.zeros(0, np.int64) for _ in history.recent))
