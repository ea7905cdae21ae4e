import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from coordinator.export.step import export_step

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
    torch.set_num_threads(1)
    model, sides = CASES[name]
    x, y = torch.randn(size, CHANNELS, *sides), torch.randint(0, CLASSES, (size,))
    graphs = export_step(model, functional.cross_entropy, x, y)
    slices = [node for node in onnx.load_model_from_string(graphs.train).graph.node if node.op_type == "Slice"]
    assert len(slices) <= 1 + 5 if name in IN_STRIPS else len(slices) == 9  # one a kernel row, not one a tap
    opened = onnxruntime.InferenceSession(graphs.train, providers=["CPUExecutionProvider"])
    weights = {f"p.{key}": value.detach().numpy() for key, value in model.named_parameters()}
    values = opened.run(None, {"x": x.numpy(), "y": y.numpy(), **weights})
    outputs = dict(zip([value.name for value in opened.get_outputs()], values, strict=True))
    exact = model.double()
    wanted = torch.autograd.grad(functional.cross_entropy(exact(x.double()), y), list(exact.parameters()))
    model.float()
    for (key, _), gradient in zip(model.named_parameters(), wanted, strict=True):
        error = np.linalg.norm(outputs[f"g.{key}"] - gradient.numpy())
        assert error < 1e-5 * np.linalg.norm(gradient.numpy()), key


def test_the_gradient_of_x_passes_through_a_depthwise_convolution() -> None:
    torch.set_num_threads(1)
    first = nn.Conv2d(2, CHANNELS, 1)
    model = nn.Sequential(first, *depthwise((3, 3)))
    x, y = torch.randn(5, 2, 9, 4), torch.randint(0, CLASSES, (5,))
    graphs = export_step(model, functional.cross_entropy, x, y)
    opened = onnxruntime.InferenceSession(graphs.train, providers=["CPUExecutionProvider"])
    weights = {f"p.{key}": value.detach().numpy() for key, value in model.named_parameters()}
    (gradient,) = opened.run(["g.0.weight"], {"x": x.numpy(), "y": y.numpy(), **weights})
    (wanted,) = torch.autograd.grad(functional.cross_entropy(model(x), y), [first.weight])
    np.testing.assert_allclose(gradient, wanted.numpy(), rtol=1e-4, atol=1e-6)
