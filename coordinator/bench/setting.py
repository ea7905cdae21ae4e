"""Rows of the compression benchmark put together: those that differ in nothing but their seed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from statistics import fmean
from typing import Any

from coordinator.bench.cell_run import CurvePoint, bytes_to, running_means
from coordinator.bench.recipe import Recipe

Row = dict[str, Any]

WITHIN = 0.003
"""Accuracy that a compressed run may lose against dense: 0.3 points."""
_SAME = ["task", "skew", "clients", "participation", "budget_ratio"]
_SAME += [field.name for field in fields(Recipe) if field.name != "ratio"]


@dataclass(frozen=True)
class Setting:
    """The rows of one setting, one a seed; figures are means over these."""

    rows: tuple[Row, ...]

    def __getitem__(self, key: str) -> Any:
        """A field that all its rows share."""
        return self.rows[0][key]

    def mean(self, key: str) -> float:
        """The mean of a numeric field."""
        return fmean(row[key] for row in self.rows)

    @cached_property
    def curve(self) -> list[CurvePoint]:
        """The mean curve: accuracy and uplink bytes over rounds."""
        curves = zip(*(row["curve"] for row in self.rows), strict=True)
        return [(points[0][0], fmean(p[1] for p in points), round(fmean(p[2] for p in points))) for points in curves]

    @property
    def accuracy(self) -> float:
        """The mean of the last three evaluations, over all seeds."""
        return running_means(self.curve)[-1][1]

    def bytes_to(self, target: float) -> float | None:
        """Uplink bytes until the mean curve reaches the target."""
        return bytes_to(self.curve, target - 1e-9)

    @property
    def place(self) -> str:
        """The task with what makes its split, as `targets` names it."""
        share = f"/{self['participation']:.0%}" if self["participation"] < 1 else ""
        return f"{self['task']}/{self['skew']}{share}"

    @property
    def label(self) -> str:
        """The codec with its prior, by chance or with a gain, and what an ablation changes."""
        if self["variant"]:
            return f"{self['codec']}, {self['variant']}"
        words = [self["prior"]] if self["codec"] == "partition" else []
        words += [f"chance {self['chance']:g}"] if self["chance"] else []
        words += [f"gain {self['gain']:g}"] if self["gain"] > 1 else []
        return f"{self['codec']} ({', '.join(words)})" if words else str(self["codec"])


def settings_of(rows: Iterable[Row]) -> list[Setting]:
    """The settings of all rows, in the order of their first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(repr([row[key] for key in _SAME]), []).append(row)
    return [Setting(tuple(same)) for same in found.values()]


def best(settings: Iterable[Setting], of: Callable[[Setting], float]) -> Setting | None:
    """The setting of which `of` is largest; the first of equal ones, None of none."""
    return max(settings, key=of, default=None)


def cheapest(settings: Iterable[Setting], target: float) -> tuple[Setting, float] | None:
    """The setting that reaches the target with fewest bytes, and these; None where none does."""
    reached = [(setting, spent) for setting in settings if (spent := setting.bytes_to(target)) is not None]
    return min(reached, key=lambda pair: pair[1], default=None)


def targets_of(settings: Sequence[Setting]) -> dict[str, float]:
    """For each place the accuracy to reach: 0.3 points below dense with the fewest steps, by its best optimiser."""
    targets: dict[str, float] = {}
    for place in dict.fromkeys(setting.place for setting in settings):
        dense = [setting for setting in settings if setting.place == place and setting["codec"] == "dense"]
        steps = min((setting["steps"] for setting in dense), default=0)
        if top := best((setting for setting in dense if setting["steps"] == steps), lambda found: found.accuracy):
            targets[place] = round(top.accuracy - WITHIN, 5)
    return targets
