import numpy as np
import pytest
import torch

from coordinator.bench.cell import Cell
from coordinator.bench.federation import Federation
from coordinator.bench.recipe import Recipe
from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples

CENTRES = np.random.default_rng(0).normal(0, 1, (4, 20)).astype(np.float32)


def made_up(count: int, seed: int) -> Examples:
    """Four well separated heaps of points, owned by four people in turn."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    points = CENTRES[labels] + random.normal(0, 0.3, (count, 20))
    return Examples(points.astype(np.float32), labels.astype(np.int64), np.arange(count) % 4)


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))


TASK = ArrayTask("made-up", network, lambda: (made_up(240, 1), made_up(80, 2)), learning_rate=0.1)
SHORT = Recipe("partition", ratio=40, prior="public", rounds=3, steps=10, batch_size=16, learning_rate=0.05)


@pytest.fixture
def federate() -> "Federate":
    return Federate()


class Federate:
    """A federation of four clients over made-up data."""

    def __call__(self, recipe: Recipe = SHORT, seed: int = 1, participation: float = 1.0) -> Federation:
        cell = Cell("made-up", "dirichlet-0.5", recipe, seed, clients=4, participation=participation)
        return Federation(cell, TASK, *TASK.load())
