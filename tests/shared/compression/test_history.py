import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.history import RECENT_FRAMES, SendHistory
from shared.errors import DecodeError
from shared.layout import I64, Layout

LAYOUT = Layout.of([("a.weight", (8, 64), "weight"), ("a.bias", (8,), "bias"), ("b.weight", (3, 130), "weight")])

masks = st.lists(
    st.sets(st.integers(0, LAYOUT.size - 1), max_size=60).map(lambda chosen: np.array(sorted(chosen), np.int64)),
    max_size=RECENT_FRAMES + 3,
)


def history_of(frames: list[I64]) -> SendHistory:
    history = SendHistory.empty(LAYOUT)
    for sent in frames:
        history = history.after(sent, LAYOUT)
    return history


def same(one: SendHistory, other: SendHistory) -> bool:
    return one.to_bytes() == other.to_bytes()


@settings(deadline=None, max_examples=60)
@given(masks)
def test_both_ends_have_the_same_history_after_the_same_frames(frames: list[I64]) -> None:
    assert same(history_of(frames), history_of([sent.copy() for sent in frames]))


@settings(deadline=None, max_examples=60)
@given(masks)
def test_a_saved_history_comes_back(frames: list[I64]) -> None:
    history = history_of(frames)
    assert same(SendHistory.from_bytes(history.to_bytes(), LAYOUT), history)


@settings(deadline=None, max_examples=60)
@given(masks, masks)
def test_other_frames_make_another_tag(frames: list[I64], others: list[I64]) -> None:
    same_frames = len(frames) == len(others) and all(map(np.array_equal, frames, others))
    assert (history_of(frames).tag == history_of(others).tag) is same_frames


def test_counts_fade_by_an_eighth_and_old_positions_are_forgotten() -> None:
    first, nothing = np.array([0, 1, 512]), np.zeros(0, np.int64)
    once = history_of([first])
    assert once.blocks[0] == 2 << 8
    assert once.columns[0] == once.columns[1] == 1 << 8
    later = history_of([first, nothing])
    assert later.blocks[0] == (2 << 8) * 7 // 8
    assert len(history_of([first] + [nothing] * RECENT_FRAMES).recent) == RECENT_FRAMES
    assert not any(len(sent) for sent in history_of([first] + [nothing] * RECENT_FRAMES).recent)


def test_a_value_is_counted_in_its_row_and_its_column() -> None:
    index = 8 * 64 + 8 + 2 * 130 + 7
    history = history_of([np.array([index])])
    assert history.columns.nonzero()[0].tolist() == [64 + 1 + 7]
    assert history.blocks.nonzero()[0].tolist() == [LAYOUT.num_blocks - 1]


@settings(deadline=None, max_examples=60)
@given(masks, st.data())
def test_a_saved_history_that_is_cut_or_longer_is_refused(frames: list[I64], data: st.DataObject) -> None:
    saved = history_of(frames).to_bytes()
    cut = data.draw(st.integers(0, len(saved) - 1))
    for damaged in (saved[:cut], saved + b"\0", saved + bytes(4)):
        with pytest.raises(DecodeError, match="begin anew"):
            SendHistory.from_bytes(damaged, LAYOUT)


def test_a_saved_history_that_points_beyond_the_layout_is_refused() -> None:
    saved = bytearray(history_of([np.array([1, 2])]).to_bytes())
    saved[-8:-4] = LAYOUT.size.to_bytes(4, "little")
    with pytest.raises(DecodeError, match="beyond the layout"):
        SendHistory.from_bytes(bytes(saved), LAYOUT)


def test_counts_of_a_huge_column_stop_at_what_four_bytes_hold() -> None:
    layout = Layout.of([("a.bias", (1 << 22,), "bias")])
    history, everything = SendHistory.empty(layout), np.arange(layout.size)
    for _ in range(6):
        history = history.after(everything, layout)
    assert history.columns[0] == (1 << 32) - 1
    assert same(SendHistory.from_bytes(history.to_bytes(), layout), history)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sets(st.integers(0, LAYOUT.size - 1), max_size=40), max_size=RECENT_FRAMES + 1))
def test_values_that_are_sent_again_are_counted_for_each_recent_frame(frames: list[set[int]]) -> None:
    history = SendHistory.empty(LAYOUT)
    for frame in frames:
        before = history
        history = history.after(np.array(sorted(frame), np.int64), LAYOUT)
        counts = [[len(frame & set(recent.tolist())) for recent in before.recent], list(map(len, before.recent))]
        added = np.pad(np.array(counts, np.int64).reshape(2, -1), ((0, 0), (0, RECENT_FRAMES - len(before.recent))))
        np.testing.assert_array_equal(history.repeats, before.repeats - (before.repeats >> 3) + (added << 8))
