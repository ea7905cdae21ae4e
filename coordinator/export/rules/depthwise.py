"""Depthwise convolution of stride 1 over all examples at once, laid end to end.

onnxruntime computes a depthwise convolution example by example and channel by channel, each time with its own small
patch matrix. Here the examples of a batch become one long strip per channel, with zeros between them for the padding:
fewer and longer rows, which take about a third of the time.
"""

from functools import cached_property

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand
from coordinator.export.rules.swapped import SWAP, is_swapped, swapped
from coordinator.export.rules.window import Window

TO_THE_END = 1 << 62


class DepthwiseConvolution:
    """One convolution: `x [B, C, height, width]` by `weight [C, 1, kernel]`, to the same shape as `x`.

    The longer side of an example runs along the strip, the shorter one across.
    """

    def __init__(self, g: Graph, x: Operand, weight: Operand, window: Window) -> None:
        self.g, self.x, self.weight = g, x, weight
        self.channels = weight.fixed_size(0)
        height, width = x.fixed(2, 3)
        self.is_upright = height > width
        order = slice(None, None, -1 if self.is_upright else 1)
        self.across, self.along = [height, width][order]
        self.kernel, self.padding = window.kernel[order], window.padding[order]
        self.pitch, self.lanes = self.along + self.padding[1], self.channels * self.across

    @staticmethod
    def fits(x: Operand, weight: Operand, window: Window) -> bool:
        """Whether this way of computing covers the window."""
        same = all(2 * padding == kernel - 1 for padding, kernel in zip(window.padding, window.kernel, strict=True))
        plain = {*window.stride, *window.dilation} == {1}
        return x.rank == 4 and window.groups == weight.fixed_size(0) == x.fixed_size(1) and plain and same

    def forward(self, bias: Operand | None) -> str:
        """The convolution, of the shape of `x`."""
        return self._examples(self._convolved(self._strip(self.x), self._taps, bias))

    def input_gradient(self, grad: Operand) -> str:
        """The gradient of `x`: the convolution of the result's by the kernel turned around."""
        back, ends = self.g.ints([-1, -1]), self.g.ints([-1 << 31] * 2)
        turned = self.g.op("Slice", self._taps, back, ends, self.g.ints([2, 3]), back)
        return self._examples(self._convolved(self._strip(grad), turned, None))

    def weight_gradient(self, grad: Operand) -> str:
        """The gradient of the weight: all rows of the result's times all rows of `x`, of which some meet at a tap."""
        g, (wide, long), ends = self.g, self.kernel, [0, 0, *self.padding]
        rows, columns = self.across, self.across + 2 * self.padding[0]
        strip = g.reshape(g.pad(self._strip(self.x), ends, ends), [self.channels, columns, -1])
        of_result = g.reshape(self._strip(grad), [self.channels, rows, -1])
        products = []
        for start in range(long):
            shifted = g.slice(strip, 2, start, start - long + 1 or TO_THE_END)
            product = g.op("MatMul", of_result, g.transpose(shifted, [0, 2, 1]))
            products.append(g.reshape(product, [self.channels, 1, rows * columns]))
        meeting = [row * columns + row + tap for tap in range(wide) for row in range(rows)]
        taps = g.op("Gather", g.concat(products, 1), g.ints(meeting), axis=2)
        sums = g.reshape(g.sum(g.reshape(taps, [self.channels, long, wide, rows]), [3]), [self.channels, 1, long, wide])
        return sums if self.is_upright else g.transpose(sums, SWAP)

    def bias_gradient(self, grad: Operand) -> str:
        """The gradient of the bias."""
        return self.g.sum(swapped(self.g, grad) if is_swapped(self.g, grad) else grad, [0, 2, 3])

    @cached_property
    def _taps(self) -> str:
        """The weight, its longer side last."""
        return self.g.transpose(self.weight, SWAP) if self.is_upright else self.weight.name

    def _strip(self, value: Operand) -> str:
        """All examples end to end: `[1, C, across, B * pitch]`."""
        g = self.g
        laid = g.reshape(g.transpose(value, SWAP) if self.is_upright else value, [0, self.lanes, self.along])
        spaced = g.pad(laid, [0, 0, 0], [0, 0, self.padding[1]])
        return g.reshape(g.transpose(spaced, [1, 0, 2]), [1, self.channels, self.across, -1])

    def _examples(self, strip: str) -> str:
        """A strip cut into examples again: `[B, C, height, width]`."""
        g = self.g
        laid = g.transpose(g.reshape(strip, [self.lanes, -1, self.pitch]), [1, 0, 2])
        cut = g.reshape(g.slice(laid, 2, 0, self.along), [0, self.channels, self.across, self.along])
        return g.transpose(cut, SWAP) if self.is_upright else cut

    def _convolved(self, strip: str, taps: str, bias: Operand | None) -> str:
        biases = [] if bias is None else [bias]
        return self.g.op(
            "Conv", strip, taps, *biases, kernel_shape=self.kernel, pads=self.padding * 2, group=self.channels
        )
