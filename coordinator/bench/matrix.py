"""Which cells the benchmark of compression runs, study by study, and how long they take.

- `dense`: federated averaging of whole updates with several numbers of local steps; what all targets come from
- `codec`: all codecs under one optimiser and schedule, each at several budgets
- `published`: rivals as their papers have them
- `ours`: our recipe with all levers; `lent`: the same levers lent to STC
- `gain`: the sieve without its gain, and STC with it
- `tasks`: the sieve and STC beside dense, same rounds and steps, over tasks, skews and participation
- `ablation`: the sieve without one of its parts
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from coordinator.bench.cell import Cell, Skew
from coordinator.bench.recipe import Recipe
from coordinator.bench.recipes import (
    ABLATIONS,
    LOCAL_STEPS,
    codec_recipes,
    gain_recipes,
    lent_recipes,
    our_recipes,
    published_recipes,
    sieved,
    work_of,
)
from coordinator.job import PriorName

STEP_MILLISECONDS = {
    "digits": 0.5,
    "watch": 3.3,
    "mnist": 5.6,
    "fashion-mnist": 5.6,
    "cifar10": 40.0,
    "motions": 2.0,
    "spoken-digits": 9.6,
}
"""Of one processor core, without contention; a batch of the task's own recipe."""
EVALUATION_SECONDS = {"mnist": 0.6, "fashion-mnist": 0.6, "cifar10": 5.7}
UPDATE_MILLISECONDS = 8.0
"""Encoding, decoding and judging an update, more or less."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The task and skew that the studies of codecs and recipes are made on."""

    task: str
    skew: Skew


FULL, QUICK = Headline("mnist", "dirichlet-0.5"), Headline("digits", "dirichlet-0.5")
MAIN_SKEWS: dict[str, Skew] = {"watch": "natural", "spoken-digits": "natural"}
"""Natural where examples have owners, Dirichlet 0.5 elsewhere."""
CLIENTS = {"spoken-digits": 6, "motions": 5}
"""Ten in all other tasks."""
CROWD = 100
PRIORS: tuple[PriorName, ...] = ("client", "public", "both", "none")
SLOW_MILLISECONDS = 5.0
"""Where a step takes longer, STC is left to the other studies."""


def full_cells(seeds: Sequence[int]) -> list[Cell]:
    """Everything that the claims need, the most important first: a hundred minutes on two idle cores."""
    first = seeds[:1]
    cells = [*headline_cells(FULL, work_of(FULL.task), seeds)]
    cells += [*task_cells(FULL.task, work_of(FULL.task), (300, 1000), seeds)]
    for task, ratios, of_seeds in (
        ("digits", (100, 300, 1000), seeds),
        ("watch", (100, 200, 300), seeds[:2]),
        ("motions", (100, 200, 300, 1000), seeds),
        ("fashion-mnist", (100, 300), first),
        ("spoken-digits", (100, 200, 300), first),
        ("cifar10", (150,), first),
    ):
        cells += task_cells(task, work_of(task), ratios, of_seeds)
    cells += ablation_cells("digits", work_of("digits"), seeds)
    cells += spread_cells("digits", ("iid", "dirichlet-0.1"), first)
    cells += spread_cells("watch", ("dirichlet-0.1",), first)
    cells += crowd_cells("digits", seeds)
    return _distinct(cells)


def quick_cells(seeds: Sequence[int]) -> list[Cell]:
    """The same studies with one seed and fewer rounds on `digits`, and a look at `watch`: under three minutes."""
    first = seeds[:1]
    work = replace(work_of(QUICK.task), rounds=24)
    cells = [*headline_cells(QUICK, work, first), *task_cells(QUICK.task, work, (100, 300), first)]
    cells += ablation_cells(QUICK.task, work, first)
    watch = replace(work_of("watch"), rounds=24)
    looks = (watch, sieved(watch, "stc", 300), sieved(watch, "partition", 300, "client"))
    return _distinct([*cells, *_cells("watch", looks, "tasks", first)])


def headline_cells(headline: Headline, work: Recipe, seeds: Sequence[int]) -> Iterable[Cell]:
    """The studies `dense`, `codec`, `published`, `ours`, `gain` and `lent`."""
    dense = [replace(work, steps=steps) for steps in LOCAL_STEPS]
    for study, recipes in (
        ("dense", dense),
        ("codec", codec_recipes(work)),
        ("ours", our_recipes(work)),
        ("published", published_recipes(work)),
        ("gain", gain_recipes(work)),
        ("lent", lent_recipes(work)),
    ):
        yield from _cells(headline.task, recipes, study, seeds)


def task_cells(task: str, work: Recipe, ratios: Sequence[float], seeds: Sequence[int]) -> Iterable[Cell]:
    """The sieve and STC beside dense: same rounds and steps, both with server momentum, dense without it too."""
    pushed = replace(work, server_momentum=0.5)
    recipes = [work, *(sieved(pushed, "partition", ratio, "client") for ratio in ratios)]
    recipes.append(pushed)
    if STEP_MILLISECONDS[task] < SLOW_MILLISECONDS:
        recipes.append(sieved(pushed, "stc", 300))
    yield from _cells(task, recipes, "tasks", seeds)


def spread_cells(task: str, skews: Sequence[Skew], seeds: Sequence[int]) -> Iterable[Cell]:
    """Other skews, and a fifth of the clients a round."""
    work = work_of(task)
    recipes = [work, sieved(work, "stc", 300), *(sieved(work, "partition", ratio, "client") for ratio in (100, 300))]
    for cell in _cells(task, recipes, "tasks", seeds):
        yield from (replace(cell, skew=skew) for skew in skews)
        yield replace(cell, participation=0.2)


def crowd_cells(task: str, seeds: Sequence[int]) -> Iterable[Cell]:
    """Many clients of which a tenth takes part in a round: each is seldom heard, and its history is short."""
    work = work_of(task)
    recipes = [work, sieved(work, "stc", 300), *(sieved(work, "partition", 300, prior) for prior in PRIORS)]
    for cell in _cells(task, recipes, "tasks", seeds):
        yield replace(cell, clients=CROWD, participation=0.1)


def ablation_cells(task: str, work: Recipe, seeds: Sequence[int]) -> Iterable[Cell]:
    """The sieve at one budget, whole and without one part."""
    whole = sieved(work, "partition", 300, "client")
    yield from _cells(
        task, [change(replace(whole, variant=name)) for name, change in ABLATIONS.items()], "ablation", seeds
    )


def core_seconds(cell: Cell) -> float:
    """About how long a cell takes on one core."""
    recipe = cell.recipe
    updates = recipe.rounds * max(1, round(cell.clients * cell.participation))
    training = updates * (recipe.steps * STEP_MILLISECONDS.get(cell.task, 10.0) + UPDATE_MILLISECONDS) / 1000
    return training + recipe.rounds / 2 * EVALUATION_SECONDS.get(cell.task, 0.05)


def _cells(task: str, recipes: Iterable[Recipe], study: str, seeds: Sequence[int]) -> Iterable[Cell]:
    skew, clients = MAIN_SKEWS.get(task, "dirichlet-0.5"), CLIENTS.get(task, 10)
    return (Cell(task, skew, replace(recipe, study=study), seed, clients) for recipe in recipes for seed in seeds)


def _distinct(cells: Iterable[Cell]) -> list[Cell]:
    return list(dict.fromkeys(cells))
