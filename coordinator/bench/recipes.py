"""The recipes of the benchmark: how each task is trained, and what each rival's paper says."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from coordinator.bench.recipe import Recipe
from coordinator.job import PriorName
from coordinator.tasks.registry import array_task_by_name
from shared.compression.rice import expected_length

DENSITIES = (0.0005, 0.001, 0.002, 0.005)
FEW_DENSITIES = (0.001, 0.005)
QSGD_DENSITIES = (0.001, 0.002, 0.003, 0.005)
"""The strongest rival where rounds are few; its best budget is looked for as finely as ours."""
FLOAT_CODECS = ("topk", "dgc", "sidco")
LOCAL_STEPS = (20, 80)
GAIN = 1.5
"""Of the sieve's magnitudes, as jobs have it by default."""
CHANCE = 1.25
"""Exponent of priority sampling."""
MOST_ROUNDS = 1.5
"""Rounds that our recipe may take against dense's."""
OUR_RATIOS = (1000.0, 4000.0)
SHORTER = 0.75
"""Rounds of the study of codecs, which has most runs, against those of dense."""

WORK: dict[str, Recipe] = {
    "digits": Recipe("dense", learning_rate=0.02, final_learning_rate=0.002),
    "watch": Recipe("dense", rounds=60, learning_rate=0.05, final_learning_rate=0.0005, clip_norm=1.0, warmup_rounds=2),
    "mnist": Recipe("dense", learning_rate=0.02, final_learning_rate=0.002),
    "fashion-mnist": Recipe("dense", learning_rate=0.02, final_learning_rate=0.002),
    "cifar10": Recipe("dense", rounds=20, learning_rate=0.05, final_learning_rate=0.005, clip_norm=5.0),
    "motions": Recipe("dense", rounds=20, steps=5, batch_size=8, learning_rate=0.01, final_learning_rate=0.001),
}
"""Tasks whose optimiser is not that of `work_of`."""

Change = Callable[[Recipe], Recipe]
ABLATIONS: dict[str, Change] = {
    "whole": lambda recipe: recipe,
    "prior public": lambda recipe: replace(recipe, prior="public"),
    "prior public, averages only": lambda recipe: replace(recipe, prior="public", trust="averages"),
    "prior public, network only": lambda recipe: replace(recipe, prior="public", trust="network"),
    "prior public, no columns": lambda recipe: replace(recipe, prior="public", columns=False),
    "prior none": lambda recipe: replace(recipe, prior="none"),
    "prior both": lambda recipe: replace(recipe, prior="both"),
    "no regions": lambda recipe: replace(recipe, codec_options=(("regions", False),)),
    "one magnitude, no regions": lambda recipe: replace(recipe, codec_options=(("levels", 1), ("regions", False))),
    "no gain": lambda recipe: replace(recipe, gain=1.0),
}
"""What each variant changes in the sieve with prior `client`."""


def work_of(task: str) -> Recipe:
    """How a task is trained where nothing else is asked: dense, with local momentum and a falling rate."""
    if task in WORK:
        return WORK[task]
    rate = array_task_by_name(task).learning_rate / 5
    return Recipe("dense", learning_rate=rate, final_learning_rate=rate / 10)


def ratio_of(codec: str, density: float) -> float:
    """The ratio at which a codec's frames hold this share of the values, if these lie evenly."""
    size, count = np.array(1e6), np.array(1e6 * density)
    bits = float(expected_length(size, count)) + float(count) * (32 if codec in FLOAT_CODECS else 1)
    return round(32e6 / bits, 1)


def sieved(recipe: Recipe, codec: str, ratio: float, prior: PriorName = "none") -> Recipe:
    """The recipe with another codec and nothing else: deep gradient compression has a plain residual here too."""
    return replace(
        recipe,
        codec=codec,
        ratio=ratio,
        prior=prior,
        memory="residual" if codec == "dgc" else "own",
        gain=GAIN if codec == "partition" else 1.0,
    )


def by_chance(recipe: Recipe) -> Recipe:
    """The sieve with priority sampling in place of the gain."""
    return replace(recipe, gain=1.0, chance=CHANCE)


def gain_recipes(work: Recipe) -> Iterable[Recipe]:
    """What of the study of codecs is the gain's: the sieve without it, and STC, whose paper has none, with it."""
    work = replace(work, rounds=round(work.rounds * SHORTER))
    for density in FEW_DENSITIES:
        yield replace(sieved(work, "partition", ratio_of("partition", density), "client"), gain=1.0)
        yield replace(sieved(work, "stc", ratio_of("stc", density)), gain=GAIN)


def codec_recipes(work: Recipe) -> Iterable[Recipe]:
    """All codecs that take a budget, under one optimiser, at densities that each codec's own frames can hold."""
    work = replace(work, rounds=round(work.rounds * SHORTER))
    for density in DENSITIES:
        yield sieved(work, "partition", ratio_of("partition", density), "client")
        yield by_chance(sieved(work, "partition", ratio_of("partition", density), "client"))
        yield sieved(work, "stc", ratio_of("stc", density))
    yield from (sieved(work, "partition", ratio_of("partition", density), "public") for density in FEW_DENSITIES)
    for codec in ("topk", "dgc", "sidco", "adacomp"):
        yield from (sieved(work, codec, ratio_of(codec, density)) for density in FEW_DENSITIES)
    yield from (sieved(work, "qsgd", ratio_of("qsgd", density)) for density in QSGD_DENSITIES)


def published_recipes(work: Recipe) -> list[Recipe]:
    """Each rival as its paper has it; rounds and local steps are those of dense.

    Deep gradient compression replaces the local momentum by its own. AdaComp has no budget, TernGrad and float16 heed
    none; QSGD takes 4 bits a value, EDEN 1.
    """
    dgc = replace(
        work,
        codec="dgc",
        ratio=ratio_of("dgc", 0.001),
        momentum=0.0,
        dgc_warmup_rounds=4,
        dgc_clip_norm=1.0,
    )
    return [
        sieved(work, "stc", ratio_of("stc", 1 / 400)),
        dgc,
        sieved(work, "topk", ratio_of("topk", 0.01)),
        sieved(work, "sidco", ratio_of("sidco", 0.001)),
        sieved(work, "adacomp", 1.0),
        sieved(work, "qsgd", 8.0),
        sieved(work, "terngrad", 20.0),
        sieved(work, "eden", 31.0),
        sieved(work, "fp16", 2.0),
    ]


def our_recipes(work: Recipe) -> list[Recipe]:
    """The sieve with all levers, at two budgets; over so many rounds its gain with momentum is better than chance."""
    return [sieved(pushed(work), "partition", ratio, "client") for ratio in OUR_RATIOS]


def lent_recipes(work: Recipe) -> list[Recipe]:
    """STC with every lever of our recipe, to tell the codec from the levers."""
    return [sieved(pushed(work), "stc", OUR_RATIOS[-1])]


def pushed(work: Recipe) -> Recipe:
    """More local steps and rounds, a lower last rate, server momentum, a sieved downlink, and a grown first model."""
    return replace(
        work,
        rounds=round(MOST_ROUNDS * work.rounds),
        steps=4 * work.steps,
        final_learning_rate=work.final_learning_rate / 4,
        server_momentum=0.5,
        downlink_codec="partition",
        downlink_ratio=100.0,
        grown=True,
    )
