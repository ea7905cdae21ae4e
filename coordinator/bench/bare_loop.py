"""The floor of all federated engines: a plain torch loop over the clients of the task `crowd`.

No messages, no compression, no records; the mean of the clients' weights is the next round's model. It is one process,
or one for each core between which the clients of a round are shared out: cores that are all busy are slower each.
"""

import multiprocessing
import sys
from collections.abc import Sequence
from multiprocessing.queues import SimpleQueue

import numpy as np
import torch
from torch.nn import functional

from coordinator.bench.round_marks import RoundMarks
from coordinator.tasks.crowd import IMAGES, CrowdNet, crowd

BATCH, STEPS, RATE = 32, 2, 0.15
LONGEST_ROUND_SECONDS = 600.0

Weights = dict[str, torch.Tensor]


def train(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Two steps of plain SGD on one client's shuffled examples; returns their mean loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    order, total = torch.randperm(len(y)), 0.0
    for step in range(STEPS):
        chosen = order[step * BATCH : (step + 1) * BATCH]
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x[chosen]), y[chosen])
        torch.autograd.backward(loss)
        optimizer.step()
        total += float(loss.detach())
    return total / STEPS


class Loop:
    """One process's model and examples: it trains the clients it is given, one after another."""

    def __init__(self, clients: int, seed: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        examples = crowd(clients)
        self._x, self._y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
        self.model = CrowdNet()

    def train_all(self, shared: Weights, chosen: Sequence[int]) -> tuple[Weights, float]:
        """The sums of the weights and losses of the `chosen` clients, each of which begins with those `shared`."""
        sums, losses = {name: torch.zeros_like(tensor) for name, tensor in shared.items()}, 0.0
        for client in chosen:
            self.model.load_state_dict(shared)
            own = slice(client * IMAGES, (client + 1) * IMAGES)
            losses += train(self.model, self._x[own], self._y[own])
            for name, tensor in self.model.state_dict().items():
                sums[name] += tensor
        return sums, losses


_loops = list[Loop]()
"""In a process of several: its own."""


def _enter(clients: int, seeds: "SimpleQueue[int]") -> None:
    _loops.append(Loop(clients, seeds.get()))


def _train_share(shared: dict[str, np.ndarray], chosen: Sequence[int]) -> tuple[dict[str, np.ndarray], float]:
    """What `Loop.train_all` gives, as arrays, which travel between processes by value."""
    sums, losses = _loops[0].train_all({name: torch.from_numpy(array) for name, array in shared.items()}, chosen)
    return {name: tensor.numpy() for name, tensor in sums.items()}, losses


class Loops:
    """Several loops at once, each in a process, among which the clients of a round are shared out."""

    def __init__(self, clients: int, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        seeds: SimpleQueue[int] = context.SimpleQueue()
        for seed in range(count):
            seeds.put(seed)
        self._count, self._pool = count, context.Pool(count, _enter, (clients, seeds))

    def train_all(self, shared: Weights, chosen: Sequence[int]) -> tuple[Weights, float]:
        """As `Loop` does."""
        arrays = {name: tensor.numpy() for name, tensor in shared.items()}
        shares = [(arrays, chosen[part :: self._count]) for part in range(self._count)]
        # A process that cannot begin is started again for ever, and the pool never says so.
        parts = self._pool.starmap_async(_train_share, shares).get(LONGEST_ROUND_SECONDS)
        sums = {name: torch.from_numpy(np.sum([part[name] for part, _ in parts], axis=0)) for name in shared}
        return sums, sum(losses for _, losses in parts)


def main(clients: str, asked: str, rounds: str, processes: str = "1") -> None:
    """Rounds of `asked` clients out of `clients`; each client is a row of `IMAGES` examples."""
    marks, loss, random = RoundMarks(), 0.0, np.random.default_rng(1)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    shared: Weights = {name: tensor.clone() for name, tensor in CrowdNet().state_dict().items()}
    loop = Loop(int(clients), 1) if processes == "1" else Loops(int(clients), int(processes))
    marks.ready()
    for _ in range(int(rounds)):
        chosen = random.choice(int(clients), int(asked), replace=False).tolist()
        sums, losses = loop.train_all(shared, chosen)
        shared, loss = {name: tensor / len(chosen) for name, tensor in sums.items()}, losses / len(chosen)
        marks.mark()
    marks.report(int(asked), loss)


if __name__ == "__main__":
    main(*sys.argv[1:])
