import inspect
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from coordinator.export.step import export_step
from shared.errors import ExportError


class Unruled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        summed = torch.cumsum(x, 1)
        return torch.as_tensor(self.head(summed))


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.head(x), approximate="tanh")


class OneBatchSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(x * int(x.shape[0])))


def refusal(model: nn.Module) -> str:
    torch.set_num_threads(1)
    with pytest.raises(ExportError) as caught:
        export_step(model, functional.cross_entropy, torch.randn(4, 6), torch.zeros(4).long())
    return str(caught.value)


def line_of(model: nn.Module, code: str) -> int:
    lines, first = inspect.getsourcelines(type(model))
    return first + next(index for index, line in enumerate(lines) if code in line)


def test_operator_without_a_rule_is_named_with_the_line_of_the_model() -> None:
    text = refusal(Unruled())
    place = re.escape(f"{__file__}:{line_of(Unruled(), 'cumsum')}: summed = torch.cumsum(x, 1)")
    assert re.search(f"aten.cumsum.default has no ONNX rule; used at {place}", text)


def test_unsupported_variant_is_named_with_operator_and_line() -> None:
    text = refusal(Unsupported())
    assert "aten.gelu.default: GELU with approximate='tanh' is not supported" in text
    assert f"{__file__}:{line_of(Unsupported(), 'approximate')}" in text


def test_operator_of_a_ready_made_module_is_placed_in_torch() -> None:
    text = refusal(nn.Sequential(nn.Linear(6, 3), nn.CELU()))
    assert "aten.celu.default" in text
    assert re.search(r"activation\.py:\d+: ", text)


def test_model_for_one_batch_size_is_refused() -> None:
    assert "only works for one batch size" in refusal(OneBatchSize())
