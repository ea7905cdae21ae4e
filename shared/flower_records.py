"""How sieved updates and rounds lie in Flower's records, which both ends read.

A reply that `SieveMod` has sieved has its ArrayRecord as before, but without its arrays of floats, and a ConfigRecord
`SIEVED` whose `FRAME` is one codec frame over all of those, in the order of their names. They come back as float32,
whatever they were: some of Flower's strategies send float64 from their second round on.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared.layout import F32, Layout, TensorRole

SIEVED = "gradsieve"
FRAME = "frame"

ROUND = "round"
"""In a message to a client that works on a job: the round's `manifest`, its `attachment`, and objects by digest."""

CLIENT = "client"
"""What concerns one client alone: `command`, `accepted`, the last round of its that counts, and `signer`."""

UPDATE = "update"
"""In a reply: the update object under `content`, or under `event` how the model does on the client's data."""


class NumpyArray(Protocol):
    """What Flower's Array is to us."""

    def numpy(self) -> npt.NDArray[np.generic]:
        """The values."""


def float_arrays(record: Mapping[str, NumpyArray]) -> tuple[Layout, dict[str, F32]]:
    """The layout of a record's arrays of floats, in the order of their names, and the arrays as float32.

    A matrix or a larger array counts as a weight, a vector as a bias. Raises `MessageError` where there is none.
    """
    found: dict[str, F32] = {}
    for name in sorted(record):
        values = record[name].numpy()
        if values.dtype.kind == "f" and values.size:
            found[name] = np.asarray(values, np.float32)
    rows: list[tuple[str, tuple[int, ...], TensorRole]] = [
        (name, tuple(values.shape), "weight" if values.ndim > 1 else "bias") for name, values in found.items()
    ]
    return Layout.of(rows), found
