"""The task `drill`: made-up grey images for a network of LeNet's kind, to try out a fleet without any data set.

An image travels as a series: its 28 rows are 28 samples of 28 channels, and a recording is one image after the other.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coordinator.tasks.lenet import LeNet
from coordinator.tasks.task import ClientData, Task
from shared.layout import F32
from shared.preprocessing import Preprocessing

SIDE, KINDS = 28, 10
CLIENTS, IMAGES_A_KIND = 4, 40
NOISE = 1.0
SEED = 20_26


class LeNetOfRows(nn.Module):
    """`LeNet` on images that come as float32 `[n, 28, 28]`, without a channel of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = LeNet()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 10]`."""
        logits: torch.Tensor = self.net(x.unsqueeze(1))
        return logits


def kinds() -> F32:
    """One picture of each kind, float32 `[10, 28, 28]`, smooth enough for 5x5 convolutions."""
    coarse = np.random.default_rng(SEED).standard_normal((KINDS, 7, 7))
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2).astype(np.float32)


def clients(count: int = CLIENTS, images_a_kind: int = IMAGES_A_KIND) -> list[ClientData]:
    """Clients with noisy pictures of every kind, one recording a kind; the same ones every time."""
    pictures = kinds()
    made = []
    for number in range(count):
        noise = np.random.default_rng((SEED, number)).standard_normal((KINDS, images_a_kind, SIDE, SIDE))
        images = (pictures[:, None] + NOISE * noise).astype(np.float32)
        series = [rows.reshape(-1, SIDE) for rows in images]
        made.append(ClientData(f"drill-{number}", series, list(range(KINDS))))
    return made


DRILL = Task(
    "drill",
    Preprocessing(channels=SIDE, window=SIDE, stride=SIDE, gap_windows=0, num_classes=KINDS),
    LeNetOfRows,
    functional.cross_entropy,
    clients,
    begins_at_random=True,
)
