"""Which cells the benchmark of compression runs, study by study, and with which recipes.

What it takes: a step of `mnist` lasts about 5.5 ms on one core, of `watch` 3.3, of `digits` 0.4. A run of `mnist` with
40 rounds of 10 clients and 20 steps is so about a minute, evaluation and codec included.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from coordinator.bench.cell import Cell, Skew
from coordinator.bench.recipe import Prior, Recipe
from coordinator.tasks.registry import array_task_by_name
from shared.compression.rice import expected_length

DENSITIES = (0.0005, 0.001, 0.002, 0.005, 0.01)
FEW_DENSITIES = DENSITIES[1::2]
FLOAT_CODECS = ("topk", "dgc", "sidco")
TERNARY_CODECS = ("stc", "adacomp", "qsgd")
HEADLINE = "mnist"
HEADLINE_SKEW: Skew = "dirichlet-0.5"

WORK: dict[str, Recipe] = {
    "digits": Recipe("dense", learning_rate=0.02, final_learning_rate=0.002),
    "watch": Recipe("dense", rounds=60, learning_rate=0.05, final_learning_rate=0.0005, clip_norm=1.0, warmup_rounds=2),
    "mnist": Recipe("dense", learning_rate=0.02, final_learning_rate=0.002),
}
"""Tasks whose optimiser is not that of `work_of`."""


def ratio_of(codec: str, density: float) -> float:
    """The ratio at which a codec's frames hold this share of the values, if these lie evenly."""
    size, count = np.array(1e6), np.array(1e6 * density)
    bits = float(expected_length(size, count)) + float(count) * (32 if codec in FLOAT_CODECS else 1)
    return round(32e6 / bits, 1)


def work_of(task: str) -> Recipe:
    """How a task is trained where nothing else is asked: dense, with local momentum and a falling rate."""
    if task in WORK:
        return WORK[task]
    rate = array_task_by_name(task).learning_rate / 5
    return Recipe("dense", learning_rate=rate, final_learning_rate=rate / 10)


def sieved(recipe: Recipe, codec: str, ratio: float, prior: Prior = "none") -> Recipe:
    """The recipe with another codec; clients keep a plain residual wherever the codec leaves one."""
    return replace(recipe, codec=codec, ratio=ratio, prior=prior, memory="residual" if codec == "dgc" else "own")


def quick_cells(seeds: Sequence[int]) -> list[Cell]:
    """`digits` and `watch` alone, two seeds at most."""
    cells = []
    for task, skew in (("digits", HEADLINE_SKEW), ("watch", "natural")):
        work = work_of(task)
        for seed in seeds[:1]:
            for recipe in (work, sieved(work, "stc", 300), sieved(work, "partition", 300, "public")):
                cells.append(Cell(task, skew, replace(recipe, study="tasks"), seed))
    return cells
