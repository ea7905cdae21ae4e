"""The task `crowd`: made-up grey images for a small convolutional network, to time emulated fleets and their rivals.

Every client has 64 images of ten kinds in a mixture of its own, drawn from a Dirichlet distribution.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples

SIDE, KINDS, IMAGES = 28, 10, 64
CLIENTS = 100
CONCENTRATION = 0.5
SEED = 4_077


class CrowdNet(nn.Module):
    """Two 5x5 convolutions of 8 and 16 channels and two linear layers; 22,514 weights.

    Float32 `[n, 1, 28, 28]` to logits `[n, 10]`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(1, 8, 5, padding=2), nn.Conv2d(8, 16, 5, padding=2)
        self.hidden, self.head = nn.Linear(16 * 7 * 7, 24), nn.Linear(24, KINDS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 10]`."""
        x = functional.max_pool2d(functional.relu(self.near(x)), 2)
        x = functional.max_pool2d(functional.relu(self.far(x)), 2)
        logits: torch.Tensor = self.head(functional.relu(self.hidden(x.flatten(1))))
        return logits


def crowd(clients: int = CLIENTS) -> Examples:
    """The images of so many clients, each the owner of its own; the first of a larger crowd are those of a smaller."""
    kinds = np.repeat(np.repeat(np.random.default_rng(SEED).standard_normal((KINDS, 1, 7, 7)), 4, 2), 4, 3)
    x, y = np.empty((clients * IMAGES, 1, SIDE, SIDE), np.float32), np.empty(clients * IMAGES, np.int64)
    for number in range(clients):
        random, own = np.random.default_rng((SEED, number)), slice(number * IMAGES, (number + 1) * IMAGES)
        y[own] = random.choice(KINDS, IMAGES, p=random.dirichlet([CONCENTRATION] * KINDS))
        x[own] = kinds[y[own]] + random.standard_normal((IMAGES, 1, SIDE, SIDE))
    return Examples(x, y, np.repeat(np.arange(clients, dtype=np.int64), IMAGES))


CROWD = ArrayTask("crowd", CrowdNet, lambda: (crowd(), crowd(1)), learning_rate=0.15)
