"""One cell of the benchmark's matrix: a task, its split over clients, a recipe and a seed."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import numpy as np

from coordinator.bench.recipe import Recipe
from coordinator.tasks.examples import Examples
from coordinator.tasks.skew import dirichlet, iid, natural
from shared.errors import DataError
from shared.layout import I64

MEASURE = "2"
"""Part of every cell's key: to be changed whenever the same cell would give another row."""

Skew = Literal["iid", "dirichlet-0.5", "dirichlet-0.1", "natural"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What one run needs; equal cells give equal rows. `participation` is the share of `clients` asked in a round."""

    task: str
    skew: Skew
    recipe: Recipe
    seed: int = 1
    clients: int = 10
    participation: float = 1.0

    @property
    def key(self) -> str:
        """Sixteen hex digits: the same for cells that are the same run, and others once what is measured changes.

        What a recipe leaves at its default is not part of it, so that a new field changes no key.
        """
        recipe = replace(self.recipe, study="", variant="")
        varied = {
            field.name: value for field in fields(recipe) if (value := getattr(recipe, field.name)) != field.default
        }
        run = asdict(replace(self, recipe=recipe)) | {"recipe": varied}
        return hashlib.sha256(json.dumps([MEASURE, run], sort_keys=True).encode()).hexdigest()[:16]

    def split(self, examples: Examples) -> list[I64]:
        """Which examples each client has; raises `DataError` where a natural split has no owners."""
        random = np.random.default_rng(self.seed)
        if self.skew == "iid":
            return iid(len(examples), self.clients, random)
        if self.skew != "natural":
            return dirichlet(examples.y, self.clients, float(self.skew.removeprefix("dirichlet-")), random)
        if examples.owner is None:
            raise DataError(f"nobody is known to own the examples of {self.task}: choose another skew than natural")
        return natural(examples.owner, self.clients, random)
