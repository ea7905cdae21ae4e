import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from edge_client.runtime import OnnxRuntime
from shared.errors import BundleError, TrainerError
from shared.layout import F32, I64, Layout
from shared.messages import LocalWork

if TYPE_CHECKING:
    from tests.edge_client.conftest import TinyNet, TinyTask

WORK = LocalWork(steps=5, batch_size=16, learning_rate=0.05, momentum=0.9, weight_decay=0.001, codec="dense", seed=0)


@pytest.fixture(scope="module")
def runtime(tiny_task: "TinyTask") -> OnnxRuntime:
    return OnnxRuntime(tiny_task.graphs.train, tiny_task.graphs.evaluate, tiny_task.layout)


def batch(size: int = 16) -> tuple[F32, I64]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((size, 2, 8)).astype(np.float32), rng.integers(0, 3, size)


def always() -> bool:
    return True


def test_steps_lead_where_torch_leads(runtime: OnnxRuntime, tiny_task: "TinyTask", tiny_net: "TinyNet") -> None:
    (x, y), weights = batch(), tiny_task.weights.copy()
    report = runtime.train(weights, itertools.repeat((x, y)), WORK, always)
    optimizer = torch.optim.SGD(tiny_net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.001)
    losses = []
    for _ in range(WORK.steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(tiny_net(torch.from_numpy(x)), torch.from_numpy(y))
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert report.steps == WORK.steps
    assert report.loss == pytest.approx(np.mean(losses), rel=1e-5)
    expected = tiny_net.state_dict()
    for name, tensor in tiny_task.layout.split(weights).items():  # running mean and variance are among them
        np.testing.assert_allclose(tensor, expected[name].numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_score_is_that_of_torch_over_all_windows(
    runtime: OnnxRuntime, tiny_task: "TinyTask", tiny_net: "TinyNet"
) -> None:
    x, y = batch(75)
    score = runtime.evaluate(tiny_task.weights, x, y)
    logits = tiny_net.eval()(torch.from_numpy(x))
    assert score.examples == 75
    assert score.correct == int((logits.argmax(1) == torch.from_numpy(y)).sum())
    assert score.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).item(), rel=1e-5)


def test_same_work_gives_the_same_bits(runtime: OnnxRuntime, tiny_task: "TinyTask") -> None:
    first, second = tiny_task.weights.copy(), tiny_task.weights.copy()
    for weights in (first, second):
        runtime.train(weights, itertools.repeat(batch()), WORK, always)
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != tiny_task.weights.tobytes()


def test_deadline_ends_training_early(runtime: OnnxRuntime, tiny_task: "TinyTask") -> None:
    has_time = iter([True, True, False])
    report = runtime.train(tiny_task.weights.copy(), itertools.repeat(batch()), WORK, lambda: next(has_time))
    assert report.steps == 2


def test_no_time_at_all_leaves_the_weights(runtime: OnnxRuntime, tiny_task: "TinyTask") -> None:
    weights = tiny_task.weights.copy()
    assert runtime.train(weights, itertools.repeat(batch()), WORK, lambda: False).steps == 0
    assert weights.tobytes() == tiny_task.weights.tobytes()


def test_loss_that_is_not_finite_fails(runtime: OnnxRuntime, tiny_task: "TinyTask") -> None:
    x, y = batch()
    with pytest.raises(TrainerError, match="loss of step 1 is nan: lower the learning rate"):
        runtime.train(tiny_task.weights.copy(), [(x * np.float32(np.nan), y)], WORK, always)


def test_buffer_that_is_not_finite_fails_although_the_loss_is(runtime: OnnxRuntime, tiny_task: "TinyTask") -> None:
    weights = tiny_task.weights.copy()
    tiny_task.layout.split(weights)["norm.running_mean"][:] = np.nan
    with pytest.raises(TrainerError, match="no longer finite after 5 steps"):
        runtime.train(weights, itertools.repeat(batch()), WORK, always)


def test_model_that_is_not_finite_is_not_scored(runtime: OnnxRuntime, tiny_task: "TinyTask") -> None:
    with pytest.raises(TrainerError, match="not usable"):
        runtime.evaluate(np.full_like(tiny_task.weights, np.nan), *batch())


def test_graph_of_another_layout_is_refused(tiny_task: "TinyTask") -> None:
    other = Layout(tiny_task.layout.tensors[1:])
    runtime = OnnxRuntime(tiny_task.graphs.train, tiny_task.graphs.evaluate, other)
    with pytest.raises(BundleError, match=r"p\.conv\.weight .*not in the layout"):
        runtime.evaluate(np.zeros(other.size, np.float32), *batch())


def test_graph_without_its_outputs_is_refused(tiny_task: "TinyTask") -> None:
    runtime = OnnxRuntime(tiny_task.graphs.train, tiny_task.graphs.train, tiny_task.layout)
    with pytest.raises(BundleError, match="evaluation graph: its outputs must be loss and correct, or loss"):
        runtime.evaluate(tiny_task.weights, *batch())


def test_adam_steps_lead_where_torch_leads(runtime: OnnxRuntime, tiny_task: "TinyTask", tiny_net: "TinyNet") -> None:
    (x, y), weights = batch(), tiny_task.weights.copy()
    adam = LocalWork(steps=5, batch_size=16, learning_rate=0.01, optimizer="adam", codec="dense", seed=0)
    runtime.train(weights, itertools.repeat((x, y)), adam, always)
    optimizer = torch.optim.Adam(tiny_net.parameters(), lr=0.01)
    for _ in range(adam.steps):
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(tiny_net(torch.from_numpy(x)), torch.from_numpy(y)))
        optimizer.step()
    expected = tiny_net.state_dict()
    for name, tensor in tiny_task.layout.split(weights).items():
        if name not in ("conv.bias", "norm.running_mean"):  # before batch norm: Adam makes steps of rounding errors
            np.testing.assert_allclose(tensor, expected[name].numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
