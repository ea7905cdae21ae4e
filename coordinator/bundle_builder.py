"""From a task to what devices get: exported graphs in a signed bundle, and the initial weights."""

import torch

from coordinator.export.step import StepGraphs, export_step, initial_weights
from coordinator.export.trainer_peak import trainer_peak_bytes
from coordinator.tasks.task import Task
from shared.bundle import BundleManifest, file_entries, pack_bundle, sign_bundle
from shared.layout import F32
from shared.signing import SigningKey


def build_bundle(task: Task, seed: int, key: SigningKey, batch_size: int = 32) -> tuple[bytes, F32]:
    """The signed bundle of a task, and its initial weights float32 `[size]`, drawn by `seed`.

    `batch_size` is that of training; the estimate of its memory depends on it.
    """
    torch.manual_seed(seed)
    model = task.model()
    x, y = task.example()
    graphs = export_step(model, task.loss, x, y)
    peak_bytes = trainer_peak_bytes(graphs, batch_size)
    return _bundle(task, graphs, list(x.shape[1:]), peak_bytes, key), initial_weights(model, graphs.layout)


def _bundle(task: Task, graphs: StepGraphs, input_shape: list[int], peak_bytes: int, key: SigningKey) -> bytes:
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
        estimated_peak_bytes=peak_bytes,
    )
    return pack_bundle(sign_bundle(manifest, key), files)
