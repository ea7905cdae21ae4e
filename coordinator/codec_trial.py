"""Every codec on one real update: what each sends within a byte budget, and how much of the update is lost."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from shared.compression.codec import Codec, Encoded, SparseUpdate
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Classes, Plan, plan_from_densities
from shared.compression.registry import CODECS
from shared.errors import DataError, DecodeError
from shared.layout import F32, Layout, TensorRole

Arrays = Mapping[str, npt.NDArray[np.generic]]
Clock = Callable[[], float]
Result = TypeVar("Result")

WITHOUT_BUDGET = frozenset({"dense", "fp16", "terngrad"})
"""Codecs whose frame no budget changes."""

PERFECT_PLAN = "partition, perfect plan"
"""The partition codec with classes from the very update it encodes, which no predictor can know."""

VALUE_BYTES = 4
REPEATS = 3
PATIENCE_SECONDS = 1.0
"""What has taken longer is not repeated."""

_NORM = re.compile(r"norm|(?<![a-z])(bn|ln)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class NamedUpdate:
    """One update, float32 `[layout.size]`, not all zeros and free of NaN and infinity.

    `skipped` names the tensors left out because they are not floating, or empty.
    """

    layout: Layout
    values: F32
    skipped: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Arrays) -> Self:
        """The update that `arrays` hold by tensor name, in the order of names; all become float32.

        Raises `DataError` where nothing floating is left, everything is zero, or a value is no finite float32.
        """
        ordered = dict(sorted(arrays.items()))  # safetensors gives them in another order each time
        kept = {name: array for name, array in ordered.items() if array.size and array.dtype.kind == "f"}
        if not kept:
            raise DataError("no tensor holds floating values: floats of 16, 32 or 64 bits are needed")
        layout = Layout.of([(name, array.shape, guessed_role(name, array.shape)) for name, array in kept.items()])
        values = layout.join({name: _finite(name, array) for name, array in kept.items()})
        if not values.any():
            raise DataError("every value of the update is zero: name two checkpoints that differ")
        return cls(layout, values, tuple(name for name in ordered if name not in kept))

    @classmethod
    def between(cls, before: Arrays, after: Arrays) -> Self:
        """The update `after` - `before`, tensor by tensor: in float64 where one of them is, else in float32.

        Raises `DataError` as `of` does, and unless both have the same floating tensors in the same shapes.
        """
        unequal = sorted(name for name in before.keys() | after.keys() if _form(before, name) != _form(after, name))
        if unequal:
            name = unequal[0]
            raise DataError(
                f"tensor {name} is {_form(before, name)} in the first checkpoint and {_form(after, name)} in the "
                f"second, {len(unequal)} differ in all: name two checkpoints of one model"
            )
        return cls.of({name: _difference(before[name], after[name]) for name in before})


@dataclass(frozen=True, slots=True)
class Trial:
    """One codec's frame for the update.

    `budget_bytes` is None where the codec has no use for one. `nmse` is the share of the update's energy that is not
    delivered, above 1 where a frame is worse than none. `ratio` is against 4 bytes a value. `plan_bytes`, 0 without
    classes, travel down to all devices and are not in `frame_bytes`. Times are the best of three, or of fewer where
    these have taken a second.
    """

    codec: str
    budget_bytes: int | None
    frame_bytes: int
    ratio: float
    nmse: float
    values_sent: int
    encode_milliseconds: float
    decode_milliseconds: float
    plan_bytes: int = 0

    @property
    def is_over_budget(self) -> bool:
        """Whether the codec could not go as low as the budget."""
        return self.budget_bytes is not None and self.frame_bytes > self.budget_bytes


def guessed_role(name: str, shape: tuple[int, ...]) -> TensorRole:
    """A weight has two dimensions or more; of the others a norm is told by its name, and the rest are biases."""
    if len(shape) >= 2:
        return "weight"
    return "norm" if _NORM.search(name) else "bias"


def budget_of_ratio(ratio: float, layout: Layout) -> int:
    """The bytes, at least 1, that are `ratio` times fewer than 4 for each value."""
    return max(int(VALUE_BYTES * layout.size / ratio), 1)


def try_codecs(
    update: NamedUpdate, budgets: list[int], clock: Clock, announce: Callable[[str], None] = lambda name: None
) -> list[Trial]:
    """Every codec at every budget in bytes, and once those that ignore it; the smallest error first in each budget.

    `clock` gives seconds; `announce` hears each codec's name before it runs. Raises `DecodeError` if a frame does not
    give back what its codec says it delivers.
    """
    trials: list[Trial] = []
    for budget_bytes in sorted(set(budgets), reverse=True):
        group = []
        for codec in (codec for codec in CODECS if codec.name not in WITHOUT_BUDGET):
            announce(codec.name)
            group.append(_try(codec, codec.name, update, Plan(budget_bytes), clock))
        announce(PERFECT_PLAN)
        plan = Plan(budget_bytes, perfect_classes(update, budget_bytes))
        group.append(_try(PartitionCodec(), PERFECT_PLAN, update, plan, clock))
        trials += sorted(group, key=lambda trial: trial.nmse)
    free = []
    for codec in (codec for codec in CODECS if codec.name in WITHOUT_BUDGET):
        announce(codec.name)
        free.append(_try(codec, codec.name, update, Plan(1), clock))
    return trials + sorted(free, key=lambda trial: trial.nmse)


def perfect_classes(update: NamedUpdate, budget_bytes: int) -> Classes:
    """The classes, uint8 `[blocks]`, of the densities that the update itself has above the budget's threshold."""
    threshold = PartitionCodec().encode(update.values, update.layout, Plan(budget_bytes)).threshold
    starts = update.layout.block_starts
    sent = np.add.reduceat(np.abs(update.values) >= threshold, starts[:-1], dtype=np.int64)
    return plan_from_densities(sent / np.diff(starts))


def _try(codec: Codec, name: str, update: NamedUpdate, plan: Plan, clock: Clock) -> Trial:
    values, layout = update.values, update.layout

    def encode() -> Encoded:
        return codec.encode(values, layout, plan)

    encoded, encode_seconds = _best_time(encode, clock)

    def decode() -> SparseUpdate:
        return codec.decode(encoded.frame, layout, plan)

    decoded, decode_seconds = _best_time(decode, clock)
    if not _is_same(decoded, encoded.delivered):
        raise DecodeError(f"codec {name} decodes something else than it delivers: report it with this update")
    return Trial(
        codec=name,
        budget_bytes=None if name in WITHOUT_BUDGET else plan.budget_bytes,
        frame_bytes=len(encoded.frame),
        ratio=VALUE_BYTES * layout.size / len(encoded.frame),
        nmse=_lost_share(values, decoded),
        values_sent=len(decoded.indices),
        encode_milliseconds=1000 * encode_seconds,
        decode_milliseconds=1000 * decode_seconds,
        plan_bytes=0 if plan.density_classes is None else len(plan.to_bytes()),
    )


def _best_time(step: Callable[[], Result], clock: Clock) -> tuple[Result, float]:
    began = before = clock()
    result = step()
    now = clock()
    best = now - before
    for _ in range(REPEATS - 1):
        if now - began > PATIENCE_SECONDS:
            break
        before = now
        step()
        now = clock()
        best = min(best, now - before)
    return result, best


def _is_same(one: SparseUpdate, other: SparseUpdate) -> bool:
    return np.array_equal(one.indices, other.indices) and np.array_equal(one.values, other.values)


def _lost_share(values: F32, delivered: SparseUpdate) -> float:
    """The energy of what is not delivered, as a share of the update's."""
    wanted = values.astype(np.float64)
    rest = wanted.copy()
    rest[delivered.indices] -= delivered.values
    return float(rest @ rest / (wanted @ wanted))


def _form(arrays: Arrays, name: str) -> str:
    """A tensor's shape, which must agree; of one that would be skipped only that."""
    if name not in arrays:
        return "absent"
    return str(list(arrays[name].shape)) if arrays[name].dtype.kind == "f" else "not floating"


def _difference(before: npt.NDArray[np.generic], after: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if before.dtype.kind != "f":
        return after
    precise = np.result_type(before, after, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        difference: npt.NDArray[np.generic] = np.subtract(after.astype(precise), before.astype(precise))
    return difference


def _finite(name: str, array: npt.NDArray[np.generic]) -> F32:
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"tensor {name} holds NaN, infinity or what no float32 can hold: training diverged")
    return values
