"""Every loss a user may bring gives the value and gradient that it has in torch."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from coordinator.export.step import Loss
from tests.coordinator.export.exported import Exported
from tests.coordinator.export.zoo import CLASSES

Labels = Callable[[int], Tensor]
WEIGHTS = (0.5, 2.0, 1.0, 0.0, 3.0)


def classes(size: int) -> Tensor:
    return torch.randint(0, CLASSES, (size,))


def some_ignored(value: int) -> Labels:
    """Class labels of which every third is `value`."""

    def labels(size: int) -> Tensor:
        chosen = classes(size)
        chosen[2::3] = value
        return chosen

    return labels


def numbers(size: int) -> Tensor:
    return 2 * torch.randn(size, CLASSES)


def shares(size: int) -> Tensor:
    return torch.rand(size, CLASSES)


def sides(size: int) -> Tensor:
    return torch.randint(0, 2, (size,))


def cross_entropy(**options: Any) -> Loss:
    return functools.partial(functional.cross_entropy, **options)


def weighted(**options: Any) -> Loss:
    return nn.CrossEntropyLoss(torch.tensor(WEIGHTS), **options)


def per_example_mean(prediction: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(prediction, y, reduction="none").mean()


def with_positive_weight(prediction: Tensor, y: Tensor) -> Tensor:
    weight = torch.tensor(WEIGHTS, dtype=prediction.dtype)
    return functional.binary_cross_entropy_with_logits(prediction, y, pos_weight=weight)


def two_sides(prediction: Tensor, y: Tensor) -> Tensor:
    logits = prediction.mean(1)
    return functional.binary_cross_entropy_with_logits(logits, y.to(logits.dtype))


@dataclass(frozen=True)
class Case:
    loss: Loss
    labels: Labels


CASES: dict[str, Case] = {
    "cross entropy": Case(cross_entropy(), classes),
    "cross entropy, sum": Case(cross_entropy(reduction="sum"), classes),
    "cross entropy, per example": Case(per_example_mean, classes),
    "cross entropy, default ignored": Case(cross_entropy(), some_ignored(-100)),
    "cross entropy, last class ignored": Case(cross_entropy(ignore_index=-1), some_ignored(-1)),
    "cross entropy, a class ignored": Case(cross_entropy(ignore_index=2), some_ignored(2)),
    "cross entropy, a class ignored, sum": Case(cross_entropy(ignore_index=2, reduction="sum"), some_ignored(2)),
    "class weights": Case(weighted(), classes),
    "class weights, sum": Case(weighted(reduction="sum"), classes),
    "class weights, a class ignored": Case(weighted(ignore_index=2), some_ignored(2)),
    "label smoothing": Case(cross_entropy(label_smoothing=0.1), classes),
    "label smoothing, a class ignored": Case(cross_entropy(label_smoothing=0.1, ignore_index=2), some_ignored(2)),
    "label smoothing, class weights": Case(weighted(label_smoothing=0.1), classes),
    "soft labels": Case(cross_entropy(), lambda size: shares(size).softmax(1)),
    "binary cross entropy": Case(functional.binary_cross_entropy_with_logits, shares),
    "binary cross entropy, weighted": Case(with_positive_weight, shares),
    "binary cross entropy, class labels": Case(two_sides, sides),
    "mean squared error": Case(functional.mse_loss, numbers),
    "mean absolute error": Case(functional.l1_loss, numbers),
    "huber": Case(functools.partial(functional.huber_loss, delta=0.7), numbers),
    "smooth l1": Case(functools.partial(functional.smooth_l1_loss, beta=0.7), numbers),
    "negative log likelihood": Case(lambda prediction, y: functional.nll_loss(prediction.log_softmax(1), y), classes),
    "kullback-leibler": Case(
        lambda prediction, y: functional.kl_div(prediction.log_softmax(1), y, reduction="batchmean"),
        lambda size: shares(size).softmax(1),
    ),
}


@functools.cache
def exported(name: str) -> Exported:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))
    return Exported.of(model, CASES[name].loss, torch.zeros(4, 6), CASES[name].labels(4))


@pytest.mark.parametrize("size", [1, 7, 32])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_agree_with_float64_autograd(name: str, size: int) -> None:
    torch.manual_seed(size)
    model, x, y = exported(name), torch.randn(size, 6), CASES[name].labels(size)
    outputs, expected = model.train(x, y), model.reference(x, y)
    assert outputs["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert model.gradient_error(outputs, expected) <= 1e-5


def test_batch_of_ignored_labels_alone_has_no_mean_as_in_torch() -> None:
    model = exported("cross entropy, default ignored")
    x, y = torch.randn(3, 6), torch.full((3,), -100)
    assert np.isnan(model.train(x, y)["loss"])
    assert np.isnan(model.reference(x, y)["loss"])
