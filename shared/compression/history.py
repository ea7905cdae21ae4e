"""What both ends know of one client's earlier frames: where it has sent values, and which of them just now."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from shared.errors import DecodeError
from shared.layout import I64, Layout

Arrays = Mapping[str, npt.NDArray[np.generic]]

RECENT_FRAMES = 8
"""Frames whose very positions are remembered: what was delivered a moment ago often has nothing left to deliver."""

COUNT_SHIFT = 8
MEMORY_SHIFT = 3
"""A count is kept in steps of 1/256, and each frame leaves 7/8 of what was there before it."""

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
        counts = (np.zeros(count, np.int64) for count in (layout.num_blocks, layout.num_columns, (2, RECENT_FRAMES)))
        return cls(*counts, (), NO_TAG)

    @property
    def is_empty(self) -> bool:
        """True where there is nothing to predict from."""
        return not self.recent

    def after(self, sent: I64, layout: Layout) -> Self:
        """The history once the coordinator has accepted a frame with values at rising indices `sent` int64 `[k]`."""
        blocks = np.diff(np.searchsorted(sent, layout.block_starts))
        columns = np.bincount(layout.columns_of(sent), minlength=layout.num_columns)
        repeats = np.zeros((2, RECENT_FRAMES), np.int64)
        for age, before in enumerate(self.recent):
            repeats[:, age] = len(np.intersect1d(before, sent, assume_unique=True)), len(before)
        return type(self)(
            _faded(self.blocks, blocks),
            _faded(self.columns, columns),
            _faded(self.repeats, repeats),
            (sent, *self.recent[: RECENT_FRAMES - 1]),
            hashlib.sha256(self.tag + np.ascontiguousarray(sent, "<i8").tobytes()).digest()[:TAG_BYTES],
        )

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """All that is to be saved, as a few flat arrays."""
        return {
            "blocks": self.blocks,
            "columns": self.columns,
            "repeats": self.repeats,
            "recent": np.concatenate([np.zeros(0, np.int64), *self.recent]).astype(np.uint32),
            "lengths": np.array([len(indices) for indices in self.recent], np.int64),
            "tag": np.frombuffer(self.tag, np.uint8),
        }

    @classmethod
    def from_state(cls, state: Arrays, layout: Layout) -> Self:
        """What `state` gave; raises `DecodeError` where it is not one of `layout`."""
        counts = [np.asarray(state[name], np.int64) for name in ("blocks", "columns", "repeats")]
        recent, lengths = np.asarray(state["recent"], np.int64), np.asarray(state["lengths"], np.int64)
        tag = np.asarray(state["tag"], np.uint8).tobytes()
        shapes = [(layout.num_blocks,), (layout.num_columns,), (2, RECENT_FRAMES)]
        fits = [array.shape for array in counts] == shapes
        if not fits or len(lengths) > RECENT_FRAMES or lengths.sum() != len(recent) or len(tag) != TAG_BYTES:
            raise DecodeError("the history of sends is not one of this layout: forget it and begin anew")
        if len(recent) and not 0 <= int(recent.min()) <= int(recent.max()) < layout.size:
            raise DecodeError("the history of sends names values beyond the layout: forget it and begin anew")
        return cls(*counts, tuple(np.split(recent, np.cumsum(lengths)[:-1])) if len(lengths) else (), tag)


def _faded(counts: I64, more: I64) -> I64:
    return counts - (counts >> MEMORY_SHIFT) + (more << COUNT_SHIFT)
