import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from coordinator.export.step import export_step

CLASSES = 3

LAYERS: dict[str, nn.Module] = {
    "few taps": nn.Conv2d(4, 6, 3, padding=1),
    "few taps, strided": nn.Conv2d(4, 6, 3, stride=2),
    "many taps": nn.Conv2d(4, 6, 5, padding=2),
    "many taps, strided and uneven": nn.Conv2d(4, 6, (5, 4), stride=(2, 3), padding=(1, 2)),
    "many taps, dilated": nn.Conv2d(4, 6, 4, dilation=(1, 2), padding=(0, 3)),
    "many taps, grouped": nn.Conv2d(4, 6, 5, groups=2),
}


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_a_convolution_agree_with_float64_autograd(name: str, size: int) -> None:
    torch.set_num_threads(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), LAYERS[name], nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES),
    )  # fmt: skip
    x, y = torch.randn(size, 1, 13, 14), torch.randint(0, CLASSES, (size,))
    graphs = export_step(model, functional.cross_entropy, x, y)
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
