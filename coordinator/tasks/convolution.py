"""A 2-D convolution in the memory format that one processor core computes it quickest in."""

import torch
from torch import nn
from torch.nn import functional


class ChannelsLastConv2d(nn.Conv2d):
    """`nn.Conv2d` with zero padding, whose result has its channels last in memory; the values are the same.

    The weights themselves stay in rows: flat views of them, and all that is stored, are as of `nn.Conv2d`.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float32 `[n, channels, height, width]` from float32 `[n, channels, height, width]`."""
        # A clone, since a weight of one input channel counts as being in this format already, and torch then asks x.
        weight = self.weight.clone(memory_format=torch.channels_last)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
