"""Max and average pooling over two dimensions (torch pools one dimension as two, one of them 1)."""

from collections.abc import Sequence

import torch

from coordinator.export.graph import Attribute, Graph
from coordinator.export.operand import Operand, ValueType, require
from coordinator.export.rules.registry import rule
from coordinator.export.rules.tiled_pool import TiledMaxPool

aten = torch.ops.aten

Pair = Sequence[int]


def pair(values: Pair) -> list[int]:
    """Two values, where torch allows one for both."""
    return list(values) * 2 if len(values) == 1 else list(values)


def window(kernel: Pair, stride: Pair, padding: Pair) -> dict[str, Attribute]:
    """The ONNX attributes of a pooling window; an empty stride is the kernel's size."""
    return {"kernel_shape": pair(kernel), "strides": pair(stride or kernel), "pads": pair(padding) * 2}


@rule(aten.max_pool2d_with_indices.default)
def _max_pool(
    g: Graph,
    out: ValueType,
    x: Operand,
    kernel: Pair,
    stride: Pair = (),
    padding: Pair = (0,),
    dilation: Pair = (1,),
    ceil_mode: bool = False,
) -> tuple[str | None, ...]:
    if TiledMaxPool.fits(x, pair(kernel), pair(stride or kernel), pair(padding), pair(dilation), ceil_mode):
        return TiledMaxPool(g, x, pair(kernel)[0]).forward(), None
    attributes = window(kernel, stride, padding)
    return g.ops("MaxPool", 2, x, **attributes, dilations=pair(dilation), ceil_mode=int(ceil_mode))


@rule(aten.max_pool2d_with_indices_backward.default)
def _max_pool_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    x: Operand,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
    indices: Operand | None,
) -> str:
    if indices is None:
        return TiledMaxPool(g, x, pair(kernel)[0]).input_gradient(grad)
    # ONNX counts indices through the whole tensor, torch through each plane: only ONNX's own are ever used here.
    sizes, strides = pair(kernel), pair(stride or kernel)
    shape = g.op("Shape", x)
    overlapping = any(step < size for step, size in zip(strides, sizes, strict=True))
    if not overlapping and not any(padding) and pair(dilation) == [1, 1]:
        return g.op("MaxUnpool", grad, indices, shape, kernel_shape=sizes, strides=strides)
    zeros = g.op("Expand", 0.0, g.op("ReduceProd", shape, keepdims=1))
    flat_indices, flat_grad = g.reshape(indices, [-1]), g.reshape(grad, [-1])
    return g.op("Reshape", g.op("ScatterElements", zeros, flat_indices, flat_grad, axis=0, reduction="add"), shape)


@rule(aten.avg_pool2d.default)
def _average_pool(
    g: Graph,
    out: ValueType,
    x: Operand,
    kernel: Pair,
    stride: Pair = (),
    padding: Pair = (0,),
    ceil_mode: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> str:
    require(divisor is None, "average pooling with its own divisor")
    require(not ceil_mode, "average pooling with ceil_mode")
    return g.op("AveragePool", x, **window(kernel, stride, padding), count_include_pad=int(count_padding))


@rule(aten.avg_pool2d_backward.default)
def _average_pool_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    x: Operand,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_padding: bool,
    divisor: int | None,
) -> str:
    require(count_padding or not any(padding), "padded average pooling with count_include_pad=False")
    channels, sizes = x.fixed_size(1), pair(kernel)
    share = g.op("Expand", 1 / (sizes[0] * sizes[1]), g.ints([channels, 1, *sizes]))
    steps, pads = pair(stride or kernel), pair(padding)
    covered = [
        (size - 1) * step - 2 * pad + span
        for size, step, pad, span in zip(grad.fixed(2, 3), steps, pads, sizes, strict=True)
    ]
    rest = [size - done for size, done in zip(x.fixed(2, 3), covered, strict=True)]
    return g.op("ConvTranspose", grad, share, **window(kernel, stride, padding), group=channels, output_padding=rest)
