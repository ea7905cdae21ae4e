"""Max pooling over square tiles that do not overlap, without a search for where the largest value is.

onnxruntime computes the indices of a `MaxPool` one value at a time. Here both passes are whole arrays, channels last:
the largest of the columns of a tile, then the largest of its rows; and backwards each gradient goes to the first that
equals the largest, and what remains to the next. Equal values count as torch counts them: the first one, row by row.
A rectifier before the pooling changes places with it, which is the same and leaves it a part of the values.
"""

from collections.abc import Sequence
from functools import cached_property

import torch

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand
from coordinator.export.rules.rectifier import as_ones
from coordinator.export.rules.strip import CHANNELS_LAST, CHANNELS_SECOND

LARGEST_TILE = 3


class TiledMaxPool:
    """The largest values of `x [B, C, height, width]` in tiles of `side` by `side`; a rest at the ends is left out."""

    def __init__(self, g: Graph, x: Operand, side: int) -> None:
        self.g, self.x, self.side = g, x, side
        self.channels, self.height, self.width = x.fixed(1, 2, 3)
        self.rows, self.columns = self.height // side, self.width // side
        before = g.producer(x.name)
        self.is_rectified = before is not None and before.op_type == "Relu"
        source = before.input[0] if before is not None and self.is_rectified else x.name
        self._source = source

    @staticmethod
    def fits(x: Operand, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
             ceil_mode: bool) -> bool:  # fmt: skip
        """Whether the pooling is of such tiles."""
        if x.rank != 4 or None in x.shape[1:] or any(padding) or set(dilation) != {1}:
            return False
        is_tiled = len(set(kernel)) == 1 and list(kernel) == list(stride) and 1 < kernel[0] <= LARGEST_TILE
        is_whole = all(size % kernel[0] == 0 for size in x.fixed(2, 3))
        return is_tiled and (is_whole or not ceil_mode)

    def forward(self) -> str:
        """The values alone."""
        return self.g.transpose(self._values, CHANNELS_SECOND)

    def input_gradient(self, grad: Operand) -> str:
        """The gradient of each tile at the place of its largest value, zeros elsewhere."""
        g, side, channels = self.g, self.side, self.channels
        last = g.transpose(grad, CHANNELS_LAST)
        if self.is_rectified:
            last = g.op("Mul", last, as_ones(g, self._values))
        flat = g.reshape(last, [-1, self.rows, 1, self.columns * channels])
        by_row = g.concat(self._given(flat, self._row_parts, self._largest_row), 2)
        by_row = g.reshape(by_row, [-1, self.rows * side, self.columns, channels])
        by_column = self._given(by_row, self._column_parts, self._largest_column)
        whole = g.reshape(g.concat(by_column, 3), [-1, self.rows * side, self.columns * side, channels])
        rest = [0, self.height - self.rows * side, self.width - self.columns * side, 0]
        spread = g.transpose(g.pad(whole, [0] * 4, rest), CHANNELS_SECOND)
        if not any(rest):
            g.by_column[spread] = lambda count: by_column if count == side else None
        if self.is_rectified:
            g.rectified.add((spread, self.x.name))
        return spread

    @cached_property
    def _values(self) -> str:
        """The largest of each tile, rectified where `x` is: `[B, rows, columns, C]`."""
        largest = self.g.reshape(self._largest_row, [-1, self.rows, self.columns, self.channels])
        return self.g.op("Relu", largest) if self.is_rectified else largest

    @cached_property
    def _column_parts(self) -> Sequence[str]:
        """What all tiles have in their first column, in their second, and so on: `[B, rows * side, columns, C]`."""
        g, side, parted = self.g, self.side, self.g.by_column.get(self._source)
        if parted and self.rows * side == self.height and (parts := parted(side)):
            return parts
        whole = g.transpose(self._source, CHANNELS_LAST)
        for axis, size, count in ((1, self.height, self.rows), (2, self.width, self.columns)):
            if size > count * side:
                whole = g.slice(whole, axis, 0, count * side)
        wide = g.reshape(whole, [-1, self.rows * side, self.columns, side * self.channels])
        return g.ops("Split", side, wide, axis=3, num_outputs=side)

    @cached_property
    def _largest_column(self) -> str:
        return self.g.op("Max", *self._column_parts)

    @cached_property
    def _row_parts(self) -> Sequence[str]:
        """Of the largest of the columns, what all tiles have in each of their rows: `[B, rows, 1, columns * C]`."""
        tall = self.g.reshape(self._largest_column, [-1, self.rows, self.side, self.columns * self.channels])
        return self.g.ops("Split", self.side, tall, axis=2, num_outputs=self.side)

    @cached_property
    def _largest_row(self) -> str:
        return self.g.op("Max", *self._row_parts)

    def _given(self, grad: str, parts: Sequence[str], largest: str) -> list[str]:
        """For each part the gradient where it is the first to equal the largest."""
        g, given = self.g, list[str]()
        for part in parts[:-1]:
            given.append(g.op("Mul", grad, g.cast(g.op("Equal", part, largest), torch.float32)))
            grad = g.op("Sub", grad, given[-1])
        return [*given, grad]
