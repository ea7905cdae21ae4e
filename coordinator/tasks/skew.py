"""How the examples of one data set come to lie on many emulated clients.

Every split gives each example to one client, leaves none without, and returns one ascending int64 index array a client.
"""

import numpy as np

from shared.errors import DataError
from shared.layout import I64


def iid(examples: int, clients: int, random: np.random.Generator) -> list[I64]:
    """Shuffled and dealt out evenly; sizes differ by one at most."""
    _check(examples, clients)
    order = random.permutation(examples).astype(np.int64)
    return [np.sort(part) for part in np.array_split(order, clients)]


def dirichlet(labels: I64, clients: int, alpha: float, random: np.random.Generator) -> list[I64]:
    """Each client has its own mixture of classes, drawn from a Dirichlet distribution; sizes differ by one at most.

    After Hsu, Qi, Brown, *Measuring the effects of non-identical data distribution for federated visual
    classification*, 2019: client by client a class distribution is drawn, and examples by it without replacement; where
    a class is used up, its share falls to the others. `alpha` > 0 is the concentration of a class of average size, as
    later work has it; the paper's own alpha is this times the number of classes. Small alpha: few classes a client.
    """
    _check(len(labels), clients)
    if not alpha > 0:
        raise DataError(f"alpha is {alpha}: it must be above 0")
    kinds, members = np.unique(labels, return_inverse=True)
    pools = [random.permutation(np.flatnonzero(members == kind)).astype(np.int64) for kind in range(len(kinds))]
    left = np.array([len(pool) for pool in pools])
    concentrations = alpha * len(kinds) * left / len(labels)
    sizes = [len(part) for part in np.array_split(labels, clients)]
    parts = []
    for size in sizes:
        taken = _draw(size, random.dirichlet(concentrations), left, random)
        chosen = [pool[rest - count : rest] for pool, rest, count in zip(pools, left, taken, strict=True)]
        parts.append(np.sort(np.concatenate(chosen)))
        left = left - taken
    return parts


def natural(owners: I64, clients: int, random: np.random.Generator) -> list[I64]:
    """Each owner's examples stay together: one owner a client, or shuffled owners dealt out where clients are fewer.

    Clients are in the order of their first owner. Raises `DataError` where clients are more than owners.
    """
    names = np.unique(owners)
    if not 0 < clients <= len(names):
        raise DataError(f"{clients} clients from {len(names)} owners: ask for 1 to {len(names)}")
    shuffled = random.permutation(names) if clients < len(names) else names
    groups = sorted((np.sort(shuffled[first::clients]) for first in range(clients)), key=lambda group: int(group[0]))
    return [np.flatnonzero(np.isin(owners, group)).astype(np.int64) for group in groups]


def shards(labels: I64, clients: int, shards_a_client: int, random: np.random.Generator) -> list[I64]:
    """Examples sorted by label and cut into equal runs, of which each client gets so many: few classes each.

    After McMahan et al., *Communication-efficient learning of deep networks from decentralized data*, 2017.
    """
    _check(len(labels), clients * shards_a_client)
    runs = np.array_split(np.argsort(labels, kind="stable").astype(np.int64), clients * shards_a_client)
    dealt = random.permutation(len(runs)).reshape(clients, shards_a_client)
    return [np.sort(np.concatenate([runs[run] for run in own])) for own in dealt]


def quantity(examples: int, clients: int, sigma: float, random: np.random.Generator) -> list[I64]:
    """Alike in kind but not in number: amounts are log-normal, with this spread of their logarithm, one at least.

    After Li et al., *Federated learning on non-IID data silos*, 2022, where they are drawn from another distribution.
    """
    _check(examples, clients)
    if not sigma > 0:
        raise DataError(f"sigma is {sigma}: it must be above 0")
    shares = random.lognormal(0.0, sigma, clients)
    cuts = np.floor(np.cumsum(shares) / shares.sum() * (examples - clients)).astype(np.int64)
    cuts[-1] = examples - clients
    order = random.permutation(examples).astype(np.int64)
    return [np.sort(part) for part in np.split(order, (cuts + np.arange(1, clients + 1))[:-1])]


def _draw(size: int, shares: np.ndarray, left: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """How many of each class, `size` in all and never more than are left, are drawn by `shares`."""
    taken = np.zeros_like(left)
    while (missing := size - int(taken.sum())) > 0:
        room = left - taken
        open_shares = np.where(room > 0, shares, 0)
        if open_shares.sum() <= 0:  # the classes this client is made of are used up
            open_shares = room.astype(np.float64)
        taken += np.minimum(random.multinomial(missing, open_shares / open_shares.sum()), room)
    return taken


def _check(examples: int, clients: int) -> None:
    if not 0 < clients <= examples:
        raise DataError(f"{clients} clients from {examples} examples: ask for 1 to {examples}")
