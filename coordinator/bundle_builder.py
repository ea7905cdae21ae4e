"""From a task to what devices get: exported graphs in a signed bundle, and the initial weights."""

import torch

from coordinator.export.step import StepGraphs, export_step, initial_weights
from coordinator.export.trainer_peak import trainer_peak_bytes
from coordinator.tasks.task import Task
from shared.bundle import BundleManifest, Growth, file_entries, pack_bundle, sign_bundle
from shared.growth import grow, growth_like
from shared.layout import F32
from shared.signing import SigningKey


def build_bundle(task: Task, seed: int, key: SigningKey, batch_size: int = 32) -> tuple[bytes, F32]:
    """The signed bundle of a task, and its initial weights float32 `[size]`, drawn by `seed`.

    Where the task begins at random, these are grown by the bundle, so that devices need not fetch them.
    `batch_size` is that of training; the estimate of its memory depends on it.
    """
    torch.manual_seed(seed)
    model = task.model()
    x, y = task.example()
    graphs = export_step(model, task.loss, x, y)
    initial = initial_weights(model, graphs.layout)
    growth = growth_like(initial, graphs.layout, seed) if task.begins_at_random else None
    bundle = _bundle(task, graphs, list(x.shape[1:]), trainer_peak_bytes(graphs, batch_size), growth, key)
    return bundle, initial if growth is None else grow(growth, graphs.layout)


def _bundle(
    task: Task, graphs: StepGraphs, input_shape: list[int], peak_bytes: int, growth: Growth | None, key: SigningKey
) -> bytes:
    files = {
        "train.onnx": graphs.train,
        "eval.onnx": graphs.evaluate,
        "predict.onnx": graphs.predict,
    }
    manifest = BundleManifest(
        name=task.name,
        version="1",
        task="classification",
        input_shape=tuple(input_shape),
        num_classes=task.preprocessing.num_classes,
        preprocessing=task.preprocessing.model_dump(mode="json"),
        layout=tuple((tensor.name, tensor.shape, tensor.role) for tensor in graphs.layout.tensors),
        files=file_entries(files),
        growth=growth,
        estimated_peak_bytes=peak_bytes,
    )
    return pack_bundle(sign_bundle(manifest, key), files)
