"""The exported graphs of shipped tasks, kept in the user's cache: exporting takes longer than a small emulation."""

import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from coordinator.export.step_graphs import StepGraphs
from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.shelf import cache_folder
from coordinator.tasks.task import EXAMPLE_BATCH
from shared.layout import Layout

PACKAGE = Path(__file__).parents[1]
SOURCES = (*(PACKAGE / "export").rglob("*.py"), *(PACKAGE / "tasks").glob("*.py"), PACKAGE.parent / "shared/layout.py")
"""All of ours that a graph follows from."""


def graphs_of(
    task: ArrayTask, model: torch.nn.Module, shape: tuple[int, ...], folder: Path | None = None
) -> StepGraphs:
    """The graphs of a shipped task's model for inputs of this shape: from the cache where they were made before.

    A file is found again only by the same sources, torch and onnx, so that a change of any of them makes them anew.
    """
    path = (folder or cache_folder()) / f"graphs-{task.name}-{_key(task, shape)}.npz"
    if not path.is_file():
        _write(path, _exported(task, model, shape))
    with np.load(path, allow_pickle=False) as kept:
        parts = {name: kept[name].tobytes() for name in kept.files}
    rows = [(str(name), tuple(sizes), role) for name, sizes, role in json.loads(parts["layout"])]
    return StepGraphs(parts["train"], parts["evaluate"], parts["predict"], Layout.of(rows))


def _exported(task: ArrayTask, model: torch.nn.Module, shape: tuple[int, ...]) -> StepGraphs:
    from coordinator.export.step import export_step  # noqa: PLC0415  loads what traces, which the cache saves

    x, y = torch.zeros(EXAMPLE_BATCH, *shape), torch.zeros(EXAMPLE_BATCH, dtype=torch.int64)
    return export_step(model, task.loss, x, y)


def _write(path: Path, graphs: StepGraphs) -> None:
    """Whole or not at all: two emulations may begin at once."""
    parts = {
        "train": graphs.train,
        "evaluate": graphs.evaluate,
        "predict": graphs.predict,
        "layout": json.dumps(graphs.layout.to_json()).encode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        np.savez(partial, allow_pickle=False, **{name: np.frombuffer(part, np.uint8) for name, part in parts.items()})
        partial.replace(path)


def _key(task: ArrayTask, shape: tuple[int, ...]) -> str:
    digest = hashlib.sha256(json.dumps([task.name, shape, version("torch"), version("onnx")]).encode())
    for source in sorted(SOURCES):
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:16]
