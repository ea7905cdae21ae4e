"""Images whose rows and columns have changed places: what does not care which is which hands the change on.

So a chain of depthwise convolutions, which want the longer side last, and of what lies between them changes places once
and not for every layer.
"""

from collections.abc import Callable

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand, ValueType

SWAP = [0, 1, 3, 2]


def is_swapped(g: Graph, image: Operand) -> bool:
    """Whether `image [B, C, height, width]` was made from one of other places."""
    node = g.producer(image.name)
    return node is not None and node.op_type == "Transpose" and list(node.attribute[0].ints) == SWAP


def swapped(g: Graph, image: Operand) -> Operand:
    """`[B, C, width, height]` of `[B, C, height, width]`; where the one was made from the other, that one itself."""
    shape = tuple(image.shape[axis] for axis in SWAP)
    return Operand(g.transpose(image, SWAP), ValueType(shape, image.dtype))


def either_way(g: Graph, image: Operand, compute: Callable[[Operand], str]) -> str:
    """What `compute` makes of an image, an image as large, in whichever places the image is at hand."""
    return g.transpose(compute(swapped(g, image)), SWAP) if is_swapped(g, image) else compute(image)
