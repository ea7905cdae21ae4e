"""What a device keeps from round to round for its codec: an undelivered rest, momentum, or nothing."""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from shared.compression.codec import Encoded, SparseUpdate
from shared.layout import F32


class ClientMemory(Protocol):
    """One object per client and model, never written to: each step returns the next one."""

    @classmethod
    def zero(cls, size: int) -> Self:
        """The memory before the first round, for a vector of `size` values."""

    @classmethod
    def from_state(cls, state: F32, size: int) -> Self:
        """The memory that had this `state`; raises `ValueError` on one of another size."""

    @property
    def state(self) -> F32:
        """All that is to be saved: one flat float32 vector."""

    def compensate(self, update: F32, missed_rounds: int = 0) -> F32:
        """What to encode for the local `update`: float32 `[n]`."""

    def after(self, compensated: F32, delivered: SparseUpdate) -> Self:
        """The memory once `delivered` was encoded from what `compensate` gave."""

    def refused(self, delivered: SparseUpdate) -> Self:
        """The memory once it turns out that `delivered` never counted."""


def remembered(memory: ClientMemory, compensated: F32, encoded: Encoded) -> ClientMemory:
    """The memory once what it compensated was encoded: what the codec says is left, else what it did not deliver."""
    if encoded.left is not None:
        return memory.from_state(encoded.left, len(encoded.left))
    return memory.after(compensated, encoded.delivered)


@dataclass(frozen=True, slots=True)
class NoMemory:
    """For unbiased quantisers, whose errors average out over clients and rounds instead of being fed back."""

    @classmethod
    def zero(cls, size: int) -> Self:
        """Nothing."""
        return cls()

    @classmethod
    def from_state(cls, state: F32, size: int) -> Self:
        """Nothing; raises `ValueError` if `state` holds something."""
        if state.size:
            raise ValueError(f"a state of {state.size} values for a codec that keeps none: it is another codec's")
        return cls()

    @property
    def state(self) -> F32:
        """No values."""
        return np.zeros(0, np.float32)

    def compensate(self, update: F32, missed_rounds: int = 0) -> F32:
        """The update as it is."""
        return update

    def after(self, compensated: F32, delivered: SparseUpdate) -> Self:
        """Still nothing."""
        return self

    def refused(self, delivered: SparseUpdate) -> Self:
        """Still nothing: the update is lost."""
        return self
