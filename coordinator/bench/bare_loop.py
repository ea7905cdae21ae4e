"""The floor of all federated engines: a plain torch loop over the clients of the task `crowd`, in one process.

No messages, no compression, no records; the mean of the clients' weights is the next round's model.
"""

import sys

import numpy as np
import torch
from torch.nn import functional

from coordinator.bench.round_marks import RoundMarks
from coordinator.tasks.crowd import IMAGES, CrowdNet, crowd

BATCH, STEPS, RATE = 32, 2, 0.15


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


def main(clients: str, asked: str, rounds: str) -> None:
    """Rounds of `asked` clients out of `clients`; each client is a row of `IMAGES` examples."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    examples, random = crowd(int(clients)), np.random.default_rng(1)
    x, y = torch.from_numpy(examples.x), torch.from_numpy(examples.y)
    model, marks, loss = CrowdNet(), RoundMarks(), 0.0
    shared = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    marks.ready()
    for _ in range(int(rounds)):
        chosen = random.choice(int(clients), int(asked), replace=False).tolist()
        sums, loss = {name: torch.zeros_like(tensor) for name, tensor in shared.items()}, 0.0
        for client in chosen:
            model.load_state_dict(shared)
            own = slice(client * IMAGES, (client + 1) * IMAGES)
            loss += train(model, x[own], y[own]) / len(chosen)
            for name, tensor in model.state_dict().items():
                sums[name] += tensor
        shared = {name: tensor / len(chosen) for name, tensor in sums.items()}
        marks.mark()
    marks.report(int(asked), loss)


if __name__ == "__main__":
    main(*sys.argv[1:])
