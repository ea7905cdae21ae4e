import sys

import numpy as np
import onnxruntime
import pytest
import torch

from coordinator.export.step import export_step
from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples, joined
from coordinator.tasks.registry import ARRAY_TASKS, array_task_by_name
from coordinator.tasks.shelf import shelf_folder
from shared.errors import DataError, SettingsError

SHAPES = {
    "digits": (50_610, (64,), 1_437, 360, 10, 0),
    "mnist": (220_874, (1, 28, 28), 60_000, 10_000, 10, 0),
    "fashion-mnist": (220_874, (1, 28, 28), 60_000, 10_000, 10, 0),
    "cifar10": (77_850, (3, 32, 32), 50_000, 10_000, 10, 0),
    "watch": (24_103, (6, 100), 3_453, 732, 7, 10),
    "motions": (23_908, (6, 100), 40, 40, 4, 0),
    "spoken-digits": (34_026, (1, 32, 32), 2_700, 300, 10, 6),
}


def test_every_task_is_listed_here() -> None:
    assert set(SHAPES) | {"crowd"} == set(ARRAY_TASKS), "crowd is made up: see test_crowd.py"


@pytest.mark.parametrize("name", SHAPES)
def test_model_has_the_weights_its_docstring_counts(name: str) -> None:
    weights, shape, _, _, classes, _ = SHAPES[name]
    task = ARRAY_TASKS[name]
    model = task.model()
    assert sum(part.numel() for part in model.parameters()) == weights
    assert f"{weights:,} weights" in (model.__doc__ or "")
    logits = model(torch.zeros(3, *shape))
    assert logits.shape == (3, classes)
    assert task.loss(logits, torch.zeros(3, dtype=torch.int64)).ndim == 0


@pytest.mark.parametrize("name", SHAPES)
def test_data_are_whole_standardised_and_owned(name: str) -> None:
    _, shape, train_count, test_count, classes, owners = SHAPES[name]
    train, test = _loaded(ARRAY_TASKS[name])
    assert (len(train), len(test)) == (train_count, test_count)
    for part in (train, test):
        assert part.x.shape[1:] == shape
        assert set(np.unique(part.y)) == set(range(classes))
        assert set(() if part.owner is None else np.unique(part.owner)) == set(range(owners))
    assert abs(train.x.mean()) < 0.05
    assert train.x.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"digits", "watch"}))
def test_set_that_is_not_at_hand_names_its_source(name: str, nothing_at_hand: None) -> None:
    with pytest.raises(DataError, match=r"is neither in .*get it from .*GRADSIEVE_DATA"):
        ARRAY_TASKS[name].load()


def test_digits_without_scikit_learn_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"scikit-learn: install gradsieve\[bench\]"):
        ARRAY_TASKS["digits"].load()


@pytest.mark.parametrize("name", ["mnist", "cifar10", "spoken-digits"])
def test_model_and_its_gradient_export_for_devices(name: str) -> None:
    _, shape, _, _, classes, _ = SHAPES[name]
    task = ARRAY_TASKS[name]
    torch.manual_seed(0)
    model, x = task.model().eval(), torch.randn(4, *shape)
    graphs = export_step(model, task.loss, x, torch.zeros(4, dtype=torch.int64))
    named = {f"p.{tensor_name}": part.detach().numpy() for tensor_name, part in model.named_parameters()}
    (logits,) = onnxruntime.InferenceSession(graphs.predict).run(["y"], {"x": x.numpy(), **named})
    assert logits.shape == (4, classes)
    with torch.inference_mode():
        np.testing.assert_allclose(logits, model(x), atol=1e-4)


def test_unknown_task_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"'mnits' is unknown: choose one of .*mnist"):
        array_task_by_name("mnits")


class _Guess(torch.nn.Module):
    """Says of each example what its one value is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(x[:, 0].long(), 3).float()


def test_accuracy_weighs_examples_or_owners_alike() -> None:
    one = Examples(np.array([[0], [1], [2]], np.float32), np.array([0, 1, 0]))
    test = joined([one, Examples(np.array([[2]], np.float32), np.array([1]))])
    each = ArrayTask("each", _Guess, lambda: (test, test), 0.1)
    owners = ArrayTask("owners", _Guess, lambda: (test, test), 0.1, mean_over_owners=True)
    assert each.accuracy(_Guess(), test) == pytest.approx(2 / 4)
    assert owners.accuracy(_Guess(), test) == pytest.approx((2 / 3 + 0) / 2)
    assert owners.accuracy(_Guess(), test.take(np.array([3]))) == 0


def test_accuracy_leaves_the_model_in_the_mode_it_was_in() -> None:
    test = Examples(np.zeros((2, 1), np.float32), np.zeros(2, np.int64))
    for model in (_Guess().train(), _Guess().eval()):
        before = model.training
        ArrayTask("one", _Guess, lambda: (test, test), 0.1).accuracy(model, test)
        assert model.training == before


def test_arrays_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(DataError, match="equally many"):
        Examples(np.zeros((2, 1), np.float32), np.zeros(3, np.int64))
    with pytest.raises(DataError, match="equally many and some"):
        Examples(np.zeros((0, 1), np.float32), np.zeros(0, np.int64))
    with pytest.raises(DataError, match="float32, int64"):
        Examples(np.zeros((2, 1), np.float32), np.zeros(2, np.int32))


def _loaded(task: ArrayTask) -> tuple[Examples, Examples]:
    if task.name != "digits" and not any(shelf_folder().glob("*")):
        pytest.skip(f"no data sets at {shelf_folder()}: set GRADSIEVE_DATA")
    return task.load()
