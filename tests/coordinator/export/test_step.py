import copy
import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from coordinator.export.step import Loss, StepGraphs, export_step, initial_weights
from shared.errors import ExportError
from shared.layout import F32

CLASSES = 5
BATCHES = (1, 7, 32)

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, CLASSES))


def lenet(activation: Callable[[], nn.Module] = nn.SiLU) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), activation(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), activation(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 84), nn.GELU(), nn.Linear(84, CLASSES),
    )  # fmt: skip


class Sensors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(6, 32, 5, stride=2)
        self.second = nn.Conv1d(32, 64, 5, stride=2)
        self.third = nn.Conv1d(64, 64, 3)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second, self.third):
            x = functional.gelu(layer(x))
        return torch.as_tensor(self.head(x.mean(2)))


def uneven_sensors() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 8, 5, stride=3, padding=2), nn.GELU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 8, 3, dilation=2, padding=1), nn.SiLU(), nn.MaxPool1d(3, 2, 1),
        nn.Conv1d(8, 8, 1, bias=False), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, CLASSES),
    )  # fmt: skip


def group_norm_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.GroupNorm(4, 8), nn.SiLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GroupNorm(2, 8, affine=False), nn.GELU(),
        nn.Conv2d(8, 8, 3, groups=2, bias=False), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, CLASSES),
    )  # fmt: skip


def batch_norm_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 8, 3), nn.BatchNorm1d(8), nn.Hardtanh(-3, 3, inplace=True),
        nn.Flatten(), nn.Linear(8 * 98, CLASSES),
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    model: nn.Module
    untouched: nn.Module
    loss: Loss
    shape: tuple[int, ...]
    graphs: StepGraphs

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        return torch.randn(size, *self.shape), torch.randint(0, CLASSES, (size,))

    def feed(self, x: Tensor, y: Tensor, weights: F32) -> Arrays:
        trained = dict(self.model.named_parameters())
        named = self.graphs.layout.split(weights)
        tensors = {f"{'p' if name in trained else 'b'}.{name}": array for name, array in named.items()}
        return {"x": x.numpy(), "y": y.numpy(), **tensors}

    @property
    def weights(self) -> F32:
        return initial_weights(self.model, self.graphs.layout)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (20,)),
    "lenet": (lenet, (1, 28, 28)),
    "sensors": (Sensors, (6, 100)),
    "uneven sensors": (uneven_sensors, (6, 101)),
    "group norm": (group_norm_net, (3, 17, 16)),
    "batch norm": (batch_norm_net, (6, 100)),
    "relu": (lambda: lenet(functools.partial(nn.ReLU, inplace=True)), (1, 28, 28)),
}
SMOOTH = ["mlp", "lenet", "sensors", "uneven sensors", "group norm"]


def exported(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> Case:
    return Case(model, copy.deepcopy(model), loss, tuple(x.shape[1:]), export_step(model, loss, x, y))


@functools.cache
def case(family: str) -> Case:
    torch.set_num_threads(1)
    torch.manual_seed(7)
    make, shape = FAMILIES[family]
    model = make()
    with torch.no_grad():  # norms start at exactly 1 and 0, which would hide a weight that is left out
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, y = torch.randn(4, *shape), torch.randint(0, CLASSES, (4,))
    return exported(model, functional.cross_entropy, x, y)


@functools.cache
def session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(graph: bytes, feed: Arrays) -> Arrays:
    opened = session(graph)
    wanted = {value.name for value in opened.get_inputs()}
    results = opened.run(None, {name: array for name, array in feed.items() if name in wanted})
    return dict(zip([value.name for value in opened.get_outputs()], results, strict=True))


def reference(case: Case, x: Tensor, y: Tensor) -> tuple[float, Array]:
    model = copy.deepcopy(case.model).double().train()
    loss = case.loss(model(x.double()), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return loss.item(), np.concatenate([gradient.numpy().reshape(-1) for gradient in gradients])


def flat_gradient(case: Case, outputs: Arrays) -> Array:
    return np.concatenate([outputs[f"g.{name}"].reshape(-1) for name, _ in case.model.named_parameters()])


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("family", SMOOTH)
def test_loss_and_gradient_agree_with_float64_autograd(family: str, size: int) -> None:
    model = case(family)
    x, y = model.batch(size)
    outputs = run(model.graphs.train, model.feed(x, y, model.weights))
    loss, expected = reference(model, x, y)
    error = np.linalg.norm(flat_gradient(model, outputs) - expected) / np.linalg.norm(expected)
    assert error < 1e-5
    assert outputs["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("size", BATCHES)
def test_relu_gradient_agrees_but_for_units_that_rounding_switches(size: int) -> None:
    # A pre-activation within float32 rounding of 0 may land on the other side of 0 than in float64: of the thousands
    # of units here a handful can, each moves the gradient by about its own share.
    model = case("relu")
    x, y = model.batch(size)
    outputs = run(model.graphs.train, model.feed(x, y, model.weights))
    _, expected = reference(model, x, y)
    error = np.linalg.norm(flat_gradient(model, outputs) - expected) / np.linalg.norm(expected)
    assert error < 1e-2


def test_batch_norm_gradient_and_running_statistics_agree() -> None:
    model = case("batch norm")
    x, y = model.batch(7)
    outputs = run(model.graphs.train, model.feed(x, y, model.weights))
    trained = copy.deepcopy(model.model).double().train()
    expected = torch.autograd.grad(model.loss(trained(x.double()), y), list(trained.parameters()))
    for (name, _), gradient in zip(trained.named_parameters(), expected, strict=True):
        np.testing.assert_allclose(outputs[f"g.{name}"], gradient.numpy(), rtol=1e-4, atol=1e-6)
    for name in ("1.running_mean", "1.running_var"):
        np.testing.assert_allclose(outputs[f"nb.{name}"], trained.get_buffer(name).numpy(), rtol=1e-5, atol=1e-6)


def test_ten_steps_of_descent_follow_torch() -> None:
    model = case("sensors")
    x, y = model.batch(32)
    trained = copy.deepcopy(model.model)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05)
    weights = model.weights
    for _ in range(10):
        outputs = run(model.graphs.train, model.feed(x, y, weights))
        weights = weights - np.float32(0.05) * flat_gradient(model, outputs).astype(np.float32)
        optimizer.zero_grad()
        loss = model.loss(trained(x), y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
        assert outputs["loss"] == pytest.approx(loss.item(), abs=1e-5)
    np.testing.assert_allclose(weights, initial_weights(trained, model.graphs.layout), atol=1e-5)


@pytest.mark.parametrize("family", ["mlp", "sensors", "group norm", "batch norm"])
def test_evaluate_and_predict_agree_with_the_model_in_evaluation_mode(family: str) -> None:
    model = case(family)
    x, y = model.batch(32)
    evaluated = copy.deepcopy(model.model).eval()
    with torch.no_grad():
        prediction = evaluated(x)
    feed = model.feed(x, y, model.weights)
    outputs = run(model.graphs.evaluate, feed)
    assert outputs["loss"] == pytest.approx(model.loss(prediction, y).item(), rel=1e-5)
    assert outputs["correct"].dtype == np.int64
    assert outputs["correct"] == (prediction.argmax(1) == y).sum().item()
    np.testing.assert_allclose(run(model.graphs.predict, feed)["y"], prediction.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_are_plain_and_take_every_weight_as_an_input(family: str) -> None:
    model = case(family)
    for serialized in (model.graphs.train, model.graphs.evaluate, model.graphs.predict):
        graph = onnx.load_model_from_string(serialized)
        assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18)]
        assert graph.ir_version == 8
        assert {node.domain for node in graph.graph.node} == {""}
        assert {value.name for value in graph.graph.input} >= model.feed(*model.batch(1), model.weights).keys() - {"y"}
        assert len(serialized) < 25_000


def test_layout_lists_trained_parameters_then_buffers_with_their_roles() -> None:
    tensors = case("batch norm").graphs.layout.tensors
    assert [(tensor.name, tensor.role) for tensor in tensors] == [
        ("0.weight", "weight"), ("0.bias", "bias"), ("1.weight", "norm"), ("1.bias", "norm"),
        ("4.weight", "weight"), ("4.bias", "bias"), ("1.running_mean", "buffer"), ("1.running_var", "buffer"),
    ]  # fmt: skip


def test_initial_weights_are_the_parameters_in_layout_order() -> None:
    model = case("mlp")
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in model.model.parameters()])
    np.testing.assert_array_equal(model.weights, expected.numpy())


def test_frozen_parameter_is_carried_as_a_buffer() -> None:
    model = mlp()
    model.get_parameter("0.weight").requires_grad_(False)
    x, y = torch.randn(3, 20), torch.randint(0, CLASSES, (3,))
    frozen = exported(model, functional.cross_entropy, x, y)
    feed = frozen.feed(x, y, frozen.weights)
    feed["b.0.weight"] = feed.pop("p.0.weight")
    outputs = run(frozen.graphs.train, feed)
    assert frozen.graphs.layout.tensors[-1].name == "0.weight"
    np.testing.assert_array_equal(outputs["nb.0.weight"], feed["b.0.weight"])
    assert "g.0.weight" not in outputs


def test_regression_loss_has_no_count_of_hits() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 2))
    x, y = torch.randn(9, 6), torch.randn(9, 2)
    regression = exported(model, functional.mse_loss, x[:3], y[:3])
    feed = regression.feed(x, y, regression.weights)
    outputs = run(regression.graphs.train, feed)
    loss, expected = reference(regression, x, y)
    np.testing.assert_allclose(flat_gradient(regression, outputs), expected, rtol=1e-4, atol=1e-6)
    assert run(regression.graphs.evaluate, feed).keys() == {"loss"}
    assert outputs["loss"] == pytest.approx(loss, rel=1e-5)


def test_dropout_layers_draw_masks_of_their_own_and_only_in_training() -> None:
    model = nn.Sequential(nn.Linear(4, 1000, bias=False), nn.Dropout(0.25), nn.Dropout(0.5))
    x, y = torch.ones(1, 4), torch.zeros(1, 1000)
    graphs = export_step(model, lambda prediction, _: prediction.sum(), x, y)
    feed: Arrays = {"x": x.numpy(), "y": y.numpy(), "p.0.weight": np.ones((1000, 4), np.float32)}
    gradient = run(graphs.train, feed)["g.0.weight"][:, 0]
    np.testing.assert_allclose(np.unique(gradient), np.array([0, 1 / (0.75 * 0.5)]), rtol=1e-6)
    assert 0.3 < np.mean(gradient != 0) < 0.45
    assert run(graphs.evaluate, feed)["loss"] == 4000


def test_export_leaves_the_model_as_it_was() -> None:
    model = case("batch norm")
    assert all(module.training for module in model.model.modules())
    for name, tensor in model.model.state_dict().items():
        torch.testing.assert_close(tensor, model.untouched.state_dict()[name], rtol=0, atol=0)


EXPORT_AGAIN = """
import hashlib, torch
from torch import nn
from coordinator.export.step import export_step
model = nn.Sequential(nn.Conv1d(6, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 18, 5))
graphs = export_step(model, nn.functional.cross_entropy, torch.randn({batch}, 6, 20), torch.zeros({batch}).long())
digest = hashlib.sha256(graphs.train + graphs.evaluate + graphs.predict).hexdigest()
"""


def test_every_process_exports_the_same_bytes_whatever_the_example_batch() -> None:
    scope: dict[str, str] = {}
    exec(EXPORT_AGAIN.format(batch=9), scope)  # noqa: S102 - the same source as in the other process
    script = EXPORT_AGAIN.format(batch=2) + "print(digest)"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == scope["digest"]


def test_parameter_without_influence_is_named() -> None:
    model = mlp()
    model.register_parameter("idle", nn.Parameter(torch.zeros(3)))
    with pytest.raises(ExportError, match="idle does not affect the loss"):
        export_step(model, functional.cross_entropy, torch.randn(3, 20), torch.zeros(3).long())


def test_double_precision_model_is_refused_by_name() -> None:
    with pytest.raises(ExportError, match=r"0\.weight is torch\.float64"):
        export_step(mlp().double(), functional.cross_entropy, torch.randn(3, 20).double(), torch.zeros(3).long())


def test_loss_of_one_value_per_example_is_refused() -> None:
    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(prediction, target, reduction="none")

    with pytest.raises(ExportError, match="return a float32 scalar"):
        export_step(mlp(), loss, torch.randn(3, 20), torch.zeros(3).long())
