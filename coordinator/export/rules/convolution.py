"""Convolution over one or more dimensions, and its gradients."""

import itertools
import math
from collections.abc import Sequence

import torch

from coordinator.export.graph import Graph
from coordinator.export.operand import Operand, ValueType, require
from coordinator.export.rules.depthwise import DepthwiseConvolution
from coordinator.export.rules.registry import rule
from coordinator.export.rules.sequence import SequenceConvolution
from coordinator.export.rules.strip import StripConvolution
from coordinator.export.rules.swapped import SWAP, either_way, is_swapped, swapped
from coordinator.export.rules.window import Window

aten = torch.ops.aten

Sizes = Sequence[int]

MANY_TAPS = 16
"""Kernels of so many taps fill the processor's vectors when they are the result of a convolution."""


@rule(aten.convolution.default)
def _convolution(
    g: Graph,
    out: ValueType,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> str:
    require(not transposed, "a transposed convolution")
    window = Window.of(weight, stride, padding, dilation, groups)
    if SequenceConvolution.fits(window):
        return SequenceConvolution(g, x, weight, window).forward(bias)
    if DepthwiseConvolution.fits(x, weight, window):
        return DepthwiseConvolution(g, x, weight, window).forward(bias)
    if window.is_point:
        return either_way(g, x, lambda image: convolved(g, image, weight, bias, window))
    if StripConvolution.fits(x, window):
        strips = StripConvolution(g, x, weight, window)
        if strips.is_kept:
            return strips.forward(bias)
    return convolved(g, x, weight, bias, window)


@rule(aten.convolution_backward.default)
def _convolution_backward(
    g: Graph,
    out: ValueType,
    grad: Operand,
    x: Operand,
    weight: Operand,
    bias_sizes: Sizes | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
    wanted: Sequence[bool],
) -> tuple[str | None, ...]:
    window = Window.of(weight, stride, padding, dilation, groups)
    if window.is_point and is_swapped(g, x):
        grad, x = swapped(g, grad), swapped(g, x)
        along, *others = gradients(g, grad, x, weight, window, wanted)
        return along and g.transpose(along, SWAP), *others
    return gradients(g, grad, x, weight, window, wanted)


def gradients(
    g: Graph, grad: Operand, x: Operand, weight: Operand, window: Window, wanted: Sequence[bool]
) -> tuple[str | None, ...]:
    """Of input, weight and bias, those that are wanted."""
    special: SequenceConvolution | DepthwiseConvolution | None = None
    if SequenceConvolution.fits(window):
        special = SequenceConvolution(g, x, weight, window)
    elif DepthwiseConvolution.fits(x, weight, window):
        special = DepthwiseConvolution(g, x, weight, window)
    if special is not None:
        each = special.input_gradient, special.weight_gradient, special.bias_gradient
        return tuple(gradient(grad) if needed else None for gradient, needed in zip(each, wanted, strict=True))
    # The weight's gradient first: what it needs can go before there is room for the input's.
    if StripConvolution.fits(x, window):
        strips, in_parts = StripConvolution(g, x, weight, window), not wanted[0]
        of_weight = strips.weight_gradient(grad, in_parts) if wanted[1] else None
        of_bias = strips.bias_gradient(grad, in_parts) if wanted[2] else None
    else:
        of_weight = weight_gradient(g, grad, x, weight, window) if wanted[1] else None
        of_bias = g.sum(grad, [0, *range(2, grad.rank)]) if wanted[2] else None
    return input_gradient(g, grad, x, weight, window) if wanted[0] else None, of_weight, of_bias


def convolved(g: Graph, x: Operand, weight: Operand, bias: Operand | None, window: Window) -> str:
    """The convolution by onnxruntime's own operator."""
    return g.op("Conv", x, weight, *([bias] if bias is not None else []), **window.attributes())


def input_gradient(g: Graph, grad: Operand, x: Operand, weight: Operand, window: Window) -> str:
    """The transposed convolution of the gradient, padded where the last window did not reach the end of `x`.

    Of a single tap it is a convolution, which is quicker.
    """
    if window.is_point:
        turned = g.transpose(weight, [1, 0, *range(2, weight.rank)])
        return g.op("Conv", grad, turned, kernel_shape=window.kernel)
    axes = range(2, x.rank)
    steps = [(size - 1) * stride for size, stride in zip(grad.fixed(*axes), window.stride, strict=True)]
    spans = [dilation * (kernel - 1) + 1 for kernel, dilation in zip(window.kernel, window.dilation, strict=True)]
    unpadded = [size + 2 * padding for size, padding in zip(x.fixed(*axes), window.padding, strict=True)]
    rest = [size - step - span for size, step, span in zip(unpadded, steps, spans, strict=True)]
    return g.op("ConvTranspose", grad, weight, **window.attributes(), output_padding=rest)


def weight_gradient(g: Graph, grad: Operand, x: Operand, weight: Operand, window: Window) -> str:
    """The gradient of the weight, in the form that suits the window."""
    is_plain = x.rank == 4 and window.groups == 1
    if is_plain and (x.fixed_size(1) == 1 or math.prod(window.kernel) >= MANY_TAPS):
        return swapped_gradient(g, grad, x, weight, window)
    return patch_gradient(g, grad, x, weight, window)


def swapped_gradient(g: Graph, grad: Operand, x: Operand, weight: Operand, window: Window) -> str:
    """`x` convolved by the gradient, with examples as channels, and stride and dilation exchanged."""
    product = g.op(
        "Conv",
        g.transpose(x, [1, 0, 2, 3]),
        g.transpose(grad, [1, 0, 2, 3]),
        kernel_shape=grad.fixed(2, 3),
        strides=window.dilation,
        dilations=window.stride,
        pads=window.padding * 2,
    )
    cut = g.op("Slice", product, g.ints([0, 0]), g.ints(window.kernel), g.ints([2, 3]))
    return g.transpose(cut, [1, 0, 2, 3])


def patch_gradient(g: Graph, grad: Operand, x: Operand, weight: Operand, window: Window) -> str:
    """Per group, the gradient times the patches of `x` that each result was made from, summed over the batch."""
    filters, channels, groups = weight.fixed_size(0), weight.fixed_size(1), window.groups
    taps, pixels = math.prod(window.kernel), grad.fixed_size(*range(2, grad.rank))
    patches = [g.reshape(patch, [0, groups, 1, channels, pixels]) for patch in taps_of(g, grad, x, window)]
    columns = g.reshape(g.concat(patches, 2), [0, groups, taps * channels, pixels])
    rows = g.reshape(grad, [0, groups, filters // groups, pixels])
    product = g.sum(g.op("MatMul", rows, g.transpose(columns, [0, 1, 3, 2])), [0])
    by_tap = g.reshape(product, [filters, taps, channels])
    return g.reshape(g.transpose(by_tap, [0, 2, 1]), weight.fixed())


def taps_of(g: Graph, grad: Operand, x: Operand, window: Window) -> list[str]:
    """For each kernel offset, the values of `x` that meet it: `[B, in, *spatial dimensions of the result]`."""
    axes = list(range(2, x.rank))
    ends = [0, 0, *window.padding]
    padded = g.pad(x, ends, ends)
    patches = []
    for offset in itertools.product(*map(range, window.kernel)):
        start = [step * dilation for step, dilation in zip(offset, window.dilation, strict=True)]
        reach = [(size - 1) * stride + 1 for size, stride in zip(grad.fixed(*axes), window.stride, strict=True)]
        stop = [first + length for first, length in zip(start, reach, strict=True)]
        patches.append(g.op("Slice", padded, g.ints(start), g.ints(stop), g.ints(axes), g.ints(window.stride)))
    return patches
