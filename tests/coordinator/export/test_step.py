import functools
import itertools
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from coordinator.export.step import export_step
from edge_client.runtime import OnnxRuntime
from shared.errors import ExportError
from shared.messages import LocalWork
from tests.coordinator.export.exported import Arrays, Exported, away_from_start, run, session
from tests.coordinator.export.zoo import CLASSES, lenet, mlp

BATCHES = (1, 7, 32)


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


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "uneven sensors": (uneven_sensors, (6, 101)),
    "group norm": (group_norm_net, (3, 17, 16)),
    "batch norm": (batch_norm_net, (6, 100)),
    "relu": (lambda: lenet(functools.partial(nn.ReLU, inplace=True)), (1, 28, 28)),
}


@functools.cache
def case(name: str) -> Exported:
    torch.manual_seed(7)
    make, _ = MODELS[name]
    return Exported.of(away_from_start(make()), functional.cross_entropy, *batch(name, 4))


def batch(name: str, size: int) -> tuple[Tensor, Tensor]:
    return torch.randn(size, *MODELS[name][1]), torch.randint(0, CLASSES, (size,))


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("name", ["uneven sensors", "group norm"])
def test_unusual_windows_and_groups_agree_with_float64_autograd(name: str, size: int) -> None:
    model, (x, y) = case(name), batch(name, size)
    outputs, expected = model.train(x, y), model.reference(x, y)
    assert model.gradient_error(outputs, expected) < 1e-5
    assert outputs["loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize("size", BATCHES)
def test_relu_gradient_agrees_but_for_units_that_rounding_switches(size: int) -> None:
    # A pre-activation within float32 rounding of 0 may land on the other side of 0 than in float64: of the thousands
    # of units here a handful can, each moves the gradient by about its own share.
    model, (x, y) = case("relu"), batch("relu", size)
    assert model.gradient_error(model.train(x, y), model.reference(x, y)) < 1e-2


def test_each_batch_norm_gradient_agrees() -> None:
    model, (x, y) = case("batch norm"), batch("batch norm", 7)
    outputs = model.train(x, y)
    for name, expected in model.reference(x, y).items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_layout_lists_trained_parameters_then_buffers_with_their_roles() -> None:
    tensors = case("batch norm").graphs.layout.tensors
    assert [(tensor.name, tensor.role) for tensor in tensors] == [
        ("0.weight", "weight"), ("0.bias", "bias"), ("1.weight", "norm"), ("1.bias", "norm"),
        ("4.weight", "weight"), ("4.bias", "bias"), ("1.running_mean", "buffer"), ("1.running_var", "buffer"),
    ]  # fmt: skip


def test_initial_weights_are_the_parameters_in_layout_order() -> None:
    model = case("group norm")
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in model.model.parameters()])
    np.testing.assert_array_equal(model.weights, expected.numpy())


@functools.cache
def fine_tuned(frozen: bool = True) -> Exported:
    """A network whose first norm keeps its statistics; it and the convolution before may be frozen."""
    torch.manual_seed(5)
    model = FrozenStatistics()
    for parameter in model.body.parameters():
        parameter.requires_grad_(not frozen)
    return Exported.of(away_from_start(model), functional.cross_entropy, *batch("batch norm", 4))


class FrozenStatistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(6, 8, 3), nn.BatchNorm1d(8))
        self.middle = nn.Sequential(nn.SiLU(), nn.Conv1d(8, 4, 3, stride=2), nn.BatchNorm1d(4), nn.SiLU())
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.middle(self.body(x)).mean(2)))

    def train(self, mode: bool = True) -> "FrozenStatistics":
        super().train(mode)
        self.body.eval()
        return self


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("frozen", [True, False])
def test_gradient_beside_frozen_layers_and_statistics_agrees_with_float64_autograd(frozen: bool, size: int) -> None:
    model, (x, y) = fine_tuned(frozen), batch("batch norm", size)
    outputs, expected = model.train(x, y), model.reference(x, y)
    assert outputs.keys() == expected.keys()
    assert model.gradient_error(outputs, expected) < 1e-5


def test_frozen_parameters_are_inputs_with_a_role_of_their_own_and_no_constants() -> None:
    graphs = fine_tuned().graphs
    roles = {tensor.name: tensor.role for tensor in graphs.layout.tensors}
    assert [name for name, role in roles.items() if role == "frozen"] == [
        "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias",
    ]  # fmt: skip
    inputs = {value.name for value in session(graphs.train).get_inputs()}
    assert {"p.body.0.weight", "p.body.0.bias", "p.body.1.weight", "p.body.1.bias"} <= inputs


def test_device_leaves_frozen_parameters_bit_for_bit_despite_weight_decay() -> None:
    model, (x, y) = fine_tuned(), batch("batch norm", 8)
    layout, weights = model.graphs.layout, model.weights
    work = LocalWork(steps=3, batch_size=8, learning_rate=0.1, momentum=0.0, weight_decay=0.1, codec="dense", seed=0)
    runtime = OnnxRuntime(model.graphs.train, model.graphs.evaluate, layout)
    runtime.train(weights, itertools.repeat((x.numpy(), y.numpy())), work, lambda: True)
    moved = {name for name, part in layout.split(weights - model.weights).items() if part.any()}
    still = {tensor.name for tensor in layout.tensors if tensor.role == "frozen"}
    assert moved == {t.name for t in layout.tensors} - still - {"body.1.running_mean", "body.1.running_var"}


def test_regression_loss_has_no_count_of_hits() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 2))
    x, y = torch.randn(9, 6), torch.randn(9, 2)
    regression = Exported.of(model, functional.mse_loss, x[:3], y[:3])
    outputs, expected = regression.train(x, y), regression.reference(x, y)
    assert regression.gradient_error(outputs, expected) < 1e-5
    assert outputs["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    graphs = regression.graphs
    assert run(graphs.evaluate, regression.feed(x, y, regression.weights)).keys() == {"loss"}
    score = OnnxRuntime(graphs.train, graphs.evaluate, graphs.layout).evaluate(regression.weights, x.numpy(), y.numpy())
    assert (score.correct, score.examples) == (None, 9)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_score_a_row_is_right_on_the_side_of_its_label(shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Linear(6, 1), nn.Unflatten(1, (1, *shape)), nn.Flatten(0 if not shape else 1))

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(prediction.flatten(), target.to(prediction.dtype))

    x, y = torch.randn(20, 6), torch.randint(0, 2, (20,))
    two_sided = Exported.of(model, loss, x, y)
    correct = run(two_sided.graphs.evaluate, two_sided.feed(x, y, two_sided.weights))["correct"]
    assert 0 < correct == ((model(x).flatten() > 0) == (y == 1)).sum().item() < 20


@pytest.mark.parametrize(
    ("x", "y", "refusal"),
    [
        (torch.zeros(3, 20).byte(), torch.zeros(3).long(), r"inputs are torch\.uint8: use float32"),
        (torch.zeros(3, 20), torch.zeros(3).int(), r"labels are torch\.int32 .*use int64 \[batch\]"),
        (torch.zeros(3, 20), torch.zeros(3, 2).long(), r"of shape \(3, 2\): use int64 \[batch\]"),
    ],
)
def test_inputs_and_labels_of_unusable_types_are_refused(x: Tensor, y: Tensor, refusal: str) -> None:
    with pytest.raises(ExportError, match=refusal):
        export_step(mlp(), functional.cross_entropy, x, y)


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
