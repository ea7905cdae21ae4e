"""Convolution over images as matrix products of strips, channels last.

A strip is what `width` neighbouring results of one row are made from: a window that much wider. All strips of a batch
are the rows of one matrix, gathered once, and their product with the kernel, which is laid into a matrix once for each
place in the strip, is the convolution; the same matrix against the gradient is the kernel's gradient. onnxruntime's own
`Conv` makes a small product for every example. Wider strips overlap less, so fewer values are copied, and fill a
processor's vectors where there are few filters; the zeros beside the kernel cost some multiplications.
"""

from functools import cached_property

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand
from coordinator.export.rules.window import Window

CHANNELS_LAST, CHANNELS_SECOND = [0, 2, 3, 1], [0, 3, 1, 2]

WIDTHS = (1, 2, 4, 8)
COPY_COLUMNS = 60
"""Copying a value into a strip takes as long as multiplying it with so many columns of a matrix."""
VECTOR_COLUMNS = 32
"""Fewer columns than a processor's vectors hold take as long as these."""
MOST_STRIP_BYTES = 1 << 17
"""Of one example; what the forward pass keeps for the kernel's gradient."""


class StripConvolution:
    """One convolution: `x [B, in, height, width]` by `weight [out, in, *kernel]` to `[B, out, rows, columns]`."""

    def __init__(self, g: Graph, x: Operand, weight: Operand, window: Window) -> None:
        self.g, self.x, self.weight, self.window = g, x, weight, window
        self.filters, self.channels, self.kernel_rows, self.kernel_columns = weight.fixed()
        padded = [size + 2 * padding for size, padding in zip(x.fixed(2, 3), window.padding, strict=True)]
        spans = zip(padded, window.kernel, window.stride, strict=True)
        self.rows, self.columns = ((size - kernel) // stride + 1 for size, kernel, stride in spans)
        self.width = min(WIDTHS, key=self._cost)

    @staticmethod
    def fits(x: Operand, window: Window) -> bool:
        """Whether this way of computing covers the window."""
        is_spread = any(size > 1 for size in window.kernel)
        return window.rank == 2 and window.groups == 1 and set(window.dilation) == {1} and is_spread and None not in x.shape[1:]

    @property
    def is_kept(self) -> bool:
        """Whether the strips are small enough to be kept from the forward pass to the backward one."""
        return 4 * self.rows * self._strips(self.width) * self._values(self.width) <= MOST_STRIP_BYTES

    def forward(self, bias: Operand | None) -> str:
        """The convolution, `[B, out, rows, columns]`."""
        g, wide = self.g, self._strips(self.width) * self.width
        tiled = g.concat([bias] * self.width, 0) if bias is not None else None
        product = g.op("Gemm", self._patches, self._matrix(), tiled)
        result = g.reshape(product, [-1, self.rows, wide, self.filters])
        return g.transpose(g.slice(result, 2, 0, self.columns) if wide > self.columns else result, CHANNELS_SECOND)

    def weight_gradient(self, grad: Operand) -> str:
        """The gradient of the weight, from that of the result `[B, out, rows, columns]`."""
        g, beyond = self.g, self._strips(self.width) * self.width - self.columns
        flat = g.pad(g.transpose(grad, CHANNELS_LAST), [0, 0, 0, 0], [0, 0, beyond, 0])
        flat = g.reshape(flat, [-1, self.width * self.filters])
        product = g.op("Gemm", self._patches, flat, transA=1)
        shares = g.reshape(product, [self.kernel_rows, self._across(self.width), self.channels, -1])
        total = self._share(shares, 0)
        for place in range(1, self.width):
            total = g.op("Add", total, self._share(shares, place))
        return g.transpose(total, [3, 2, 0, 1])

    def _share(self, shares: str, place: int) -> str:
        """What one place of all strips adds to the gradient: `[*kernel, in, out]`."""
        g, start = self.g, place * self.window.stride[1]
        starts, ends = [start, place * self.filters], [start + self.kernel_columns, (place + 1) * self.filters]
        return g.op("Slice", shares, g.ints(starts), g.ints(ends), g.ints([1, 3]))

    @cached_property
    def _patches(self) -> str:
        """Every strip as a row: `[B * rows * strips, kernel rows * values across * in]`."""
        g, step, strips = self.g, self.width * self.window.stride[1], self._strips(self.width)
        groups = strips - 1 + self._groups(self.width)
        (top, left), (height, width) = self.window.padding, self.x.fixed(2, 3)
        last = g.reshape(self.x, [-1, height, width, 1]) if self.channels == 1 else g.transpose(self.x, CHANNELS_LAST)
        right = groups * step - width - left
        if right < 0:
            last, right = g.slice(last, 2, 0, width + right), 0
        padded = g.pad(last, [0, top, left, 0], [0, top, right, 0])
        by_group = g.reshape(padded, [-1, (height + 2 * top) * groups, step * self.channels])
        strips_of = g.op("Gather", by_group, self._places(groups), axis=1)
        return g.reshape(strips_of, [-1, self._values(self.width)])

    def _places(self, groups: int) -> str:
        """Which groups of values each strip has, by row, strip, kernel row and group: an int64 vector."""
        g, down = self.g, self.window.stride[0]
        rows = g.constant([[[[row * down * groups]]] for row in range(self.rows)], "int64")
        strips = g.constant([[[strip]] for strip in range(self._strips(self.width))], "int64")
        kernel_rows = g.constant([[row * groups] for row in range(self.kernel_rows)], "int64")
        across = g.ints(range(self._groups(self.width)))
        whole = g.op("Add", rows, g.op("Add", strips, g.op("Add", kernel_rows, across)))
        return g.reshape(whole, [-1])  # onnxruntime works it out once

    def _matrix(self) -> str:
        """The kernel at each place of a strip: `[kernel rows * values across * in, width * out]`."""
        g, across = self.g, self._across(self.width)
        kernel, places = g.transpose(self.weight, [2, 3, 1, 0]), []
        for place in range(self.width):
            before = place * self.window.stride[1]
            after = across - self.kernel_columns - before
            places.append(g.pad(kernel, [0, before, 0, 0], [0, after, 0, 0]))
        return g.reshape(g.concat(places, 3), [self._values(self.width), self.width * self.filters])

    def _strips(self, width: int) -> int:
        return -(-self.columns // width)

    def _groups(self, width: int) -> int:
        """How many groups of `width * stride` values a strip reaches over."""
        stride = self.window.stride[1]
        return -(-((width - 1) * stride + self.kernel_columns) // (width * stride))

    def _across(self, width: int) -> int:
        return self._groups(width) * width * self.window.stride[1]

    def _values(self, width: int) -> int:
        return self.kernel_rows * self._across(width) * self.channels

    def _cost(self, width: int) -> int:
        """Of strips this wide, in multiplications."""
        columns = COPY_COLUMNS + max(width * self.filters, VECTOR_COLUMNS)
        return self.rows * self._strips(width) * self._values(width) * columns
