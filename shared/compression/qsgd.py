"""QSGD: every value rounded at random to one of s levels of the update's norm; zeros skipped, levels Elias-coded.

D. Alistarh, D. Grubic, J. Li, R. Tomioka, M. Vojnovic, QSGD: Communication-Efficient SGD via Gradient Quantization and
Encoding, NeurIPS 2017. The number of levels follows from the budget. Positions take Rice's code, as in every codec
here, in place of Elias's; a frame has the norm as float32, 16 bits of s, positions, signs, and levels. As in the
paper's analysis there is one norm: one for each bucket of 512 values, as in its experiments, would be most of a frame.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from shared.compression.bits import ONE, ZERO, BitReader, BitWriter
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.draws import seed_of, uniform_draws
from shared.compression.histogram import magnitude_bits, magnitudes, signs
from shared.compression.plan import Plan
from shared.compression.positions import Positions, one_group, read_positions
from shared.compression.rice import F64
from shared.compression.sieve import fill_budget
from shared.errors import DecodeError
from shared.layout import F32, I64, Layout

QSGD_WIRE_ID = 9
NORM_BITS = 32
LEVEL_BITS = 16
MOST_LEVELS = (1 << LEVEL_BITS) - 1
HEAD_BYTES = 16
EMPTY_FRAME = bytes([QSGD_WIRE_ID])


class QsgdCodec:
    """As many levels as the budget holds, one at least: then about √size values are sent, whatever the budget."""

    name = "qsgd"
    wire_id = QSGD_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """The whole update at random, seeded by itself. Raises `ValueError` on NaN, infinity or another size."""
        values = magnitudes(magnitude_bits(update, layout))
        norm = _norm(values)
        draws = uniform_draws(seed_of(update), layout.size)

        def draft(levels: int) -> _Draft:
            return _Draft.of(quantise(values, norm, levels, draws), levels, layout)

        if norm == 0:
            return Encoded(EMPTY_FRAME, SparseUpdate.nothing(layout.size))
        filled = fill_budget(draft, 1, MOST_LEVELS, 8 * plan.budget_bytes) or draft(1)
        return filled.finish(norm, update, layout)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered; raises `DecodeError` on anything else. The plan is not used."""
        if frame == EMPTY_FRAME:
            return SparseUpdate.nothing(layout.size)
        if frame[:1] != EMPTY_FRAME or len(frame) > HEAD_BYTES + 4 * layout.size:
            raise DecodeError(f"{len(frame)} bytes are no QSGD frame of a layout of {layout.size} values")
        reader = BitReader(frame[1:])
        norm = float(np.uint32(reader.take(NORM_BITS)).view(np.float32))
        levels = reader.take(LEVEL_BITS)
        if not 0 < norm < math.inf or levels == 0:
            raise DecodeError(f"norm {norm} and {levels} levels: both must be positive and finite")
        indices = read_positions(reader, one_group(layout))
        negative = reader.take_bits(len(indices))
        level = read_omegas(reader, len(indices), levels)
        reader.finish()
        return SparseUpdate(layout.size, indices, _dequantise(level, norm, levels, negative == 1))


def quantise(values: F64, norm: float, levels: int, draws: F64) -> I64:
    """Levels int64 `[n]` of magnitudes: of the two next to s · |v| / norm the upper with the probability of the rest.

    `draws` float64 `[n]` are uniform in [0, 1).
    """
    return np.floor(values / norm * levels + draws).astype(np.int64)


@cache
def omega(value: int) -> bytes:
    """Elias's recursive code of a positive integer, as ASCII digits. P. Elias, IEEE Trans. Information Theory, 1975."""
    code = ""
    while value > 1:
        code = f"{value:b}{code}"
        value = value.bit_length() - 1
    return f"{code}0".encode()


def read_omegas(reader: BitReader, count: int, most: int) -> I64:
    """The `count` integers, 1 to `most`, that `omega` coded: int64 `[count]`; raises `DecodeError` on a larger one."""
    digits, at, end = reader.digits, reader.at, len(reader.digits)
    values = np.ones(count, np.int64)
    for place in range(count):
        value = 1
        while at < end and digits[at] == ONE:
            at, value = at + value + 1, int(digits[at : at + value + 1], 2)
            if value > most:
                raise DecodeError(f"a level is above the {most} of this frame: it is damaged")
        at += 1
        values[place] = value
    reader.skip(at - reader.at)
    return values


@dataclass(frozen=True)
class _Draft:
    positions: Positions
    level: I64
    levels: int

    @classmethod
    def of(cls, quantised: I64, levels: int, layout: Layout) -> "_Draft":
        indices = np.flatnonzero(quantised)
        return cls(Positions.of(indices, one_group(layout)), quantised[indices], levels)

    @property
    def count(self) -> int:
        return len(self.level)

    @cached_property
    def length(self) -> int:
        used, counts = np.unique(self.level, return_counts=True)
        coded = int(counts @ np.array([len(omega(value)) for value in used.tolist()], np.int64))
        return 8 + NORM_BITS + LEVEL_BITS + self.positions.length + self.count + coded

    def finish(self, norm: float, update: F32, layout: Layout) -> Encoded:
        indices = self.positions.indices
        if not len(indices):
            return Encoded(EMPTY_FRAME, SparseUpdate.nothing(layout.size))
        negative = signs(update, indices)
        writer = BitWriter()
        writer.put(QSGD_WIRE_ID, 8)
        writer.put(int(np.float32(norm).view(np.uint32)), NORM_BITS)
        writer.put(self.levels, LEVEL_BITS)
        self.positions.write(writer)
        writer.put_bits(negative)
        writer.put_bits(np.frombuffer(b"".join(map(omega, self.level.tolist())), np.uint8) - ZERO)
        values = _dequantise(self.level, norm, self.levels, negative == 1)
        return Encoded(writer.to_bytes(), SparseUpdate(layout.size, indices, values), float(np.abs(values).min()))


def _norm(values: F64) -> float:
    """The Euclidean norm as a float32 holds it; summed exactly, so the same on every CPU."""
    exact = math.sqrt(math.fsum((values * values).tolist()))
    return float(np.float32(min(exact, float(np.finfo(np.float32).max))))


def _dequantise(level: I64, norm: float, levels: int, negative: np.typing.NDArray[np.bool_]) -> F32:
    values = level / levels * norm
    return np.where(negative, -values, values).astype(np.float32)
