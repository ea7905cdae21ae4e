"""Max pooling over square tiles that do not overlap, without the slow search for where the largest value is.

onnxruntime computes the indices of a `MaxPool` one value at a time: a fifth of a LeNet's step. Here the step's forward
half asks for the values alone, and its backward half finds the first place of each tile that equals them, in whole
arrays: together a third of the time. Equal values count as torch counts them: the first one gets the gradient.
"""

from collections.abc import Sequence

import torch

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand

LARGEST_TILE = 3


class TiledMaxPool:
    """The largest values of `x [B, C, height, width]` in tiles of `side` by `side`; a rest at the ends is left out."""

    def __init__(self, g: Graph, x: Operand, side: int) -> None:
        self.g, self.x, self.side = g, x, side
        self.channels, self.height, self.width = x.fixed(1, 2, 3)
        self.rows, self.columns = self.height // side, self.width // side

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
        tile = [self.side, self.side]
        return self.g.op("MaxPool", self.x, kernel_shape=tile, strides=tile, pads=[0] * 4)

    def input_gradient(self, grad: Operand) -> str:
        """The gradient of each tile at the place of its largest value, zeros elsewhere."""
        tile = [self.side, self.side]
        shape = self.g.op("Shape", self.x)
        return self.g.op("MaxUnpool", grad, self._indices(), shape, kernel_shape=tile, strides=tile)

    def _indices(self) -> str:
        """Where in the whole tensor each tile has its largest value: int64 `[B, C, rows, columns]`."""
        g, area = self.g, self.channels * self.height * self.width
        of_example = g.op("Range", g.ints(0), g.size(self.x, 0), g.ints(1))
        begin = g.reshape(g.op("Mul", of_example, g.ints(area)), [-1, 1, 1, 1])
        channels = g.constant([[[channel * self.height * self.width]] for channel in range(self.channels)], "int64")
        rows = g.constant([[row * self.side * self.width] for row in range(self.rows)], "int64")
        columns = g.ints(column * self.side for column in range(self.columns))
        # What the batch does not change comes first: onnxruntime works it out once.
        corner = g.op("Add", begin, g.op("Add", channels, g.op("Add", rows, columns)))
        return g.op("Add", g.cast(self._offset(), torch.int64), corner)

    def _offset(self) -> str:
        """How far from its corner each tile's first largest value is, as float32: small integers, which are exact."""
        g, largest, places = self.g, self.forward(), self.side**2
        parts = g.ops("Split", places, self._by_place(), axis=1, num_outputs=places)
        offsets = [float(row * self.width + column) for row in range(self.side) for column in range(self.side)]
        found: str | float = offsets[-1]
        for part, offset in zip(parts[-2::-1], offsets[-2::-1], strict=True):
            found = g.op("Where", g.op("Equal", part, largest), offset, found)
        return str(found)

    def _by_place(self) -> str:
        """What all tiles have in their first place, in their second, and so on: `[B, places * C, rows, columns]`."""
        g, whole = self.g, self.x.name
        for axis, size, count in ((2, self.height, self.rows), (3, self.width, self.columns)):
            if size > count * self.side:
                whole = g.slice(whole, axis, 0, count * self.side)
        return g.op("SpaceToDepth", whole, blocksize=self.side)
