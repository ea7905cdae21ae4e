"""What federated learning is measured against: all data in one place, and each client on its own."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from coordinator.tasks.task import Task
from shared.preprocessing import Split, cut

BATCH = 32
LEARNING_RATE = 0.05
MOMENTUM = 0.9


def pooled_accuracy(task: Task, steps: int, seed: int) -> float:
    """Accuracy of one model trained for `steps` on all clients' windows together: what no one may do with real data."""
    splits = _splits(task)
    with _one_thread():
        x = torch.from_numpy(np.concatenate([split.train_x for split in splits]))
        y = torch.from_numpy(np.concatenate([split.train_y for split in splits]))
        return accuracy(_trained(task, x, y, steps, seed), splits)


def alone_accuracies(task: Task, steps: int, seed: int) -> Iterator[float]:
    """Client by client, the accuracy of a model trained for `steps` on its windows only, tested on everybody's."""
    splits = _splits(task)
    for number, split in enumerate(splits):
        with _one_thread():
            x, y = torch.from_numpy(split.train_x), torch.from_numpy(split.train_y)
            score = accuracy(_trained(task, x, y, steps, seed + number), splits)
        yield score


def accuracy(model: torch.nn.Module, splits: list[Split]) -> float:
    """The mean over clients of the share of right answers on that client's test windows."""
    model.eval()
    with torch.inference_mode():
        shares = [
            (model(torch.from_numpy(split.test_x)).argmax(1) == torch.from_numpy(split.test_y)).float().mean()
            for split in splits
            if len(split.test_y)
        ]
    return float(torch.stack(shares).mean())


def _splits(task: Task) -> list[Split]:
    return [cut(client.series, client.labels, task.preprocessing) for client in task.clients()]


def _trained(task: Task, x: torch.Tensor, y: torch.Tensor, steps: int, seed: int) -> torch.nn.Module:
    """SGD with momentum, the rate falling to zero along a cosine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, MOMENTUM)
    batches = _batches(len(y), torch.Generator().manual_seed(seed))
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2
        chosen = next(batches)
        optimizer.zero_grad()
        torch.autograd.backward(task.loss(model(x[chosen]), y[chosen]))
        optimizer.step()
    return model


def _batches(examples: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Index batches without end, every example once in each shuffled pass but for an incomplete last batch."""
    while True:
        order = torch.randperm(examples, generator=generator)
        yield from (order[start : start + BATCH] for start in range(0, max(examples - BATCH, 0) + 1, BATCH))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small models gain nothing from more threads, and the cores may be busy with clients."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
