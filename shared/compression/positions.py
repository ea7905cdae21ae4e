"""Positions of sent values: Rice-coded gaps, group after group, with five bits of parameter before each group."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from shared.compression.bits import BitReader, BitWriter
from shared.compression.rice import Gaps, covering_parameter, decode_gaps
from shared.layout import I64, Layout

PARAMETER_BITS = 5


@dataclass(frozen=True)
class Positions:
    """Rising `indices` int64 `[k]`, in groups of which each has the parameter that serves it best: int64 `[groups]`."""

    indices: I64
    gaps: Gaps
    parameters: I64

    @classmethod
    def of(cls, indices: I64, bounds: I64) -> Self:
        """The rising `indices` in groups that begin and end at `bounds` int64 `[groups + 1]`."""
        gaps = Gaps.of(indices, bounds)
        return cls(indices, gaps, _best_parameters(gaps, np.diff(bounds)))

    @cached_property
    def length(self) -> int:
        """Bits of parameters and positions."""
        return PARAMETER_BITS * len(self.parameters) + self.gaps.length(self.parameters)

    def write(self, writer: BitWriter) -> None:
        """Write all parameters, then all positions."""
        for parameter in self.parameters.tolist():
            writer.put(parameter, PARAMETER_BITS)
        writer.put_bits(self.gaps.encode(self.parameters))


def read_positions(reader: BitReader, bounds: I64) -> I64:
    """The indices, int64 `[k]`, that `Positions.write` wrote for `bounds`; raises `DecodeError` on anything else."""
    parameters = np.array([reader.take(PARAMETER_BITS) for _ in bounds[:-1]])
    return decode_gaps(reader, bounds, parameters)


def one_group(layout: Layout) -> I64:
    """The bounds of a whole layout in one group."""
    return np.array([0, layout.size])


def tensor_groups(layout: Layout) -> I64:
    """The bounds of a layout with a group for each tensor."""
    return np.array(layout.offsets)


def _best_parameters(gaps: Gaps, extents: I64) -> I64:
    """A parameter two octaves above a group's mean gap only costs bits, which bounds the search."""
    counts = np.diff(gaps.first)
    means = (extents // (counts + 1))[counts > 0]
    best = gaps.lengths(int(means.max(initial=0)).bit_length() + 1).argmin(axis=0)
    covering = np.array([covering_parameter(extent) for extent in extents.tolist()])
    return np.where(counts > 0, best, covering)
