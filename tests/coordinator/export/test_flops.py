import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from coordinator.bench.families import FAMILIES
from coordinator.export.flops import example_flops
from coordinator.export.step import export_step
from coordinator.tasks.crowd import CrowdNet


def counted(model: nn.Module, shape: tuple[int, ...]) -> float:
    """What torch counts for a batch of one, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        loss = functional.cross_entropy(model(torch.zeros(1, *shape)), torch.zeros(1, dtype=torch.int64))
        torch.autograd.backward(loss)
    return float(counter.get_total_flops())


@pytest.mark.parametrize("name", ["lenet", "1d-cnn", "resnet-8"])
def test_operations_are_about_those_that_torch_counts(name: str) -> None:
    family = FAMILIES[name]
    model = family.make()
    x = torch.zeros(4, *family.input_shape)
    graphs = export_step(model, functional.cross_entropy, x, torch.zeros(4, dtype=torch.int64))
    assert example_flops(graphs.evaluate) == pytest.approx(counted(model, family.input_shape), rel=0.3)


def test_the_crowds_network_takes_some_million_operations_an_example() -> None:
    graphs = export_step(
        CrowdNet(), functional.cross_entropy, torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64)
    )
    assert 3e6 < example_flops(graphs.evaluate) < 7e6
