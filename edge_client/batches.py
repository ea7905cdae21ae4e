"""The order in which a device walks through its windows: the same for the same seed, round and device."""

import hashlib
from collections.abc import Iterator

import numpy as np

from shared.labels import Inputs, Labels


def batch_order(seed: int, server_round: int, device: str) -> np.random.Generator:
    """The generator that shuffles a device's data in a round."""
    tag = int.from_bytes(hashlib.sha256(device.encode()).digest()[:8], "little")
    return np.random.default_rng((seed, server_round, tag))


def shuffled(x: Inputs, y: Labels, batch_size: int, order: np.random.Generator) -> Iterator[tuple[Inputs, Labels]]:
    """Batches of `x` `[n, ...]` and `y` `[n, ...]` without end, reshuffled each epoch.

    A last partial batch is left out, unless all the data is smaller than one batch.
    """
    size = min(batch_size, len(x))
    while True:
        rows = order.permutation(len(x))
        for start in range(0, len(x) - size + 1, size):
            chosen = rows[start : start + size]
            yield x[chosen], y[chosen]
