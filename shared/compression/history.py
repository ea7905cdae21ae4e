"""What both ends know of one client's earlier frames: where it has sent values, and which of them just now."""

import hashlib
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self

import numpy as np

from shared.errors import DecodeError
from shared.layout import I64, Layout

RECENT_FRAMES = 8
"""Frames whose very positions are remembered: what was delivered a moment ago often has nothing left to deliver."""

COUNT_SHIFT = 8
LEAST_GAP = 8
"""The positions of a frame that sends more than every eighth value are not remembered: they say and cost too much."""

MEMORY_SHIFT = 3
"""A count is kept in steps of 1/256, and each frame leaves 7/8 of what was there before it."""

LARGEST_COUNT = (1 << 32) - 1
"""Counts stay below that of two million values a frame, so that four bytes save them."""

TAG_BYTES = 4
NO_TAG = bytes(TAG_BYTES)


@dataclass(frozen=True, eq=False)
class SendHistory:
    """A client's sends so far, never written to: int64 `blocks` `[blocks]` and `columns` `[columns]`, fading counts.

    `repeats` int64 `[2, 8]` counts, for frames by their age, values that were sent again, and all that were sent.
    `recent` holds the rising indices, int64 `[k]`, of the last frames, the newest first. `tag` is a digest of all
    frames since the history began, 4 bytes: equal tags mean equal histories. All arithmetic is on integers.
    """

    blocks: I64
    columns: I64
    repeats: I64
    recent: tuple[I64, ...]
    tag: bytes

    @classmethod
    def empty(cls, layout: Layout) -> Self:
        """The history of a client that has sent nothing yet, or whose history was lost."""
        blocks, columns = np.zeros(layout.num_blocks, np.int64), np.zeros(layout.num_columns, np.int64)
        return cls(blocks, columns, np.zeros((2, RECENT_FRAMES), np.int64), (), NO_TAG)

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to predict from."""
        return not self.recent

    def after(self, sent: I64, layout: Layout) -> Self:
        """The history once the coordinator has accepted a frame with values at rising indices `sent` int64 `[k]`."""
        first = sent.searchsorted(layout.block_starts)
        blocks = first[1:] - first[:-1]
        columns = np.bincount(layout.columns_of(sent), minlength=layout.num_columns)
        repeats = np.zeros((2, RECENT_FRAMES), np.int64)
        repeats[:, : len(self.recent)] = self._sent_again(sent, layout), [len(before) for before in self.recent]
        kept = sent if LEAST_GAP * len(sent) <= layout.size else sent[:0]
        return type(self)(
            _faded(self.blocks, blocks),
            _faded(self.columns, columns),
            _faded(self.repeats, repeats),
            (kept, *self.recent[: RECENT_FRAMES - 1]),
            hashlib.sha256(self.tag + np.ascontiguousarray(sent, "<i8").tobytes()).digest()[:TAG_BYTES],
        )

    def _sent_again(self, sent: I64, layout: Layout) -> I64:
        """How many values of each recent frame are among rising indices `sent` int64 `[k]`: int64 `[frames]`."""
        if not self.recent:
            return np.zeros(0, np.int64)
        is_sent = np.zeros(layout.size, np.bool_)
        is_sent[sent] = True
        ends = [0, *accumulate(len(indices) for indices in self.recent)]
        again = np.zeros(ends[-1] + 1, np.int64)
        is_sent[np.concatenate(self.recent)].cumsum(out=again[1:])
        return again[ends[1:]] - again[ends[:-1]]

    def to_bytes(self) -> bytes:
        """All that is to be saved: counts, the number and lengths of recent frames, their indices, the tag."""
        lengths = np.array([len(self.recent), *(len(indices) for indices in self.recent)], "<u4")
        counts = np.concatenate([self.blocks, self.columns, self.repeats.reshape(-1)]).astype("<u4")
        recent = np.concatenate([np.zeros(0, np.int64), *self.recent]).astype("<u4")
        return counts.tobytes() + lengths.tobytes() + recent.tobytes() + self.tag

    @classmethod
    def from_bytes(cls, data: bytes, layout: Layout) -> Self:
        """What `to_bytes` gave; raises `DecodeError` where it is not of `layout`."""
        parts = [layout.num_blocks, layout.num_columns, 2 * RECENT_FRAMES]
        at = 4 * sum(parts)
        if len(data) < at + 4 + TAG_BYTES:
            raise DecodeError(f"{len(data)} bytes are no history of sends of this layout: forget it and begin anew")
        counts, ends = np.frombuffer(data, "<u4", sum(parts)).astype(np.int64), [*accumulate(parts)]
        words = np.frombuffer(data[at : len(data) - TAG_BYTES], np.uint8)
        count = int(words[:4].view("<u4")[0])
        if len(words) % 4 or count > RECENT_FRAMES or len(words) < 4 + 4 * count:
            raise DecodeError(f"a history of {count} frames in {len(data)} bytes: forget it and begin anew")
        cuts = [0, *accumulate(words[4 : 4 + 4 * count].view("<u4").tolist())]
        recent = words[4 + 4 * count :].view("<u4").astype(np.int64)
        if cuts[-1] != len(recent) or int(recent.max(initial=0)) >= layout.size:
            raise DecodeError("the history of sends names values beyond the layout: forget it and begin anew")
        frames = tuple(recent[start:end] for start, end in pairwise(cuts))
        blocks, columns, repeats = (counts[start:end] for start, end in pairwise([0, *ends]))
        return cls(blocks, columns, repeats.reshape(2, -1), frames, data[-TAG_BYTES:])


def _faded(counts: I64, more: I64) -> I64:
    return np.asarray(np.minimum(counts - (counts >> MEMORY_SHIFT) + (more << COUNT_SHIFT), LARGEST_COUNT))
