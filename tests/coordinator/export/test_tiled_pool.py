import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from coordinator.export.step import export_step
from coordinator.export.step_graphs import initial_weights


class Pooled(nn.Module):
    def __init__(self, side: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        self.scale, self.options = nn.Parameter(torch.ones(3, 1, 1)), (side, stride or side, padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side, stride, padding = self.options
        return torch.as_tensor(functional.max_pool2d(x * self.scale, side, stride, padding).flatten(1).mean(1))


def gradients(model: Pooled, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """The gradient of the scale by torch and by the exported graph, and the operators in that."""
    y = torch.arange(len(x), dtype=torch.float32)
    graphs = export_step(model, functional.mse_loss, torch.zeros(4, *x.shape[1:]), torch.zeros(4))
    loss = functional.mse_loss(model(torch.from_numpy(x)), y)
    (expected,) = torch.autograd.grad(loss, [model.scale])
    session = onnxruntime.InferenceSession(graphs.train, providers=["CPUExecutionProvider"])
    weights = graphs.layout.split(initial_weights(model, graphs.layout))
    found = session.run(["g.scale"], {"x": x, "y": y.numpy(), "p.scale": weights["scale"]})[0]

    return expected.numpy(), found, {node.op_type for node in onnx.load_from_string(graphs.train).graph.node}


@pytest.mark.parametrize(("side", "height", "width"), [(2, 8, 8), (2, 7, 9), (3, 9, 6), (3, 11, 10)])
@pytest.mark.parametrize("batch", [1, 7])
def test_tiles_pass_their_gradient_to_the_largest_value(side: int, height: int, width: int, batch: int) -> None:
    x = np.random.default_rng(side).standard_normal((batch, 3, height, width)).astype(np.float32)
    expected, found, kinds = gradients(Pooled(side), x)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)
    assert not kinds.intersection({"MaxPool", "MaxUnpool"})


@pytest.mark.parametrize("side", [2, 3])
def test_of_equal_values_the_first_gets_the_gradient_as_in_torch(side: int) -> None:
    x = np.random.default_rng(0).integers(0, 2, (5, 3, 6, 6)).astype(np.float32)
    x *= np.arange(1, 4, dtype=np.float32)[:, None, None]
    model = Weighed(side)
    expected, found = model.gradients(x)
    np.testing.assert_array_equal(found, expected)


class Weighed(nn.Module):
    """Its gradient tells where in a tile it went: every place has a parameter of its own."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.shift, self.side = nn.Parameter(torch.zeros(3, 6, 6)), side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(functional.max_pool2d(x + self.shift, self.side).flatten(1).sum(1))

    def gradients(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = torch.zeros(len(x))
        graphs = export_step(self, functional.mse_loss, torch.zeros(4, *x.shape[1:]), torch.zeros(4))
        (expected,) = torch.autograd.grad(functional.mse_loss(self(torch.from_numpy(x)), y), [self.shift])
        session = onnxruntime.InferenceSession(graphs.train, providers=["CPUExecutionProvider"])
        feed = {"x": x, "y": y.numpy(), "p.shift": np.zeros((3, 6, 6), np.float32)}
        return expected.numpy(), session.run(["g.shift"], feed)[0]


@pytest.mark.parametrize(("side", "stride", "padding"), [(3, 2, 0), (2, 2, 1), (2, 1, 0)])
def test_windows_that_overlap_or_are_padded_are_computed_as_before(side: int, stride: int, padding: int) -> None:
    x = np.random.default_rng(1).standard_normal((3, 3, 8, 8)).astype(np.float32)
    expected, found, kinds = gradients(Pooled(side, stride, padding), x)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)
    assert "MaxPool" in kinds
