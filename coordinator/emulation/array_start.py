"""The start of a shipped array task's model, made by torch."""

import torch

from coordinator.emulation.start_shelf import Start
from coordinator.export.step_graphs import StepGraphs, initial_weights
from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.registry import ARRAY_TASKS
from coordinator.tasks.task import EXAMPLE_BATCH
from shared.fleet_brief import TorchModule


def made_start(task_name: str, shape: tuple[int, ...], seed: int, graphs: StepGraphs | None = None) -> Start | None:
    """What a task of that name starts from, for inputs of this shape; None where there is no such array task.

    Its `graphs` are made where they are not given: they are the same for every seed.
    """
    if task_name not in ARRAY_TASKS:
        return None
    task = ARRAY_TASKS[task_name]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = task.model()
    graphs = graphs or _exported(task, model, shape)
    with torch.inference_mode():
        classes = int(model.eval()(torch.zeros(1, *shape)).shape[1])
    return Start(graphs, classes, initial_weights(model, graphs.layout), module_of(task))


def _exported(task: ArrayTask, model: torch.nn.Module, shape: tuple[int, ...]) -> StepGraphs:
    from coordinator.export.step import export_step  # noqa: PLC0415  loads what traces, which kept graphs save

    x, y = torch.zeros(EXAMPLE_BATCH, *shape), torch.zeros(EXAMPLE_BATCH, dtype=torch.int64)
    return export_step(model, task.loss, x, y)


def module_of(task: ArrayTask) -> TorchModule | None:
    """Where a process that has torch finds the task's own module and loss; None where they have no name."""
    paths = [f"{found.__module__}:{found.__qualname__}" for found in (task.model, task.loss)]
    return None if any("<" in path for path in paths) else TorchModule(factory=paths[0], loss=paths[1])
