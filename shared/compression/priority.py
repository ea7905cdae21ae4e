"""Priority sampling: which values are sent is left to chance, the larger the likelier, and what is kept is expected.

Each value u has the priority |u| · r^(-1/a), r drawn evenly from (0, 1), and the values of the highest priorities are
sent. With the lowest priority sent as height h, a value below it was sent with the chance (|u| / h)^a, and is delivered
as h. For a = 1 that is N. Duffield, C. Lund, M. Thorup, Priority Sampling for Estimation of Arbitrary Subset Sums, J.
ACM 2007: nothing is left undelivered in expectation, and the noise is large. As a grows it becomes the sending of the
largest. In between, the residual keeps what is not delivered *in expectation*, u - (|u| / h)^a · h, so that the noise
of the draw is never fed back, and small values need not wait until they have grown large: exponent and feedback are
our own.
"""

from functools import cache

import numpy as np

from shared.compression.codec import SparseUpdate
from shared.compression.draws import raw_draws, seed_of
from shared.compression.histogram import magnitude_bits
from shared.layout import F32, Layout

DRAW_BITS = 16
"""Of randomness for each value; a chance below 2 ** -16 is none."""

LARGEST = np.float32(np.finfo(np.float32).max)


def priorities(update: F32, layout: Layout, exponent: float) -> F32:
    """The priority of every value of a float32 `[size]` update, with its sign; drawn by the update alone.

    Raises `ValueError` on NaN, infinity or another size.
    """
    magnitude_bits(update, layout)
    flat = update.reshape(-1)
    words = raw_draws(seed_of(flat), -(-flat.size * DRAW_BITS // 64)).astype("<u8", copy=False)
    drawn = _factors(exponent)[words.view("<u2")[: flat.size]]
    with np.errstate(over="ignore"):
        return np.asarray(np.clip(flat * drawn, -LARGEST, LARGEST))


def heights(update: F32, chosen: SparseUpdate, lowest: float) -> F32:
    """What `chosen` values are to be delivered as, at least `lowest`: float32 `[size]`, zero elsewhere."""
    flat, raised = update.reshape(-1), np.zeros(chosen.size, np.float32)
    values = flat[chosen.indices]
    raised[chosen.indices] = np.copysign(np.maximum(np.abs(values), np.float32(lowest)), values)
    return raised


def expected_left(update: F32, delivered: SparseUpdate, lowest: float, exponent: float) -> F32:
    """What is left undelivered in expectation, float32 `[size]`: exactly for values above `lowest`, which were sure."""
    flat = update.reshape(-1)
    magnitude = np.abs(flat)
    sure = magnitude >= np.float32(lowest)
    drawn = np.abs(delivered.values[~sure[delivered.indices]])
    height = np.float32(drawn.mean(dtype=np.float64)) if len(drawn) else np.float32(lowest)
    share: F32 = (np.minimum(magnitude, np.float32(lowest)) / np.float32(lowest)).astype(np.float32, copy=False)
    chance = power(share, exponent)
    left: F32 = flat - np.copysign(chance * height, flat)
    left[sure] = flat[sure]
    certain = sure[delivered.indices]
    left[delivered.indices[certain]] -= delivered.values[certain]
    return left


def power(numbers: F32, exponent: float) -> F32:
    """Float32 numbers from 0 to 1 to the power of a multiple of a quarter, 1 at least; of the same shape.

    By roots and products, which every CPU rounds alike: numpy's own powers differ with the vector instructions there
    are, and so would what a device keeps.
    """
    root = np.sqrt(np.sqrt(numbers))
    result = root.copy()
    for bit in f"{round(4 * exponent):b}"[1:]:
        result *= result
        if bit == "1":
            result *= root
    return result


@cache
def _factors(exponent: float) -> F32:
    """r^(-1/a) for the middles of 2 ** 16 even steps of r: float32 `[65536]`.

    None of them lies so near the middle of two float32 that CPUs could round it otherwise.
    """
    steps = (np.arange(1 << DRAW_BITS) + 0.5) / (1 << DRAW_BITS)
    return np.asarray(steps ** (-1.0 / exponent), np.float32)
