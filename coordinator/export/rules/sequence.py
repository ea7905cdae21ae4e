"""Convolution over time as one matrix product per pass, channels last.

The stride is folded into the channels first: rows of `stride` time steps make it a convolution of stride 1 over wider
rows, whose windows are a few contiguous slices. A training step of a small network on sensor windows takes about two
thirds of what it takes with ONNX Conv, whose small products per example use the processor less well.
"""

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand
from coordinator.export.rules.window import Window

CHANNELS_LAST = [0, 2, 1]


class SequenceConvolution:
    """One convolution: `x [B, in, steps]` by `weight [out, in, kernel]` to `[B, out, positions]`."""

    def __init__(self, g: Graph, x: Operand, weight: Operand, window: Window) -> None:
        self.g, self.x, self.weight = g, x, weight
        self.filters, self.channels, self.kernel = weight.fixed()
        (self.stride,), (self.padding,), (self.dilation,) = window.stride, window.padding, window.dilation
        self.steps = x.fixed_size(2)
        padded = self.steps + 2 * self.padding
        self.positions = (padded - self.dilation * (self.kernel - 1) - 1) // self.stride + 1
        self.rows = -(-padded // self.stride)

    @staticmethod
    def fits(window: Window) -> bool:
        """Whether this way of computing covers the window."""
        return window.rank == 1 and window.groups == 1 and 1 in (*window.stride, *window.dilation)

    def forward(self, bias: Operand | None) -> str:
        """The convolution, `[B, out, positions]`."""
        product = self.g.op("Gemm", self._columns(), self._matrix(), bias, transB=1)
        return self.g.transpose(self.g.reshape(product, [-1, self.positions, self.filters]), CHANNELS_LAST)

    def weight_gradient(self, grad: Operand) -> str:
        """The gradient of the weight, from that of the result `[B, out, positions]`."""
        product = self.g.op("Gemm", self._flat(grad), self._columns(), transA=1)
        return self.g.transpose(self.g.reshape(product, [self.filters, self.kernel, self.channels]), CHANNELS_LAST)

    def bias_gradient(self, grad: Operand) -> str:
        """The gradient of the bias."""
        return self.g.sum(self._flat(grad), [0])

    def input_gradient(self, grad: Operand) -> str:
        """The gradient of `x`: each tap's share, moved to the rows it was read from."""
        g, width = self.g, self.stride * self.channels
        product = g.op("Gemm", self._flat(grad), self._matrix())
        shares = g.reshape(product, [-1, self.positions, self.kernel * self.channels])
        moved = []
        for first, start, stop in self._taps():
            share = g.slice(shares, 2, start, stop)
            after = self.rows - self.positions - first
            moved.append(g.pad(share, [0, first, 0], [0, after, width - (stop - start)]))
        total = moved[0]
        for share in moved[1:]:
            total = g.op("Add", total, share)
        steps = g.reshape(total, [-1, self.rows * self.stride, self.channels])
        if self.rows * self.stride != self.steps:
            steps = g.slice(steps, 1, self.padding, self.padding + self.steps)
        return g.transpose(steps, CHANNELS_LAST)

    def _taps(self) -> list[tuple[int, int, int]]:
        """For each row of a window: its distance from the first, and its range of columns."""
        width, columns = self.stride * self.channels, self.kernel * self.channels
        starts = range(0, columns, width)
        return [(tap * self.dilation, start, min(start + width, columns)) for tap, start in enumerate(starts)]

    def _columns(self) -> str:
        """Every window as a row: `[B * positions, kernel * in]`."""
        g, width = self.g, self.stride * self.channels
        behind = self.rows * self.stride - self.steps - self.padding
        steps = g.pad(g.transpose(self.x, CHANNELS_LAST), [0, self.padding, 0], [0, behind, 0])
        rows = g.reshape(steps, [-1, self.rows, width]) if self.stride > 1 else steps
        taps = []
        for first, start, stop in self._taps():
            tap = g.slice(rows, 1, first, first + self.positions)
            taps.append(tap if stop - start == width else g.slice(tap, 2, 0, stop - start))
        return g.reshape(g.concat(taps, 2), [-1, self.kernel * self.channels])

    def _matrix(self) -> str:
        """The weight as `[out, kernel * in]`."""
        return self.g.reshape(self.g.transpose(self.weight, CHANNELS_LAST), [self.filters, -1])

    def _flat(self, grad: Operand) -> str:
        """The gradient of the result as `[B * positions, out]`."""
        return self.g.reshape(self.g.transpose(grad, CHANNELS_LAST), [-1, self.filters])
