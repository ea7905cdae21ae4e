"""A network of LeNet's kind for small grey images."""

import torch
from torch import nn
from torch.nn import functional

from coordinator.tasks.convolution import ChannelsLastConv2d
from coordinator.tasks.he_start import start_at_full_scale


class LeNet(nn.Module):
    """Two 5x5 convolutions, each halved by its largest, and two linear layers; 220,874 weights.

    Float32 `[n, 1, 28, 28]` to logits `[n, 10]`, by 16 x 12 x 12 and 32 x 5 x 5 = 800 values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.near = ChannelsLastConv2d(1, 16, 5)
        self.far = ChannelsLastConv2d(16, 32, 5, padding=1)
        self.hidden = nn.Linear(800, 256)
        self.head = nn.Linear(256, 10)
        start_at_full_scale(self, self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 10]`."""
        # The largest first and the rectifier then: the same values for a quarter of the work.
        x = functional.relu(functional.max_pool2d(self.near(x), 2))
        x = functional.relu(functional.max_pool2d(self.far(x), 2))
        logits: torch.Tensor = self.head(functional.relu(self.hidden(x.flatten(1))))
        return logits
