"""The smallest residual network in use, for colour images."""

import torch
from torch import nn
from torch.nn import functional

from coordinator.tasks.convolution import ChannelsLastConv2d
from coordinator.tasks.he_start import start_at_full_scale

CHANNELS_PER_GROUP = 8


class ResNet8(nn.Module):
    """One convolution, three residual blocks, a mean over the image, a linear layer; 77,850 weights.

    Float32 `[n, 3, 32, 32]` to logits `[n, 10]`. After He et al., *Deep residual learning for image recognition*, 2015,
    with groups normalised (Wu, He, *Group normalization*, 2018) instead of batches, whose statistics differ too much
    between clients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.near = ChannelsLastConv2d(3, 16, 3, padding=1, bias=False)
        self.norm = _norm(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, 10)
        start_at_full_scale(self, self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 10]`."""
        x = self.blocks(functional.relu(self.norm(self.near(x))))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


class Block(nn.Module):
    """Two 3x3 convolutions beside a way past them, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = ChannelsLastConv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.first_norm = _norm(channels_out)
        self.second = ChannelsLastConv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.second_norm = _norm(channels_out)
        same = channels_in == channels_out and stride == 1
        self.past = nn.Identity() if same else ChannelsLastConv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32 `[n, channels_out, height / stride, width / stride]`."""
        inner = self.second_norm(self.second(functional.relu(self.first_norm(self.first(x)))))
        return functional.relu(inner + self.past(x))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)
