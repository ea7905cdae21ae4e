"""The density class of every single value: from its block and its column, as the plan and a client's history have them.

A weight sends where an output unit that errs meets an input unit that is active: its density is about the product of
what its row and what its column send, as in the contingency tables of independent margins. Everything here is integers
or exact, so that both ends get the same classes on every CPU.
"""

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from shared.compression.history import COUNT_SHIFT, SendHistory
from shared.compression.plan import DENSEST_CLASS, Classes, Plan
from shared.layout import I64, Layout

STEP_SHIFT = 4
STEPS_PER_OCTAVE = 1 << STEP_SHIFT
"""Levels are logarithms to base two in sixteenths."""

PARTS = 1 << 16
"""A rate is kept in parts of the average one."""

PRIOR_COUNT = 1 << COUNT_SHIFT >> 2
"""A quarter of a sent value is added to every count: where nothing was sent yet, a little is expected still."""

LEAST_RECENT_OCTAVES, MOST_RECENT_OCTAVES = -4, 1
"""What a value's being in one of the last frames may do to its density."""

_MANTISSA_BITS = 24
_MANTISSA_STEPS = np.array(
    [math.ceil(2.0 ** ((step - 0.5) / STEPS_PER_OCTAVE + _MANTISSA_BITS - 1)) for step in range(1, 17)], np.int64
)
"""The least mantissas of so many bits whose logarithm is rounded up to 1, 2 … 16 sixteenths."""


def value_classes(plan: Plan, layout: Layout) -> Classes:
    """The class of every value, uint8 `[size]`, by a plan that has classes of blocks and steps of columns.

    Where the plan knows the client's history, that counts as much as what the plan says of all clients.
    """
    history = plan.history
    blocks, columns = _public_blocks(plan, layout), _public_columns(plan, layout)
    if history is not None and not history.is_empty:
        blocks = blocks + _own_blocks(history, layout) >> 1
        columns = columns + _own_columns(history, layout) >> 1
    margins = _log2(np.concatenate([blocks, columns])).astype(np.int16)
    levels = _spread(margins[: len(blocks)], margins[len(blocks) :], layout)
    if history is not None:
        for indices, step in zip(history.recent, _recent_steps(history), strict=True):
            if step:
                levels[indices] += step
    # Whole octaves below the highest level, counted down from the densest class; a shift is floor division.
    levels -= levels.max() - DENSEST_CLASS * STEPS_PER_OCTAVE - (STEPS_PER_OCTAVE - 1)
    np.right_shift(levels, STEP_SHIFT, out=levels)
    return np.clip(levels, 0, DENSEST_CLASS, out=levels).astype(np.uint8)  # maximum takes eight times as long


def _public_blocks(plan: Plan, layout: Layout) -> I64:
    """The rate of each block by the plan: int64 `[blocks]`."""
    if plan.density_classes is None:
        return np.full(layout.num_blocks, PARTS)
    rates = np.int64(1) << plan.density_classes.astype(np.int64)
    return np.asarray(np.maximum(rates * PARTS * layout.size // int((rates * layout.block_sizes).sum()), 1))


def _public_columns(plan: Plan, layout: Layout) -> I64:
    """The rate of each column against its tensor's by the plan: int64 `[columns]`."""
    if plan.column_steps is None:
        return np.full(layout.num_columns, PARTS)
    rates = np.int64(1) << (plan.column_steps.astype(np.int64) + DENSEST_CLASS)
    sums = np.add.reduceat(rates, layout.column_starts[:-1])
    widths = np.diff(layout.column_starts)
    return np.asarray(np.maximum(rates * PARTS * widths[layout.column_tensor] // sums[layout.column_tensor], 1))


def _own_blocks(history: SendHistory, layout: Layout) -> I64:
    expected = int(history.blocks.sum()) * layout.block_sizes // layout.size
    return (history.blocks + PRIOR_COUNT) * PARTS // (expected + PRIOR_COUNT)


def _own_columns(history: SendHistory, layout: Layout) -> I64:
    sums = np.add.reduceat(history.columns, layout.column_starts[:-1])
    expected: I64 = (sums // np.diff(layout.column_starts))[layout.column_tensor]
    return (history.columns + PRIOR_COUNT) * PARTS // (expected + PRIOR_COUNT)


def _recent_steps(history: SendHistory) -> list[int]:
    """How many sixteenths of an octave denser values of the last frames are, the newest first.

    Values of the oldest frame that is remembered are taken as the measure: where as many of a newer frame's values were
    sent again, nothing changes; after exact feedback of the residual there are far fewer.
    """
    again, sent = history.repeats
    levels = _log2((again + PRIOR_COUNT) * PARTS // (sent + PRIOR_COUNT))
    limits = LEAST_RECENT_OCTAVES * STEPS_PER_OCTAVE, MOST_RECENT_OCTAVES * STEPS_PER_OCTAVE
    steps: list[int] = np.where(sent[-1] > 0, np.clip(levels - levels[-1], *limits), 0).tolist()
    return steps[: len(history.recent)]


def _log2(rates: I64) -> I64:
    """Logarithms of positive integers below 2 ** 53, in sixteenths of an octave, rounded: int64."""
    mantissas, exponents = np.frexp(np.maximum(rates, 1).astype(np.float64))
    scaled = np.ldexp(mantissas, _MANTISSA_BITS).astype(np.int64)
    steps = np.searchsorted(_MANTISSA_STEPS, scaled, side="right")
    return STEPS_PER_OCTAVE * (exponents.astype(np.int64) - 1) + steps


def _spread(blocks: npt.NDArray[np.int16], columns: npt.NDArray[np.int16], layout: Layout) -> npt.NDArray[np.int16]:
    """The sum of each value's block and column: int16 `[size]`."""
    levels = np.repeat(blocks, layout.block_sizes)
    for (start, end), (first, last) in zip(pairwise(layout.offsets), pairwise(layout.column_starts), strict=True):
        levels[start:end].reshape(-1, last - first)[...] += columns[first:last]
    return levels
