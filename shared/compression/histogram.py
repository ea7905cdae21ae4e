"""Magnitudes as integers: a float32's bit pattern without its sign rises with the magnitude, alike on every CPU."""

import math

import numpy as np
import numpy.typing as npt

from shared.compression.bits import U8
from shared.layout import F32, I64, Layout

U32 = npt.NDArray[np.uint32]

BIN_SHIFT = 19
NUM_BINS = 1 << 31 - BIN_SHIFT
"""4096 bins, 16 to an octave; bin 0 holds zero and what is below 2 ** -130, which is never sent."""

FINE_SHIFT = 17
FARTHEST = np.uint32(1 << 12)
"""64 bins to an octave, for an edge that leaves little more above it than was asked for, and 64 octaves of them."""

LARGEST_SAMPLE = 1 << 16
SAMPLE_MARGIN = 16

QUICK_SAMPLE = 1 << 13
CHUNK, LONGEST = 1 << 17, 1 << 20
"""Values that are compared at a time, so that what is computed of them stays in the cache; and looked for at a time."""

SIGN_MASK = np.uint32(0x7FFF_FFFF)
INFINITY_BITS = 0x7F80_0000


def magnitude_bits(update: F32, layout: Layout) -> U32:
    """The bit patterns of |update|, uint32 `[layout.size]`, which rise with the magnitude.

    Raises `ValueError` on NaN, infinity, or an update that is not float32 of the layout's size.
    """
    bits = signed_bits(update, layout) & SIGN_MASK
    check_finite(bits)
    return bits


def signed_bits(update: F32, layout: Layout) -> U32:
    """The update as bit patterns, uint32 `[layout.size]`; raises `ValueError` unless it is float32 of that size."""
    if update.dtype != np.float32 or update.size != layout.size:
        raise ValueError(f"an update of {update.size} {update.dtype} values for a layout of {layout.size} float32")
    return np.ascontiguousarray(update).reshape(-1).view(np.uint32)


def check_finite(bits: U32) -> None:
    """Raise `ValueError` where the patterns of magnitudes hold NaN or infinity."""
    if int(bits.max(initial=0)) >= INFINITY_BITS:
        raise ValueError("the update holds NaN or infinity: training diverged, send nothing")


def magnitude_histogram(bits: U32) -> I64:
    """How many magnitudes fall into each bin: int64 `[NUM_BINS]`, in one pass and without a sort."""
    return np.bincount(bits >> BIN_SHIFT, minlength=NUM_BINS)


def lowest_edge(bits: U32, most: int) -> int:
    """A bin edge, as a bit pattern, that at least `most` magnitudes reach; that of bin 1 where there are fewer.

    Of many values a regular sample is binned first, and all of them only where the sample misled.
    """
    stride = len(bits) // LARGEST_SAMPLE + 1
    if stride > 1:
        edge = _edge(magnitude_histogram(bits[::stride]), most // stride + most // (4 * stride) + SAMPLE_MARGIN)
        if np.count_nonzero(bits >= np.uint32(edge)) >= most:
            return edge
    return _edge(magnitude_histogram(bits), most)


def likely_edge(signed: U32, most: int) -> int:
    """A bit pattern that about `most` magnitudes of `signed` uint32 `[n]` reach, or rather more; from a sample alone.

    It is that of bin 1 where there are likely fewer, and never above that of infinity.
    """
    stride = len(signed) // QUICK_SAMPLE + 1
    wanted = most // stride
    wanted += (2 * math.isqrt(wanted) + 4) * (stride > 1)
    cell = (signed[::stride] & SIGN_MASK) >> FINE_SHIFT
    highest = int(cell.max())
    reached = np.bincount(np.minimum(highest - cell, FARTHEST)).cumsum()
    below = int(reached.searchsorted(wanted))
    edge = highest - below << FINE_SHIFT if below < min(len(reached), int(FARTHEST)) else 0
    return min(max(edge, 1 << BIN_SHIFT), INFINITY_BITS)


def reaching(signed: U32, edge: int) -> I64:
    """The rising indices int64 `[k]` of the patterns `signed` uint32 `[n]` whose magnitudes are at least `edge`."""
    found = [
        _reaching(signed[start : start + LONGEST], np.uint32(edge)) + start for start in range(0, len(signed), LONGEST)
    ]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _reaching(signed: U32, least: np.uint32) -> I64:
    """The same of not too many patterns."""
    bits, enough = np.empty(min(CHUNK, len(signed)), np.uint32), np.empty(len(signed) + 7 & -8, np.bool_)
    enough[len(signed) :] = False
    for start in range(0, len(signed), CHUNK):
        chunk = signed[start : start + CHUNK]
        magnitude = np.bitwise_and(chunk, SIGN_MASK, out=bits[: len(chunk)])
        np.greater_equal(magnitude, least, out=enough[start : start + len(chunk)])
    return _true_places(enough)


def _true_places(flags: npt.NDArray[np.bool_]) -> I64:
    """`flatnonzero` of flags `[8 k]` that are few: eight at a time first, which halves its time."""
    eights = flags.view(np.uint64)
    some = (eights != 0).nonzero()[0]
    places = eights[some].view(np.bool_).nonzero()[0]
    found: I64 = (some << 3)[places >> 3] | places & 7
    return found


def _edge(histogram: I64, most: int) -> int:
    above = np.cumsum(histogram[:0:-1])[::-1]
    enough = np.flatnonzero(above >= most)
    return (int(enough[-1]) + 1 if len(enough) else 1) << BIN_SHIFT


def magnitudes(bits: U32) -> npt.NDArray[np.float64]:
    """The float64 magnitudes of bit patterns."""
    return bits.view(np.float32).astype(np.float64)


def signs(update: F32, indices: I64) -> U8:
    """The sign bits of the update at flat `indices` int64 `[k]`: uint8 `[k]`, 1 where negative."""
    return np.signbit(update.reshape(-1)[indices]).astype(np.uint8)
