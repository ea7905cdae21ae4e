"""Small models of the kinds that boards train, as the runtime benchmark times them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from coordinator.tasks.convolution import ChannelsLastConv2d
from coordinator.tasks.lenet import LeNet
from coordinator.tasks.resnet import ResNet8
from coordinator.tasks.watch import WatchNet

SEQUENCE_STEPS, SEQUENCE_VALUES, SEQUENCE_STATE = 32, 6, 32
SEPARABLE_CHANNELS = 64
SEPARABLE_BLOCKS = 4
CHANNELS_PER_GROUP = 8


@dataclass(frozen=True)
class Family:
    """A model factory, the shape of one input, and the number of classes."""

    make: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    classes: int
    is_small: bool
    """Whether step time is to stay below torch's; a large one may take up to 1.6 times as long."""


class Mlp(nn.Module):
    """784-128-64-10, 109,386 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 10]`."""
        return torch.as_tensor(self.layers(x))


class DsCnn(nn.Module):
    """The small keyword net of Zhang et al., *Hello Edge*, 2017, with groups normalised: 49 frames of 10 values."""

    def __init__(self) -> None:
        super().__init__()
        channels = SEPARABLE_CHANNELS
        first = [ChannelsLastConv2d(1, channels, (10, 4), 2, padding=(5, 1), bias=False), _norm(channels), nn.ReLU()]
        blocks = [_separable(channels) for _ in range(SEPARABLE_BLOCKS)]
        self.features = nn.Sequential(*first, *blocks)
        self.head = nn.Linear(channels, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 12]` of float32 `[n, 1, 49, 10]`."""
        return torch.as_tensor(self.head(self.features(x).mean((2, 3))))


def _separable(channels: int) -> nn.Module:
    """A convolution of each channel by itself, then one over channels."""
    return nn.Sequential(
        ChannelsLastConv2d(channels, channels, 3, padding=1, groups=channels, bias=False), _norm(channels), nn.ReLU(),
        ChannelsLastConv2d(channels, channels, 1, bias=False), _norm(channels), nn.ReLU(),
    )  # fmt: skip


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)


class Recurrent(nn.Module):
    """One recurrent layer over 32 steps of 6 values, read at the last one."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.cells = kind(SEQUENCE_VALUES, SEQUENCE_STATE, batch_first=True)
        self.head = nn.Linear(SEQUENCE_STATE, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 6]` of float32 `[n, 32, 6]`."""
        return torch.as_tensor(self.head(self.cells(x)[0][:, -1]))


SEQUENCE = (SEQUENCE_STEPS, SEQUENCE_VALUES)
FAMILIES = {
    "mlp": Family(Mlp, (784,), 10, is_small=True),
    "lenet": Family(LeNet, (1, 28, 28), 10, is_small=True),
    "1d-cnn": Family(WatchNet, (6, 100), 7, is_small=True),
    "resnet-8": Family(ResNet8, (3, 32, 32), 10, is_small=False),
    "ds-cnn": Family(DsCnn, (1, 49, 10), 12, is_small=False),
    "lstm": Family(lambda: Recurrent(nn.LSTM), SEQUENCE, 6, is_small=False),
    "gru": Family(lambda: Recurrent(nn.GRU), SEQUENCE, 6, is_small=False),
}


def plain_convolutions(model: nn.Module) -> nn.Module:
    """The same model with torch's own convolutions, which keep the memory format they are given."""
    for module in model.modules():
        if isinstance(module, ChannelsLastConv2d):
            module.forward = lambda x, own=module: nn.Conv2d.forward(own, x)  # type: ignore[method-assign,misc]
    return model


def loss_of(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy of float32 `[n, classes]` and int64 `[n]`."""
    return functional.cross_entropy(logits, y)
