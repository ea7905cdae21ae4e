import inspect
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from coordinator.export.step import Loss, export_step
from shared.errors import ExportError


class Net(nn.Module):
    """A head, and before it what a test puts there."""

    def __init__(self, before: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before = before
        self.head = nn.Linear(6, 3)
        self.last = nn.Sequential(nn.Tanh(), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.head(self.before(x))))


class Pooled(nn.Module):
    """Its pooling has a rule, the pooling's gradient none."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv1d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.avg_pool2d(self.near(x.unsqueeze(2)).unsqueeze(2), (1, 3), 1, (0, 1), False, False)
        return pooled.flatten(1)


def summed(x: Tensor) -> Tensor:
    return torch.cumsum(x, 1)


def by_batch(x: Tensor) -> Tensor:
    return x * int(x.shape[0])


def by_values(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def misfit(x: Tensor) -> Tensor:
    return x @ x


def unruled_loss(prediction: Tensor, y: Tensor) -> Tensor:
    ordered = prediction.sort(1).values
    return functional.cross_entropy(ordered, y)


def refusal(model: nn.Module, loss: Loss = functional.cross_entropy) -> str:
    torch.set_num_threads(1)
    with pytest.raises(ExportError) as caught:
        export_step(model, loss, torch.randn(4, 6), torch.zeros(4).long())
    return str(caught.value)


def place(owner: Callable[..., object], code: str) -> str:
    """`file:line: code` of a line of this file."""
    lines, first = inspect.getsourcelines(owner)
    number, line = next((index, line) for index, line in enumerate(lines) if code in line)
    return f"{__file__}:{first + number}: {line.strip()}"


def test_operator_without_a_rule_is_named_with_the_innermost_line_of_the_users_own() -> None:
    text = refusal(Net(summed))
    assert text == f"operator aten.cumsum.default has no ONNX rule; used at {place(summed, 'cumsum')}"


def test_unsupported_variant_is_named_with_operator_and_line() -> None:
    tangent = Net(lambda x: functional.gelu(x, approximate="tanh"))
    text = refusal(tangent)
    assert "aten.gelu.default: GELU with approximate='tanh' is not supported; used at " in text
    assert f"{__file__}:" in text


def test_operator_of_a_ready_made_module_is_placed_at_its_call_and_by_its_name() -> None:
    net = Net(nn.Identity())
    net.last[1] = nn.CELU()
    text = refusal(net)
    assert "aten.celu.default has no ONNX rule" in text
    assert text.endswith(f"used at {place(Net.forward, 'self.last')}, in module last.1 (CELU)")


def test_model_without_code_of_its_own_is_placed_by_module() -> None:
    text = refusal(nn.Sequential(nn.Linear(6, 3), nn.CELU()))
    assert text == "operator aten.celu.default has no ONNX rule; used in module 1 (CELU)"


def test_operator_of_a_gradient_is_placed_at_what_it_is_the_gradient_of() -> None:
    text = refusal(Pooled())
    assert "padded average pooling with count_include_pad=False is not supported" in text
    assert text.endswith(f"used in the gradient of what is used at {place(Pooled.forward, 'avg_pool2d')}")


def test_operator_of_a_loss_is_placed_in_the_loss() -> None:
    text = refusal(Net(nn.Identity()), unruled_loss)
    assert text == f"operator aten.sort.default has no ONNX rule; used at {place(unruled_loss, 'sort')}"


def test_loss_of_torch_itself_is_said_to_be_the_loss() -> None:
    def per_position(prediction: Tensor, y: Tensor) -> Tensor:
        return functional.multi_margin_loss(prediction, y)

    text = refusal(nn.Linear(6, 3), functional.multi_margin_loss)
    assert re.fullmatch(r"operator aten\.\w+\.default has no ONNX rule; used in the loss", text)
    assert place(per_position, "multi_margin") in refusal(nn.Linear(6, 3), per_position)


def test_model_for_one_batch_size_is_refused() -> None:
    assert "only works for one batch size" in refusal(Net(by_batch))


def test_decision_by_values_is_refused_with_its_line() -> None:
    text = refusal(Net(by_values))
    assert text.startswith("a decision or a shape that depends on values cannot be exported")
    assert text.endswith(f"; at {place(by_values, 'x.sum')}")


def test_fault_of_the_model_itself_is_one_line_with_its_place() -> None:
    text = refusal(Net(misfit))
    assert text.startswith("the model or loss fails: RuntimeError: ")
    assert text.endswith(f"; at {place(misfit, 'x @ x')}")
    assert "\n" not in text
