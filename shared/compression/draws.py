"""Random draws for codecs that round at random: a function of the update alone, the same on every CPU."""

import hashlib

import numpy as np
import numpy.typing as npt

from shared.compression.rice import F64
from shared.layout import F32

U64 = npt.NDArray[np.uint64]


def seed_of(update: F32) -> int:
    """A 64-bit seed, from the SHA-256 of the update's little-endian bytes."""
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(update, "<f4").tobytes()).digest()[:8], "big")


def raw_draws(seed: int, count: int) -> U64:
    """Evenly distributed uint64 `[count]`; of numpy's streams the raw one never changes from version to version."""
    return np.random.PCG64(seed).random_raw(count)


def uniform_draws(seed: int, count: int) -> F64:
    """Evenly distributed float64 `[count]` in [0, 1)."""
    return (raw_draws(seed, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
