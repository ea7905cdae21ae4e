from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional

from coordinator.export.step import export_step
from coordinator.export.step_graphs import StepGraphs, initial_weights
from coordinator.tasks.crowd import CrowdNet
from edge_client.runtime import OnnxRuntime, Runtime
from edge_client.torch_runtime import TorchRuntime
from shared.errors import BundleError, TrainerError
from shared.fleet_brief import TorchModule
from shared.layout import F32, I64, Layout
from shared.messages import LocalWork

MODULE = TorchModule(factory="coordinator.tasks.crowd:CrowdNet", loss="torch.nn.functional:cross_entropy")
ADAM = {"optimizer": "adam", "momentum": None, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


@pytest.fixture(scope="module")
def graphs() -> StepGraphs:
    torch.manual_seed(3)
    return export_step(
        CrowdNet(), functional.cross_entropy, torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64)
    )


def work(**changes: object) -> LocalWork:
    fields: dict[str, object] = {
        "steps": 4, "batch_size": 8, "learning_rate": 0.05, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0,
        "codec": "partition", "seed": 1, "evaluate": True,
    }  # fmt: skip
    return LocalWork.model_validate(fields | changes)


def examples() -> tuple[F32, I64]:
    random = np.random.default_rng(5)
    return random.standard_normal((32, 1, 28, 28)).astype(np.float32), random.integers(0, 10, 32)


def batches() -> Iterator[tuple[F32, I64]]:
    x, y = examples()
    while True:
        for start in range(0, 32, 8):
            yield x[start : start + 8], y[start : start + 8]


@pytest.mark.parametrize("changes", [{}, {"clip_norm": 0.1, "weight_decay": 0.01}, {"proximal_mu": 0.5}, ADAM])
def test_torch_and_the_bundles_graphs_train_to_the_same_weights(graphs: StepGraphs, changes: dict[str, object]) -> None:
    torch.manual_seed(3)
    begin = initial_weights(CrowdNet(), graphs.layout)
    runtimes: list[Runtime] = [
        OnnxRuntime(graphs.train, graphs.evaluate, graphs.layout), TorchRuntime(MODULE, graphs.layout)
    ]  # fmt: skip
    found, scores = [], []
    for runtime in runtimes:
        weights = begin.copy()
        report = runtime.train(weights, batches(), work(**changes), lambda: True)
        assert report.steps == 4
        scores.append(runtime.evaluate(weights, *examples()))
        found.append(weights)
    moved = float(np.linalg.norm(found[0] - begin))
    assert np.linalg.norm(found[0] - found[1]) < 1e-3 * moved
    assert scores[0].loss == pytest.approx(scores[1].loss, rel=1e-3)
    assert scores[0].examples == scores[1].examples == 32


def test_training_ends_when_there_is_no_more_time(graphs: StepGraphs) -> None:
    weights, left = np.zeros(graphs.layout.size, np.float32), iter([True, True, False])
    assert TorchRuntime(MODULE, graphs.layout).train(weights, batches(), work(), lambda: next(left)).steps == 2


def test_weights_that_run_away_are_an_error(graphs: StepGraphs) -> None:
    weights = np.full(graphs.layout.size, 1e30, np.float32)
    with pytest.raises(TrainerError):
        TorchRuntime(MODULE, graphs.layout).train(weights, batches(), work(learning_rate=1e3), lambda: True)


@pytest.mark.parametrize("factory", ["no.such.module:Net", "coordinator.tasks.crowd:NoNet"])
def test_a_module_that_is_not_here_is_named(graphs: StepGraphs, factory: str) -> None:
    with pytest.raises(BundleError, match=factory):
        TorchRuntime(MODULE.model_copy(update={"factory": factory}), graphs.layout)


def test_another_model_than_the_bundles_is_refused() -> None:
    layout = Layout.of([("other.weight", (3, 3), "weight")])
    with pytest.raises(BundleError, match=r"has no other\.weight"):
        TorchRuntime(MODULE, layout)
