"""Convolution over images as matrix products of strips, channels last.

A strip is what `width` neighbouring results of one row are made from: a window that much wider. All strips of a batch
are the rows of one matrix, gathered once, and their product with the kernel, which is laid into a matrix once for each
place in the strip, is the convolution; the same matrix against the gradient is the kernel's gradient. onnxruntime's own
`Conv` makes a small product for every example. Wider strips overlap less, so fewer values are copied, and fill a
processor's vectors where there are few filters; the zeros beside the kernel cost some multiplications.
"""

from collections.abc import Iterator, Sequence
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
MOST_STRIP_BYTES = 200_000
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
        is_plain = window.rank == 2 and window.groups == 1 and set(window.dilation) == {1}
        return is_plain and any(size > 1 for size in window.kernel) and None not in x.shape[1:]

    @property
    def is_kept(self) -> bool:
        """Whether the strips are small enough to be kept from the forward pass to the backward one."""
        return 4 * self.rows * self._strips(self.width) * self._values(self.width) <= MOST_STRIP_BYTES

    def forward(self, bias: Operand | None) -> str:
        """The convolution, `[B, out, rows, columns]`."""
        wide, every = self._strips(self.width) * self.width, self._columns(bias, range(self.width))
        result = self.g.slice(every, 2, 0, self.columns) if wide > self.columns else every
        convolved = self.g.transpose(result, CHANNELS_SECOND)
        self.g.by_column[convolved] = lambda count: self._parted(bias, count)
        return convolved

    def weight_gradient(self, grad: Operand, in_parts: bool) -> str:
        """The gradient of the weight, from that of the result `[B, out, rows, columns]`; in parts if it comes in parts.

        One product is quicker, but where nothing else needs the whole gradient its parts need not be put together.
        """
        g, total = self.g, None
        for places, flat in self._flat(grad, in_parts):
            product = g.op("Gemm", self._patches, flat, transA=1)
            by_channel = g.transpose(g.reshape(product, [-1, self.channels, len(places) * self.filters]), [1, 0, 2])
            shares = g.reshape(by_channel, [self.channels, self.kernel_rows, self._across(self.width), -1])
            for number, place in enumerate(places):
                share = self._share(shares, number, place)
                total = share if total is None else g.op("Add", total, share)
        turned = g.transpose(g.reshape(total, [-1, self.filters]), [1, 0])
        return g.reshape(turned, self.weight.fixed())

    def bias_gradient(self, grad: Operand, in_parts: bool) -> str:
        """The gradient of the bias."""
        g, total = self.g, None
        for places, flat in self._flat(grad, in_parts):
            share = g.sum(g.reshape(g.sum(flat, [0]), [len(places), self.filters]), [0])
            total = share if total is None else g.op("Add", total, share)
        return str(total)

    def _parted(self, bias: Operand | None, count: int) -> Sequence[str] | None:
        """The columns of the result in `count` parts, each of its own product, where none has too few columns."""
        if not self._divides(count):
            return None
        return [self._columns(bias, range(part, self.width, count)) for part in range(count)]

    def _divides(self, count: int) -> bool:
        is_even = self.width % count == self.columns % self.width == 0
        return is_even and self.width // count * self.filters >= VECTOR_COLUMNS

    def _columns(self, bias: Operand | None, places: range) -> str:
        """The results at these places of all strips: `[B, rows, columns, out]`."""
        tiled = self.g.concat([bias] * len(places), 0) if bias is not None else None
        product = self.g.op("Gemm", self._patches, self._matrix(places), tiled)
        return self.g.reshape(product, [-1, self.rows, self._strips(self.width) * len(places), self.filters])

    def _flat(self, grad: Operand, in_parts: bool) -> Iterator[tuple[range, str]]:
        """The gradient of the result at some places of all strips: `[B * rows * strips, places * out]`."""
        g, parts = self.g, self._parts_of(grad) if in_parts else None
        if parts is not None:
            for number, part in enumerate(parts):
                places = range(number, self.width, len(parts))
                yield places, g.reshape(part, [-1, len(places) * self.filters])
            return
        beyond = self._strips(self.width) * self.width - self.columns
        padded = g.pad(g.transpose(grad, CHANNELS_LAST), [0] * 4, [0, 0, beyond, 0])
        yield range(self.width), g.reshape(padded, [-1, self.width * self.filters])

    def _parts_of(self, grad: Operand) -> Sequence[str] | None:
        """The gradient by column, where it comes in as many parts as divide a strip."""
        parted = self.g.by_column.get(grad.name)
        counts = [count for count in range(2, self.width + 1) if self._divides(count)]
        found = (parted(count) for count in counts) if parted is not None else ()
        return next((parts for parts in found if parts is not None), None)

    def _share(self, shares: str, number: int, place: int) -> str:
        """What one place of all strips adds to the gradient: `[in, *kernel, out]`."""
        g, start = self.g, place * self.window.stride[1]
        starts, ends = [start, number * self.filters], [start + self.kernel_columns, (number + 1) * self.filters]
        return g.op("Slice", shares, g.ints(starts), g.ints(ends), g.ints([2, 3]))

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

    def _matrix(self, places: range) -> str:
        """The kernel at these places of a strip: `[kernel rows * values across * in, places * out]`."""
        g, across = self.g, self._across(self.width)
        # Two transpositions with something between, or onnxruntime makes a slower one of both.
        turned = g.transpose(g.reshape(self.weight, [self.filters, -1]), [1, 0])
        kernel, placed = g.reshape(turned, [self.channels, *self.window.kernel, self.filters]), []
        for place in places:
            before = place * self.window.stride[1]
            placed.append(g.pad(kernel, [0, 0, before, 0], [0, 0, across - self.kernel_columns - before, 0]))
        wide = g.reshape(g.concat(placed, 3), [self.channels, -1, len(places) * self.filters])
        return g.reshape(g.transpose(wide, [1, 0, 2]), [self._values(self.width), -1])

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
