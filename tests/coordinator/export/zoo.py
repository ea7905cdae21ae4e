"""Small models of every family that devices train, each with the shape of one input.

All activations are smooth: a rectified unit that rounding moves across zero changes the gradient by its whole share,
in float32 and float64 alike, and would hide a wrong rule behind a wide tolerance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 5
TOKENS = 30
STEPS = 32

Layer = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Family:
    """A model factory and the shape of one input, of tokens where `tokens` says so."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: bool = False

    def inputs(self, size: int) -> Tensor:
        """A batch of so many random inputs."""
        if self.tokens:
            return torch.randint(0, TOKENS, (size, *self.shape))
        return torch.randn(size, *self.shape)


def groups_of_four(channels: int) -> nn.Module:
    return nn.GroupNorm(channels // 4, channels)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 12), nn.SiLU(), nn.Linear(12, CLASSES))


def lenet(activation: Callable[[], nn.Module] = nn.SiLU) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), activation(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), activation(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 84), nn.GELU(), nn.Linear(84, CLASSES),
    )  # fmt: skip


class Block(nn.Module):
    """Two 3x3 convolutions beside a way past them, as in He et al., 2015, but with a smooth activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Layer) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = norm(outputs)
        same = inputs == outputs and stride == 1
        self.past = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second_norm(self.second(functional.silu(self.first_norm(self.first(x)))))
        return functional.silu(inner + self.past(x))


def resnet(blocks: int, norm: Layer) -> nn.Module:
    """Three stages of so many blocks: 1 gives a ResNet-8, 3 a ResNet-20."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1, bias=False), norm(8), nn.SiLU()]
    for inputs, outputs in ((8, 8), (8, 12), (12, 16)):
        stride = 1 if inputs == outputs else 2
        layers.append(Block(inputs, outputs, stride, norm))
        layers.extend(Block(outputs, outputs, 1, norm) for _ in range(blocks - 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))


def sensor_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 12, 5, stride=2, padding=2), nn.GELU(), nn.MaxPool1d(2),
        nn.Conv1d(12, 16, 5, stride=2), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


class Recurrent(nn.Module):
    """A recurrent layer over 32 steps of 6 values, read at the last one."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.cells = kind(6, 8, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.cells(x)[0][:, -1]))


def separable(inputs: int, outputs: int, norm: Layer, activation: Callable[[], nn.Module], stride: int) -> nn.Module:
    """A convolution of each channel by itself, then one over channels: Howard et al., *MobileNets*, 2017."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False), norm(inputs), activation(),
        nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs), activation(),
    )  # fmt: skip


def keyword_net(norm: Layer) -> nn.Module:
    """A DS-CNN on 10 of 49 frames' coefficients: Zhang et al., *Hello Edge*, 2017."""
    return nn.Sequential(
        nn.Conv2d(1, 8, (10, 4), stride=2, padding=(5, 1), bias=False), norm(8), nn.SiLU(),
        separable(8, 8, norm, nn.SiLU, 1), separable(8, 12, norm, nn.SiLU, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, CLASSES),
    )  # fmt: skip


def mobile_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, padding=1), nn.Hardswish(),
        separable(8, 12, groups_of_four, nn.Hardswish, 1), nn.AvgPool2d(2),
        separable(12, 16, groups_of_four, nn.Hardswish, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, CLASSES),
    )  # fmt: skip


class TextNet(nn.Module):
    """Words by their embeddings, normalised and averaged: int64 `[n, 12]` to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(TOKENS, 16)
        self.norm = nn.LayerNorm(16)
        self.hidden = nn.Linear(16, 24)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.gelu(self.hidden(self.norm(self.words(x)).mean(1)))
        return torch.as_tensor(self.head(hidden))


class Attention(nn.Module):
    """One encoder layer of two heads, written out, over 10 steps of 6 values."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Linear(6, 16)
        self.parts = nn.Linear(16, 48)
        self.joined = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.near(x)
        split = self.parts(x).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        mixed = (query @ key.transpose(2, 3) / 8**0.5).softmax(-1) @ value
        x = self.norm(x + self.joined(mixed.transpose(1, 2).flatten(2)))
        return torch.as_tensor(self.head(functional.gelu(x).mean(1)))


FAMILIES: dict[str, Family] = {
    "mlp": Family(mlp, (20,)),
    "lenet": Family(lenet, (1, 28, 28)),
    "resnet-8 group norm": Family(lambda: resnet(1, groups_of_four), (3, 16, 16)),
    "resnet-8 batch norm": Family(lambda: resnet(1, nn.BatchNorm2d), (3, 16, 16)),
    "resnet-20 group norm": Family(lambda: resnet(3, groups_of_four), (3, 16, 16)),
    "1-d cnn": Family(sensor_net, (6, 64)),
    "gru": Family(lambda: Recurrent(nn.GRU), (STEPS, 6)),
    "lstm": Family(lambda: Recurrent(nn.LSTM), (STEPS, 6)),
    "ds-cnn group norm": Family(lambda: keyword_net(groups_of_four), (1, 49, 10)),
    "ds-cnn batch norm": Family(lambda: keyword_net(nn.BatchNorm2d), (1, 49, 10)),
    "mobilenet": Family(mobile_net, (3, 16, 16)),
    "text": Family(TextNet, (12,), tokens=True),
    "attention": Family(Attention, (10, 6)),
}
