"""The round plan of the sieve: a byte budget and the predicted density class of every block, as integers."""

import hashlib
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from shared.compression.bits import BitReader, BitWriter
from shared.compression.history import SendHistory
from shared.compression.rice import decode_values, encode_values, value_parameter
from shared.errors import DecodeError
from shared.layout import I64, Layout

Classes = npt.NDArray[np.uint8]
Steps = npt.NDArray[np.int8]

DENSEST_CLASS = 8
MOST_BUDGET_BYTES = (1 << 32) - 1
NUM_CLASSES = DENSEST_CLASS + 1
WIDTH_BITS = 5
PARAMETER_BITS = 3
PACKED = 7
"""In place of a Rice parameter: the classes follow as numbers of five digits to base nine."""
CLASSES_PER_PACK = 5
PACK_BITS = 16
PACK_WEIGHTS = NUM_CLASSES ** np.arange(CLASSES_PER_PACK)
LARGEST_STEP, LARGEST_STEP_BITS = 7, 5
GAIN_BITS = 4
PLAIN_GAIN_EIGHTHS = 8
CHANCE_BITS = 3
MOST_CHANCE_QUARTERS = 3 + (1 << CHANCE_BITS) - 1
MOST_GAIN_EIGHTHS = PLAIN_GAIN_EIGHTHS + (1 << GAIN_BITS) - 1

SMALLEST_DENSITY, LARGEST_DENSITY = 2.0**-40, 0.999
LN_GOLDEN = 0.4812118250596035
"""The natural logarithm of the golden ratio: A. Kiely, Selecting the Golomb Parameter in Rice Coding, JPL, 2004."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What coordinator and device agree on before an update is sieved.

    `density_classes` is uint8 `[blocks]`: 0 predicts a dead block, 1 to 8 densities that double from class to class.
    Only the ratios count, as each frame carries its own scale; finer classes would not pay, as a Rice parameter covers
    an octave. None is the prior `none`: the frame pays for its partition. `column_steps`, int8 `[columns]` within -7
    to 7, are octaves by which a column is denser than its tensor; None: columns are alike. `gain_eighths`, 8 to 23, is
    what magnitudes are multiplied by: see `levels.py`. `chance_quarters`, 4 to 10, is the exponent of priority
    sampling: see `priority.py`; 0: the largest are sent. `history` is what both ends know of the client besides; it is
    not part of the plan's bytes. Raises `DecodeError` if out of range.
    """

    budget_bytes: int
    density_classes: Classes | None = field(default=None)
    column_steps: Steps | None = field(default=None)
    gain_eighths: int = PLAIN_GAIN_EIGHTHS
    chance_quarters: int = 0
    history: SendHistory | None = field(default=None)

    def __post_init__(self) -> None:
        if not 1 <= self.budget_bytes <= MOST_BUDGET_BYTES:
            raise DecodeError(f"budget of {self.budget_bytes} bytes: it must lie within 1 to {MOST_BUDGET_BYTES}")
        if not PLAIN_GAIN_EIGHTHS <= self.gain_eighths <= MOST_GAIN_EIGHTHS:
            raise DecodeError(f"gain of {self.gain_eighths} eighths: it must lie within 8 to {MOST_GAIN_EIGHTHS}")
        if self.chance_quarters and not 4 <= self.chance_quarters <= MOST_CHANCE_QUARTERS:
            raise DecodeError(f"exponent of {self.chance_quarters} quarters: it must lie within 4 to 10, or be 0")
        classes, steps = self.density_classes, self.column_steps
        if classes is not None:
            _check_classes(classes)
        if steps is not None:
            _check_steps(steps)
            if classes is None:
                raise DecodeError("column steps must stand beside density classes, see Plan")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def knowing(self, history: SendHistory | None) -> "Plan":
        """The same plan for a client whose history both ends know."""
        _ = self.digest  # worked out once, and not by each plan that is made of this one
        other = copy(self)
        object.__setattr__(other, "history", history)
        return other

    def within(self, budget_bytes: int) -> "Plan":
        """The same plan with another budget, which the receiver need not know."""
        return replace(self, budget_bytes=budget_bytes)

    @property
    def chance_exponent(self) -> float | None:
        """The exponent of priority sampling; None where the largest values are sent."""
        return self.chance_quarters / 4 if self.chance_quarters else None

    @cached_property
    def digest(self) -> bytes:
        """The first 4 bytes of the SHA-256 of classes and steps: plans with equal digests read the same frames."""
        return hashlib.sha256(Plan(1, self.density_classes, self.column_steps).to_bytes()).digest()[:4]

    def to_bytes(self) -> bytes:
        """Compact canonical bytes: budget and gain, then the classes, stepwise or packed by fives, then the steps."""
        writer = BitWriter()
        writer.put(self.budget_bytes.bit_length() - 1, WIDTH_BITS)
        writer.put(self.budget_bytes, self.budget_bytes.bit_length())
        writer.put(self.gain_eighths - PLAIN_GAIN_EIGHTHS, GAIN_BITS)
        writer.put(max(self.chance_quarters - 3, 0), CHANCE_BITS)
        writer.put(self.density_classes is not None, 1)
        if self.density_classes is not None:
            _write_classes(writer, self.density_classes)
            writer.put(self.column_steps is not None, 1)
        if self.column_steps is not None:
            _write_steps(writer, self.column_steps)
        return writer.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, layout: Layout) -> Self:
        """What `to_bytes` wrote for `layout`; raises `DecodeError` on anything else."""
        if len(data) > _most_bytes(layout):
            raise DecodeError(f"{len(data)} bytes are no plan for the {layout.num_blocks} blocks of this layout")
        reader = BitReader(data)
        budget_bytes = reader.take(reader.take(WIDTH_BITS) + 1)
        gain_eighths = PLAIN_GAIN_EIGHTHS + reader.take(GAIN_BITS)
        chance = reader.take(CHANCE_BITS)
        classes = _read_classes(reader, layout.num_blocks) if reader.take(1) else None
        steps = _read_steps(reader, layout.num_columns) if classes is not None and reader.take(1) else None
        plan = cls(budget_bytes, classes, steps, gain_eighths, chance + 3 if chance else 0)
        reader.finish()
        if plan.to_bytes() != data:
            raise DecodeError("the plan is not in its canonical form, so its digest would differ: refuse it")
        return plan


def plan_from_densities(densities: npt.NDArray[np.float64]) -> Classes:
    """The density classes, uint8 `[blocks]`, of predicted densities, float64 `[blocks]`: the share of values sent.

    Blocks with the same best Rice parameter share a class. The densest get class 8; class 0 is for those 2 ** 8 times
    less dense, and below `SMALLEST_DENSITY`.
    """
    live = densities >= SMALLEST_DENSITY
    if not live.any():
        return np.zeros(len(densities), np.uint8)
    clipped = np.minimum(np.maximum(densities, SMALLEST_DENSITY), LARGEST_DENSITY)
    octaves = np.floor(np.log2(LN_GOLDEN / -np.log1p(-clipped)))
    return np.where(live, np.maximum(DENSEST_CLASS - (octaves - octaves.min()), 0), 0).astype(np.uint8)


def steps_from_densities(densities: npt.NDArray[np.float64]) -> Steps:
    """The column steps, int8 `[columns]`, of densities against those of their tensors, float64 `[columns]`, above 0."""
    return np.clip(np.rint(np.log2(densities)), -LARGEST_STEP, LARGEST_STEP).astype(np.int8)


def _check_classes(classes: Classes) -> None:
    if classes.dtype != np.uint8 or classes.ndim != 1 or int(classes.max(initial=0)) > DENSEST_CLASS:
        raise DecodeError(f"density classes must be one row of uint8 of at most {DENSEST_CLASS}, see Plan")


def _check_steps(steps: Steps) -> None:
    if steps.dtype != np.int8 or steps.ndim != 1 or int(np.abs(steps.astype(np.int64)).max(initial=0)) > LARGEST_STEP:
        raise DecodeError(f"column steps must be one row of int8 within {LARGEST_STEP} octaves, see Plan")


def _write_steps(writer: BitWriter, steps: Steps) -> None:
    wide = steps.astype(np.int64)
    folded = np.where(wide < 0, -2 * wide - 1, 2 * wide)
    parameter = value_parameter(folded)
    writer.put(parameter, PARAMETER_BITS)
    writer.put_bits(encode_values(folded, parameter))


def _read_steps(reader: BitReader, columns: int) -> Steps:
    parameter = reader.take(PARAMETER_BITS)
    folded = decode_values(reader, columns, parameter)
    if int(folded.max()) > 2 * LARGEST_STEP:
        raise DecodeError(f"the plan holds a column step beyond {LARGEST_STEP} octaves: refuse it")
    return np.where(folded & 1, -(folded >> 1) - 1, folded >> 1).astype(np.int8)


def _most_bytes(layout: Layout) -> int:
    """The longest canonical form: the widest budget, packed classes, and steps in five bits each, which hold any."""
    head = WIDTH_BITS + MOST_BUDGET_BYTES.bit_length() + GAIN_BITS + CHANCE_BITS + 1
    classes = PARAMETER_BITS + PACK_BITS * -(-layout.num_blocks // CLASSES_PER_PACK) + 1
    return -(-(head + classes + PARAMETER_BITS + LARGEST_STEP_BITS * layout.num_columns) // 8)


def _write_classes(writer: BitWriter, classes: Classes) -> None:
    steps = np.diff(classes.astype(np.int64), prepend=DENSEST_CLASS)
    folded = np.where(steps < 0, -2 * steps - 1, 2 * steps)
    parameter = value_parameter(folded)
    coded = encode_values(folded, parameter)
    packs = -(-len(classes) // CLASSES_PER_PACK)
    if len(coded) <= packs * PACK_BITS:
        writer.put(parameter, PARAMETER_BITS)
        writer.put_bits(coded)
        return
    writer.put(PACKED, PARAMETER_BITS)
    padded = np.zeros((packs, CLASSES_PER_PACK), np.int64)
    padded.reshape(-1)[: len(classes)] = classes
    for pack in (padded @ PACK_WEIGHTS).tolist():
        writer.put(pack, PACK_BITS)


def _read_classes(reader: BitReader, blocks: int) -> Classes:
    parameter = reader.take(PARAMETER_BITS)
    if parameter == PACKED:
        packs = np.array([reader.take(PACK_BITS) for _ in range(-(-blocks // CLASSES_PER_PACK))])
        digits: I64 = packs[:, np.newaxis] // PACK_WEIGHTS % NUM_CLASSES
        return digits.reshape(-1)[:blocks].astype(np.uint8)
    folded = decode_values(reader, blocks, parameter)
    classes = DENSEST_CLASS + np.cumsum(np.where(folded & 1, -(folded >> 1) - 1, folded >> 1))
    if int(classes.min()) < 0 or int(classes.max()) > DENSEST_CLASS:
        raise DecodeError(f"the plan holds a density class outside 0 to {DENSEST_CLASS}: refuse it")
    return classes.astype(np.uint8)
