import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.coordinator.export.exported import Exported

CHANNELS, CLASSES = 6, 3


def depthwise(kernel: tuple[int, int], bias: bool = True, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    layer = nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, dilation, groups=CHANNELS, bias=bias)
    return nn.Sequential(layer, nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES))


CASES: dict[str, tuple[nn.Module, tuple[int, int]]] = {
    "square": (depthwise((3, 3)), (7, 7)),
    "upright": (depthwise((3, 3)), (11, 4)),
    "lying": (depthwise((3, 3), bias=False), (4, 11)),
    "upright, uneven kernel": (depthwise((5, 3)), (12, 6)),
    "lying, uneven kernel": (depthwise((1, 5)), (5, 9)),
    "with a stride": (depthwise((3, 3), stride=2), (9, 8)),
    "dilated": (depthwise((3, 3), dilation=2), (9, 8)),
}
IN_STRIPS = [name for name in CASES if name not in ("with a stride", "dilated")]


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", CASES)
def test_gradient_of_a_depthwise_convolution_agrees_with_float64_autograd(name: str, size: int) -> None:
    model, sides = CASES[name]
    x, y = torch.randn(size, CHANNELS, *sides), torch.randint(0, CLASSES, (size,))
    exported = Exported.of(model, functional.cross_entropy, x, y)
    assert exported.gradient_error(exported.train(x, y), exported.reference(x, y)) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_strips_need_a_slice_for_each_row_of_the_kernel_and_not_for_each_tap(name: str) -> None:
    model, sides = CASES[name]
    x, y = torch.randn(2, CHANNELS, *sides), torch.zeros(2, dtype=torch.int64)
    graph = onnx.load_model_from_string(Exported.of(model, functional.cross_entropy, x, y).graphs.train).graph
    slices = [node for node in graph.node if node.op_type == "Slice"]
    assert len(slices) <= 1 + 5 if name in IN_STRIPS else len(slices) == 9


def test_the_gradient_of_x_passes_through_a_depthwise_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(2, CHANNELS, 1), *depthwise((3, 3)))
    x, y = torch.randn(5, 2, 9, 4), torch.randint(0, CLASSES, (5,))
    exported = Exported.of(model, functional.cross_entropy, x, y)
    outputs, expected = exported.train(x, y), exported.reference(x, y)
    first = {"g.0.weight": expected["g.0.weight"]}
    assert exported.gradient_error(outputs, first) < 1e-5
