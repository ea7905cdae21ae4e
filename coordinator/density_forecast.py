"""What a plan's density classes are made from: a predictor, or nothing where plans have no classes."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from coordinator.block_history import Arrays
from coordinator.job import Job
from coordinator.sieve_facts import SieveFacts
from shared.errors import RunError
from shared.layout import F32, Layout

Trust = Literal["better", "averages", "network"]


class DensityForecast(Protocol):
    """Learns from each round what the coming ones will send, block by block."""

    def densities(self, budget_bytes: int) -> npt.NDArray[np.float64]:
        """The share of each block's values that a frame of `budget_bytes` will hold: float64 `[blocks]`, in 0 to 1."""

    def observe(self, mean_update: F32, facts: Sequence[SieveFacts], budget_bytes: int) -> None:
        """Learn from a round: the aggregated float32 `[size]` update, and each update's facts under `budget_bytes`."""

    def state(self) -> Arrays:
        """The arrays that a checkpoint keeps."""

    def restore(self, state: Arrays) -> None:
        """Continue from `state()`, bit for bit."""


class NoForecast:
    """Of jobs whose plans have no classes: nothing is learnt, and no torch is loaded for it."""

    def densities(self, budget_bytes: int) -> npt.NDArray[np.float64]:
        """Raises `RunError`: no plan of such a job asks."""
        raise RunError("this job's prior has no use for predicted densities: report it")

    def observe(self, mean_update: F32, facts: Sequence[SieveFacts], budget_bytes: int) -> None:
        """Nothing."""

    def state(self) -> Arrays:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Nothing."""


def plans_have_classes(job: Job) -> bool:
    """Do the plans of this job predict where values are sent."""
    return job.sieve.codec == "partition" and job.sieve.prior in ("public", "both")


def forecast_for(job: Job, layout: Layout, trust: Trust) -> DensityForecast:
    """The predictor where the job's plans have classes."""
    if not plans_have_classes(job):
        return NoForecast()
    from coordinator.predictor import BlockPredictor  # noqa: PLC0415  loads torch, half the memory of a coordinator

    return BlockPredictor(layout, job.seed, trust)
