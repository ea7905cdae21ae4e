"""Labelled examples as arrays, ready to train on."""

from dataclasses import dataclass

import numpy as np

from shared.errors import DataError
from shared.layout import F32, I64


@dataclass(frozen=True, slots=True)
class Examples:
    """Normalised inputs `x` float32 `[n, ...]`, labels `y` int64 `[n]` from 0 up.

    `owner` int64 `[n]`, from 0 up, says who made each example (a wearer, a speaker); None where nobody is known to.
    Raises `DataError` where the arrays do not fit each other or hold no example.
    """

    x: F32
    y: I64
    owner: I64 | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.x, self.y, self.owner) if part is not None}
        if len(lengths) != 1 or 0 in lengths:
            raise DataError(f"inputs, labels and owners must be equally many and some: {sorted(lengths)}")
        kinds = [str(part.dtype) for part in (self.x, self.y, self.owner) if part is not None]
        if kinds != ["float32", "int64", "int64"][: len(kinds)]:
            raise DataError(f"inputs, labels and owners must be float32, int64 and int64: {', '.join(kinds)}")

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: I64) -> "Examples":
        """The examples at `indices`, in that order, copied."""
        return Examples(self.x[indices], self.y[indices], None if self.owner is None else self.owner[indices])


def joined(parts: list[Examples]) -> Examples:
    """All parts in a row, the owner of each example being the number of its part."""
    return Examples(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.repeat(np.arange(len(parts), dtype=np.int64), [len(part) for part in parts]),
    )
