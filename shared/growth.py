"""First weights that a device makes itself, from a seed in the bundle: the same bits on every CPU, and no download."""

from itertools import pairwise

import numpy as np

from shared.bundle import Growth
from shared.compression.draws import raw_draws
from shared.layout import F32, Layout

DRAW_BITS = 24
"""As many as a float32 holds: each draw is a multiple of 2 ** -23 from -1 to below 1, exactly."""


def grow(growth: Growth, layout: Layout) -> F32:
    """The weights float32 `[layout.size]`: each tensor evenly distributed within its reach around its centre.

    Raises `ValueError` unless there is a spread for every tensor.
    """
    drawn = raw_draws(growth.seed, -(-layout.size // 2)).astype("<u8", copy=False).view("<u4")[: layout.size]
    weights = (drawn >> np.uint32(32 - DRAW_BITS)).astype(np.float32)
    weights *= np.float32(2.0 ** (1 - DRAW_BITS))
    weights -= np.float32(1.0)
    for (start, end), (centre, reach) in zip(pairwise(layout.offsets), growth.spreads, strict=True):
        weights[start:end] *= np.float32(reach)
        weights[start:end] += np.float32(centre)
    return weights


def growth_like(weights: F32, layout: Layout, seed: int) -> Growth:
    """How to grow weights like these float32 `[layout.size]`: constants stay, the rest keeps its root mean square."""
    spreads = []
    for start, end in pairwise(layout.offsets):
        part = weights[start:end].astype(np.float64)
        constant = part.min() == part.max()
        reach = np.float32(np.sqrt(3 * np.mean(part**2)))
        spreads.append((float(part[0]), 0.0) if constant else (0.0, float(reach)))
    return Growth(seed=seed, spreads=tuple(spreads))
