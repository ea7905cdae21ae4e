"""Axes: from figures to positions, with ticks at round numbers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MOST_TICKS = 6
TICK_STEPS = (1, 2, 5, 10)
FEW_DECADES = 2.0
LOWEST_LOG = 1e-12


def ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """At most `most` multiples of 1, 2 or 5 times a power of ten within `low` to `high`, both ends included."""
    span = high - low
    if span <= 0:
        return [low]
    step = next(s for s in _steps(span / most) if _count(low, high, s) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, first + _count(low, high, step))]


def log_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Powers of ten within `low` to `high`, both above 0; also their double and fivefold where there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < FEW_DECADES else (1,)
    found = [f * 10.0**d for d in decades for f in factors if low * (1 - 1e-9) <= f * 10.0**d <= high * (1 + 1e-9)]
    return found[:: max(1, math.ceil(len(found) / most))] or [low]


@dataclass(frozen=True)
class Axis:
    """One axis: what it measures, its range, and how a tick is written."""

    label: str
    low: float
    high: float
    written: Callable[[float], str]
    log: bool = False

    @classmethod
    def linear(cls, label: str, figures: Iterable[float], written: Callable[[float], str]) -> "Axis":
        """From the tick at or below the lowest figure to the tick at or above the highest."""
        low, high = _range(figures)
        if low == high:
            low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
        marks = ticks(low, high)
        step = marks[1] - marks[0] if len(marks) > 1 else high - low
        return cls(label, math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, written)

    @classmethod
    def logarithmic(cls, label: str, figures: Iterable[float], written: Callable[[float], str]) -> "Axis":
        """From the power of ten, or its double or fivefold, below the positive figures to a little above them."""
        low, high = _range(figure for figure in figures if figure > LOWEST_LOG)
        low, high = low or 1.0, (high or 10.0) * 1.3
        decade = 10.0 ** math.floor(math.log10(low) + 1e-9)
        few = math.log10(high / decade) < FEW_DECADES
        factor = max(f for f in (1, 2, 5) if f * decade <= low * (1 + 1e-9)) if few else 1
        return cls(label, factor * decade, high, written, log=True)

    @classmethod
    def fitting(cls, label: str, figures: Sequence[float], written: Callable[[float], str]) -> "Axis":
        """Logarithmic for positive figures that lie more than a decade apart, else linear from 0."""
        low, high = _range(figures)
        if 0 < low < high / 10:
            return cls.logarithmic(label, figures, written)
        return cls.linear(label, [0.0, *figures], written)

    @classmethod
    def rounds(cls, last: int) -> "Axis":
        """Rounds from 0, the initial model, to the last."""
        return cls("round", 0.0, float(max(last, 1)), lambda value: f"{value:.0f}")

    def ticks(self) -> list[float]:
        """Where the axis is marked; rounds only at whole numbers."""
        found = log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high)
        return [tick for tick in found if tick == int(tick)] if self.label == "round" else found

    def share(self, value: float) -> float:
        """Where a figure lies, 0 at the low end and 1 at the high one; what is beyond an end lies at it."""
        if self.log:
            place = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)


def _steps(least: float) -> Iterable[float]:
    decade = 10.0 ** math.floor(math.log10(least))
    return (factor * decade * tens for tens in (1, 10) for factor in TICK_STEPS)


def _count(low: float, high: float, step: float) -> int:
    return math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1


def _range(figures: Iterable[float]) -> tuple[float, float]:
    finite = [figure for figure in figures if math.isfinite(figure)]
    return min(finite, default=0.0), max(finite, default=0.0)
