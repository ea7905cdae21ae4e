"""SIDCo: the threshold for a wanted density in closed form, from a sparsity-inducing distribution fitted in stages.

A. M. Abdelmoniem, A. Elzanaty, M.-S. Alouini, M. Canini, An Efficient Statistical-based Gradient Compression Technique
for Distributed Training Systems, MLSys 2021. The paper adapts the number of stages from round to round; here it is
whichever comes closest on the update itself, so that no state outlives a round.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.float_frame import finish, likely_floats, read_floats
from shared.compression.histogram import magnitude_bits, magnitudes
from shared.compression.plan import Plan
from shared.compression.rice import F64
from shared.compression.sieve import Candidates
from shared.compression.topk import fill_candidates
from shared.layout import F32, Layout

SIDCO_WIRE_ID = 7
STAGE_RATIO = 0.25
MOST_STAGES = 6

Fit = Callable[[F64, float], float]
Family = Literal["exponential", "gamma", "pareto"]


def exponential_threshold(values: F64, ratio: float) -> float:
    """The value that a share δ = `ratio` exceeds, if `values` are exponential: β ln(1/δ), β their mean."""
    return -float(values.mean()) * math.log(ratio)


def gamma_threshold(values: F64, ratio: float) -> float:
    """The same for a gamma distribution of shape k ≤ 1: about -β (ln δ + ln Γ(k)), k by Minka's closed form."""
    mean = float(values.mean())
    spread = math.log(mean) - float(np.log(values).mean())
    if spread <= 0:
        return mean
    shape = (3 - spread + math.sqrt((spread - 3) ** 2 + 24 * spread)) / (12 * spread)
    return max(-mean / shape * (math.log(ratio) + math.lgamma(shape)), 0.0)


def pareto_threshold(values: F64, ratio: float) -> float:
    """The same for a generalised Pareto distribution, shape k and scale β by moments: β/k (δ^-k - 1)."""
    mean, variance = float(values.mean()), float(values.var())
    if variance <= mean * mean * 1e-12:
        return mean
    shape, scale = (1 - mean * mean / variance) / 2, mean * (mean * mean / variance + 1) / 2
    stretch = -math.log(ratio)
    return scale * (math.expm1(shape * stretch) / shape if abs(shape) > 1e-9 else stretch)


FAMILIES: dict[Family, tuple[Fit, Fit]] = {
    "exponential": (exponential_threshold, exponential_threshold),
    "gamma": (gamma_threshold, pareto_threshold),
    "pareto": (pareto_threshold, pareto_threshold),
}
"""How all values are fitted, and how the exceedances of a later stage."""


def staged_thresholds(values: F64, density: float, family: Family) -> list[float]:
    """The threshold after 1, 2, … stages: each but the last keeps a quarter, the next fits what exceeds it.

    `values` float64 `[n]` are positive magnitudes. None lies above the largest, so that something is always sent.
    """
    found: list[float] = []
    reached, largest = 0.0, float(values.max())
    fit, later = FAMILIES[family]
    while len(found) < MOST_STAGES and len(values):
        exceedances = values - reached
        found.append(min(reached + fit(exceedances, min(density, 1.0)), largest))
        if density >= STAGE_RATIO:
            break
        reached += fit(exceedances, STAGE_RATIO)
        values, density, fit = values[values > reached], density / STAGE_RATIO, later
    return found


@dataclass(frozen=True)
class SidcoCodec:
    """Values above the fitted threshold as float32; of these the largest, if they are more than the budget holds."""

    family: Family = "pareto"
    name = "sidco"
    wire_id = SIDCO_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """At most `plan.budget_bytes`, from which the wanted density follows. Raises `ValueError` on NaN or infinity.

        How much of the budget is used depends on the fit.
        """
        bits = magnitude_bits(update, layout)
        values = magnitudes(bits[bits > 0])
        if not len(values):
            return finish(None, SIDCO_WIRE_ID, update, layout)
        wanted = min(likely_floats(layout.size, plan.budget_bytes), len(values))
        thresholds = staged_thresholds(values, wanted / len(values), self.family)
        threshold = min(thresholds, key=lambda reached: abs(math.log(np.count_nonzero(values >= reached) / wanted)))
        candidates = Candidates.above(bits, _edge(threshold))
        return finish(fill_candidates(candidates, layout, plan), SIDCO_WIRE_ID, update, layout)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered; raises `DecodeError` on anything else. The plan is not used."""
        return read_floats(frame, SIDCO_WIRE_ID, layout)


def _edge(threshold: float) -> int:
    """The bit pattern of the smallest positive float32 that is at least `threshold`."""
    nearest = np.float32(threshold)
    return max(int(nearest.view(np.uint32)) + (float(nearest) < threshold), 1)
