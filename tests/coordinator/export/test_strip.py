import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from coordinator.export.rules import strip
from tests.coordinator.export.exported import Exported

CLASSES = 3

LAYERS: dict[str, nn.Module] = {
    "square": nn.Conv2d(4, 6, 5, padding=2),
    "one channel wide": nn.Conv2d(4, 1, 3),
    "uneven kernel": nn.Conv2d(4, 6, (5, 2), padding=(0, 1)),
    "one row": nn.Conv2d(4, 6, (1, 4)),
    "one column": nn.Conv2d(4, 6, (4, 1), bias=False),
    "stride": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "stride beyond the kernel": nn.Conv2d(4, 6, 2, stride=3),
    "uneven stride": nn.Conv2d(4, 6, (5, 4), stride=(2, 3), padding=(1, 2)),
}


def model_of(layer: nn.Module) -> nn.Sequential:
    filters = int(layer.out_channels) if isinstance(layer, nn.Conv2d) else 0
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(filters, CLASSES)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), layer, nn.SiLU(), *head)


def operators(exported: Exported) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(exported.graphs.train).graph.node]


@pytest.mark.parametrize(("width", "is_kept"), [(1, True), (2, False), (3, True)])
@pytest.mark.parametrize("name", LAYERS)
def test_strips_of_any_width_agree_with_float64_autograd(
    name: str, width: int, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strip, "WIDTHS", (width,))
    monkeypatch.setattr(strip, "MOST_STRIP_BYTES", 1 << 20 if is_kept else 0)
    x, y = torch.randn(3, 1, 11, 14), torch.randint(0, CLASSES, (3,))
    exported = Exported.of(model_of(LAYERS[name]), functional.cross_entropy, x, y)
    assert ("Conv" in operators(exported)) is not is_kept
    assert exported.gradient_error(exported.train(x, y), exported.reference(x, y)) < 1e-5


def test_forward_and_backward_share_the_strips_that_are_kept() -> None:
    x, y = torch.randn(2, 1, 12, 12), torch.randint(0, CLASSES, (2,))
    exported = Exported.of(model_of(LAYERS["square"]), functional.cross_entropy, x, y)
    graph = onnx.load_model_from_string(exported.graphs.train).graph
    gathers = [node for node in graph.node if node.op_type == "Gather" and node.attribute[0].i == 1]
    assert len(gathers) == 2  # of two convolutions


class Pooled(nn.Module):
    """Where what follows the first layer decides in how many products its strips are multiplied."""

    def __init__(self, side: int, columns: int, rectified: bool, also_unpooled: bool = False) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, CLASSES)
        self.side, self.columns, self.rectified, self.also_unpooled = side, columns, rectified, also_unpooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = functional.relu(self.near(x)) if self.rectified else self.near(x)
        far = self.far(functional.max_pool2d(near, self.side))
        far = functional.max_pool2d(functional.relu(far) if self.rectified else far, 2).mean((2, 3))
        whole = near.mean((2, 3))
        return torch.as_tensor(self.head(far + torch.cat([whole, whole], 1) if self.also_unpooled else far))


@pytest.mark.parametrize("also_unpooled", [False, True])
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(("side", "columns"), [(2, 16), (2, 15), (3, 12)])
def test_pooled_strips_agree_with_float64_autograd(
    side: int, columns: int, rectified: bool, also_unpooled: bool
) -> None:
    torch.manual_seed(columns)
    x, y = torch.randn(4, 1, 12, columns), torch.randint(0, CLASSES, (4,))
    exported = Exported.of(Pooled(side, columns, rectified, also_unpooled), functional.cross_entropy, x, y)
    assert exported.gradient_error(exported.train(x, y), exported.reference(x, y)) < 1e-5


def test_pooling_takes_the_columns_as_the_products_leave_them() -> None:
    x, y = torch.randn(2, 1, 16, 16), torch.randint(0, CLASSES, (2,))
    kinds = operators(Exported.of(Pooled(2, 16, rectified=True), functional.cross_entropy, x, y))
    assert kinds.count("Split") == 3  # the rows of both poolings, the columns of the one whose strips are narrow
