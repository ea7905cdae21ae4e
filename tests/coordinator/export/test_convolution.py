import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.coordinator.export.exported import Exported

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
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), LAYERS[name], nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES),
    )  # fmt: skip
    x, y = torch.randn(size, 1, 13, 14), torch.randint(0, CLASSES, (size,))
    exported = Exported.of(model, functional.cross_entropy, x, y)
    assert exported.gradient_error(exported.train(x, y), exported.reference(x, y)) < 1e-5
