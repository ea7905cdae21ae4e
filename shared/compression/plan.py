"""The round plan of the sieve: a byte budget and the predicted density class of every block, as integers."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from shared.compression.bits import BitReader, BitWriter
from shared.compression.rice import decode_values, encode_values, value_parameter
from shared.errors import DecodeError
from shared.layout import Layout

Classes = npt.NDArray[np.uint8]

DENSEST_CLASS = 16
MOST_BUDGET_BYTES = (1 << 32) - 1
CLASSES_PER_OCTAVE = 2


@dataclass(frozen=True, eq=False)
class Plan:
    """What coordinator and device agree on before an update is sieved.

    `density_classes` is uint8 `[blocks]`: 0 predicts a dead block, class c ≥ 1 a density proportional to 2 ** (c / 2),
    so that class 16 is 181 times as dense as class 1. Only the ratios count: each frame carries its own scale. None is
    the prior `none`: the frame pays for its partition. Raises `DecodeError` on a budget or a class out of range.
    """

    budget_bytes: int
    density_classes: Classes | None = field(default=None)

    def __post_init__(self) -> None:
        if not 1 <= self.budget_bytes <= MOST_BUDGET_BYTES:
            raise DecodeError(f"budget of {self.budget_bytes} bytes: it must lie within 1 to {MOST_BUDGET_BYTES}")
        classes = self.density_classes
        if classes is None:
            return
        if classes.dtype != np.uint8 or classes.ndim != 1 or int(classes.max(initial=0)) > DENSEST_CLASS:
            raise DecodeError(f"density classes must be one row of uint8 of at most {DENSEST_CLASS}, see Plan")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    @cached_property
    def digest(self) -> bytes:
        """The first 4 bytes of the SHA-256 of `to_bytes()`; equal plans have equal digests."""
        return hashlib.sha256(self.to_bytes()).digest()[:4]

    def to_bytes(self) -> bytes:
        """Compact canonical bytes: the budget, then the classes, each Rice-coded by its step from the block before."""
        writer = BitWriter()
        writer.put(self.budget_bytes, 32)
        writer.put(self.density_classes is not None, 1)
        if self.density_classes is not None:
            steps = np.diff(self.density_classes.astype(np.int64), prepend=DENSEST_CLASS)
            folded = np.where(steps < 0, -2 * steps - 1, 2 * steps)
            parameter = value_parameter(folded)
            writer.put(parameter, 3)
            writer.put_bits(encode_values(folded, parameter))
        return writer.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, layout: Layout) -> Self:
        """What `to_bytes` wrote for `layout`; raises `DecodeError` on anything else."""
        reader = BitReader(data)
        budget_bytes = reader.take(32)
        classes: Classes | None = None
        if reader.take(1):
            folded = decode_values(reader, layout.num_blocks, reader.take(3))
            steps = np.where(folded & 1, -(folded >> 1) - 1, folded >> 1)
            levels = DENSEST_CLASS + np.cumsum(steps)
            if int(levels.min()) < 0 or int(levels.max()) > DENSEST_CLASS:
                raise DecodeError(f"the plan holds a density class outside 0 to {DENSEST_CLASS}: refuse the plan")
            classes = levels.astype(np.uint8)
        reader.finish()
        return cls(budget_bytes, classes)


def plan_from_densities(densities: npt.NDArray[np.float64]) -> Classes:
    """The density classes, uint8 `[blocks]`, of predicted densities, float64 `[blocks]`, in any one unit.

    The densest block gets class 16, a block below 1/256 of it (or without a positive density) class 0.
    """
    densest = float(densities.max(initial=0.0))
    if not 0.0 < densest < np.inf:
        return np.zeros(len(densities), np.uint8)
    octaves = np.log2(np.maximum(densities / densest, 2.0**-64))
    return np.clip(np.rint(DENSEST_CLASS + CLASSES_PER_OCTAVE * octaves), 0, DENSEST_CLASS).astype(np.uint8)
