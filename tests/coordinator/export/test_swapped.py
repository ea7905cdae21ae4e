from collections.abc import Callable

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.coordinator.export.exported import Exported

CHANNELS, CLASSES = 8, 3
SWAP = [0, 1, 3, 2]


def chain(norm: Callable[[], nn.Module], activation: Callable[[], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(1, CHANNELS, 3, padding=1)]
    for _ in range(3):
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS), norm(), activation()]
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 1), nn.GroupNorm(2, CHANNELS), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES))


CHAINS: dict[str, Callable[[], nn.Sequential]] = {
    "what hands swaps on": lambda: chain(lambda: nn.GroupNorm(4, CHANNELS), nn.ReLU),
    "a norm without weights": lambda: chain(lambda: nn.GroupNorm(4, CHANNELS, affine=False), nn.ReLU),
    "what does not": lambda: chain(lambda: nn.LayerNorm([11, 4]), nn.SiLU),
}


@pytest.mark.parametrize("sides", [(11, 4), (4, 11)])
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_swapped_images_agrees_with_float64_autograd(name: str, sides: tuple[int, int]) -> None:
    if name == "what does not" and sides != (11, 4):
        pytest.skip("the layer norm is of one shape")
    x, y = torch.randn(5, 1, *sides), torch.randint(0, CLASSES, (5,))
    exported = Exported.of(CHAINS[name](), functional.cross_entropy, x, y)
    assert exported.gradient_error(exported.train(x, y), exported.reference(x, y)) < 1e-5


def test_a_chain_of_upright_images_changes_places_once_each_way() -> None:
    x, y = torch.randn(2, 1, 11, 4), torch.zeros(2, dtype=torch.int64)
    graph = onnx.load_model_from_string(
        Exported.of(CHAINS["what hands swaps on"](), functional.cross_entropy, x, y).graphs.train
    ).graph
    products = {name for node in graph.node if node.op_type == "MatMul" for name in node.input}
    swaps = [node for node in graph.node if node.op_type == "Transpose" and list(node.attribute[0].ints) == SWAP]
    of_images = [s for s in swaps if not s.input[0].startswith("p.") and s.output[0] not in products]
    assert len(of_images) == 2  # before the mean of each channel, and after its gradient
