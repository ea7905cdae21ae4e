"""Every family of models trains on the device as it would in torch: gradients, buffers, losses, short trajectories."""

import copy
import functools
import itertools
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from coordinator.export.step_graphs import initial_weights
from edge_client.runtime import OnnxRuntime
from shared.messages import LocalWork
from tests.coordinator.export.exported import Exported, away_from_start, run
from tests.coordinator.export.zoo import CLASSES, FAMILIES

BATCHES = (1, 7, 32)
LARGEST_GRAPH_BYTES = 100_000
WORK = LocalWork(
    steps=8, batch_size=8, learning_rate=0.05, momentum=0.9, weight_decay=0.001, clip_norm=1.0, codec="dense", seed=0
)


@functools.cache
def exported(family: str) -> Exported:
    torch.manual_seed(7)
    model = away_from_start(FAMILIES[family].make())
    x, y = batch(family, 4)
    return Exported.of(model, functional.cross_entropy, x, y)


@functools.cache
def runtime(family: str) -> OnnxRuntime:
    graphs = exported(family).graphs
    return OnnxRuntime(graphs.train, graphs.evaluate, graphs.layout)


def batch(family: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(size)
    return FAMILIES[family].inputs(size), torch.randint(0, CLASSES, (size,))


def sizes_of(family: str) -> tuple[int, ...]:
    return (7,) if family == "resnet-20 group norm" else BATCHES


@pytest.mark.parametrize(("family", "size"), [(name, size) for name in FAMILIES for size in sizes_of(name)])
def test_loss_gradient_and_buffers_agree_with_float64_autograd(family: str, size: int) -> None:
    model, (x, y) = exported(family), batch(family, size)
    outputs, expected = model.train(x, y), model.reference(x, y)
    assert outputs.keys() == expected.keys()
    assert model.gradient_error(outputs, expected) <= 1e-5
    assert outputs["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for name in expected:
        if name.startswith("nb."):
            np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_on_the_device_lead_where_torch_leads(family: str) -> None:
    model, (x, y) = exported(family), batch(family, 4 * WORK.batch_size)
    weights, layout = model.weights, model.graphs.layout
    batches = [(x[rows], y[rows]) for rows in torch.arange(len(x)).view(-1, WORK.batch_size)]
    arrays = itertools.cycle([(part_x.numpy(), part_y.numpy()) for part_x, part_y in batches])
    report = runtime(family).train(weights, arrays, WORK, lambda: True)
    trained = copy.deepcopy(model.model)
    losses = list(torch_losses(trained, batches))
    assert report.loss == pytest.approx(np.mean(losses), rel=1e-4)
    moved, expected = weights - model.weights, initial_weights(trained, layout) - model.weights
    assert np.linalg.norm(moved - expected) < 1e-3 * np.linalg.norm(expected)


def torch_losses(model: torch.nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[float]:
    """The losses of the same steps in torch, which move `model`."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=WORK.learning_rate, momentum=WORK.momentum or 0.0, weight_decay=WORK.weight_decay
    )
    for x, y in itertools.islice(itertools.cycle(batches), WORK.steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        clip_grad_norm_(model.parameters(), WORK.clip_norm or np.inf)
        optimizer.step()
        yield loss.item()


@pytest.mark.parametrize("family", FAMILIES)
def test_score_and_prediction_are_those_of_the_model_in_evaluation_mode(family: str) -> None:
    model, (x, y) = exported(family), batch(family, 40)
    evaluated = copy.deepcopy(model.model).eval()
    with torch.no_grad():
        prediction = evaluated(x)
    score = runtime(family).evaluate(model.weights, x.numpy(), y.numpy())
    assert score.loss == pytest.approx(functional.cross_entropy(prediction, y).item(), rel=1e-4)
    assert (score.correct, score.examples) == (int((prediction.argmax(1) == y).sum()), 40)
    found = run(model.graphs.predict, model.feed(x, y, model.weights))["y"]
    np.testing.assert_allclose(found, prediction.numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_are_plain_small_and_take_every_weight_as_an_input(family: str) -> None:
    model = exported(family)
    for serialized in (model.graphs.train, model.graphs.evaluate, model.graphs.predict):
        graph = onnx.load_model_from_string(serialized)
        assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18)]
        assert graph.ir_version == 8
        assert {node.domain for node in graph.graph.node} == {""}
        wanted = model.feed(*batch(family, 1), model.weights).keys() - {"y"}
        assert {value.name for value in graph.graph.input} >= wanted
        assert len(serialized) < LARGEST_GRAPH_BYTES
