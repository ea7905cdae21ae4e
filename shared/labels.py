"""What a model learns of an example: its class, or numbers."""

import math
from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from shared.errors import DataError
from shared.layout import F32, I64

Inputs = F32 | I64
"""A batch of inputs: float32 measurements, or int64 tokens."""
Labels = I64 | F32
"""A batch of labels: int64 classes `[n]`, or float32 numbers `[n, ...]`."""
Series = npt.NDArray[np.floating] | I64
"""One recording or example as it was read."""
Label = int | F32
"""The number of a class, or float32 numbers: one label for a whole recording, or one a sample along the first axis."""


class Targets(BaseModel):
    """Labels that are numbers: float32 of `shape` an example, from the first of `bounds` to the second, if any."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    shape: tuple[Annotated[int, Field(ge=1, le=1 << 16)], ...] = Field(default=(), max_length=4)
    bounds: tuple[FiniteFloat, FiniteFloat] | None = None

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.bounds is not None and self.bounds[0] >= self.bounds[1]:
            raise ValueError(f"bounds {self.bounds}: the first must be the smaller one")
        return self

    def one(self, label: Label, name: str) -> F32:
        """The label of one example, float32 `[*shape]`; raises `DataError` naming the example."""
        found = np.asarray(label, np.float32)
        if not self._is_one(found):
            raise DataError(f"{name}: a label of shape {found.shape}, this model predicts {self.shape}")
        self._check(found, name)
        return found.reshape(self.shape)

    def each(self, label: Label, samples: int, name: str) -> F32:
        """The labels of a recording's samples, float32 `[samples, *shape]`; one for all is repeated without a copy.

        Raises `DataError` naming the recording, and the sample's place in it.
        """
        found = np.asarray(label, np.float32)
        if self._is_one(found):
            return np.broadcast_to(self.one(found, name), (samples, *self.shape))
        if found.shape[:1] != (samples,) or not self._is_one(found[0]):
            raise DataError(
                f"{name}: labels of shape {found.shape} for {samples} samples, "
                f"this model predicts {self.shape}: give one label, or one a sample"
            )
        rows = found.reshape(samples, -1)
        for place in np.flatnonzero(~self._fits(rows).all(1))[:1]:
            self._check(rows[place], f"{name}, sample {place}")
        return found.reshape(samples, *self.shape)

    def _is_one(self, found: F32) -> bool:
        return found.shape == self.shape or (found.size == math.prod(self.shape) == 1)

    def _fits(self, found: F32) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        low, high = self.bounds or (-np.inf, np.inf)
        fits: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = np.isfinite(found) & (found >= low) & (found <= high)
        return fits

    def _check(self, found: F32, name: str) -> None:
        fits = self._fits(found)
        if not fits.all():
            least, largest = self.bounds or (None, None)
            wanted = "a finite number" if least is None else f"from {least:g} to {largest:g}"
            raise DataError(f"{name}: label {found[~fits][0]:g}, it must be {wanted}: mend it or leave the example out")


def class_number(label: Label, num_classes: int, name: str) -> int:
    """The label as a class from 0 up to `num_classes`; raises `DataError` naming the example."""
    if isinstance(label, np.ndarray):
        raise DataError(f"{name}: its label is no class but a number: write a whole number from 0 to {num_classes - 1}")
    if not 0 <= label < num_classes:
        raise DataError(f"{name}: label {label} is not one of 0 to {num_classes - 1}")
    return label


def labels_of(labels: Sequence[Label], names: Sequence[str], num_classes: int, targets: Targets | None) -> Labels:
    """One label an example: int64 `[n]` classes, or with `targets` float32 `[n, *shape]`; raises `DataError`."""
    if targets is None:
        classes = [class_number(label, num_classes, name) for label, name in zip(labels, names, strict=True)]
        return np.asarray(classes, np.int64)
    numbers = np.empty((len(labels), *targets.shape), np.float32)
    for row, (label, name) in enumerate(zip(labels, names, strict=True)):
        numbers[row] = targets.one(label, name)
    return numbers
