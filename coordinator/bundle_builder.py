"""From a task, or a user's own model, to what devices get: exported graphs in a signed bundle, and initial weights."""

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from pydantic import ValidationError

from coordinator.export.step import StepGraphs, export_step, initial_weights
from coordinator.tasks.task import Task
from shared.bundle import BundleManifest, file_entries, pack_bundle, sign_bundle
from shared.errors import ExportError
from shared.layout import F32
from shared.preprocessing import Preprocessing
from shared.signing import SigningKey

BASE_PEAK_BYTES = 60 << 20
"""Resident memory of the trainer with its libraries loaded and no graph."""


def build_bundle(task: Task, seed: int, key: SigningKey) -> tuple[bytes, F32]:
    """The signed bundle of a task, and its initial weights float32 `[size]`, drawn by `seed`."""
    torch.manual_seed(seed)
    model = task.model()
    x, y = task.example()
    graphs = export_step(model, task.loss, x, y)
    title = Title(task.name, "1", "classification", tuple(x.shape[1:]), task.preprocessing.num_classes)
    return signed_bundle(title, graphs, task.preprocessing, key), initial_weights(model, graphs.layout)


@dataclass(frozen=True, slots=True)
class Title:
    """What a bundle is called, and what goes in and out of its model; `input_shape` is without the batch."""

    name: str
    version: str
    task: Literal["classification", "regression"]
    input_shape: tuple[int, ...]
    num_classes: int


def signed_bundle(title: Title, graphs: StepGraphs, preprocessing: Preprocessing | None, key: SigningKey) -> bytes:
    """The archive of exported graphs; raises `ExportError` where a manifest cannot say what they are.

    Without `preprocessing` the bundle does not say how recordings become inputs, and no device can train by it yet.
    """
    files = {
        "train.onnx": graphs.train,
        "eval.onnx": graphs.evaluate,
        "predict.onnx": graphs.predict,
    }
    try:
        manifest = BundleManifest(
            **asdict(title),
            preprocessing={} if preprocessing is None else preprocessing.model_dump(mode="json"),
            layout=tuple((tensor.name, tensor.shape, tensor.role) for tensor in graphs.layout.tensors),
            files=file_entries(files),
            estimated_peak_bytes=BASE_PEAK_BYTES + 16 * graphs.layout.size,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ExportError(f"bundle {title.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return pack_bundle(sign_bundle(manifest, key), files)
