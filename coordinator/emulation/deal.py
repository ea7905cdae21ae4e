"""From a job's `[split]` to what each emulated device has."""

from collections.abc import Callable

import numpy as np

from coordinator.job import Split
from coordinator.tasks.examples import Examples
from coordinator.tasks.skew import dirichlet, iid, natural, quantity, shards
from shared.errors import DataError
from shared.layout import I64

SEED_TAG = 0x5B117


def deal(examples: Examples, how: Split, clients: int, seed: int) -> list[I64]:
    """The rows of each of `clients` devices, ascending int64; every example is dealt once, and none goes without.

    Raises `DataError` where there are too few examples or owners.
    """
    random, count, labels = np.random.default_rng((seed, SEED_TAG)), len(examples), examples.y
    kinds: dict[str, Callable[[], list[I64]]] = {
        "iid": lambda: iid(count, clients, random),
        "dirichlet": lambda: dirichlet(labels, clients, how.alpha, random),
        "shards": lambda: shards(labels, clients, how.shards, random),
        "quantity": lambda: quantity(count, clients, how.sigma, random),
        "natural": lambda: natural(_owners(examples), clients, random),
    }
    return kinds[how.kind]()


def _owners(examples: Examples) -> I64:
    if examples.owner is None:
        raise DataError("split by owner, but nobody is known to own these examples: choose another [split] kind")
    return examples.owner
