"""From a task, or a user's own model, to what devices get: exported graphs in a signed bundle, and initial weights."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from coordinator.export.step_graphs import StepGraphs, initial_weights
from coordinator.export.trainer_peak import trainer_peak_bytes
from shared.bundle import BundleManifest, Growth, file_entries, pack_bundle, sign_bundle
from shared.errors import ExportError
from shared.growth import grow, growth_like
from shared.layout import F32
from shared.preprocessing import ExamplePreprocessing, Preprocessing
from shared.signing import SigningKey

if TYPE_CHECKING:
    from coordinator.tasks.task import Task


def build_bundle(
    task: "Task", seed: int, key: SigningKey, batch_size: int = 32, *, grown: bool = True
) -> tuple[bytes, F32]:
    """The signed bundle of a task, and its initial weights float32 `[size]`, drawn by `seed`.

    Where the task begins at random, these are `grown` by the bundle, so that devices need not fetch them.
    `batch_size` is that of training; the estimate of its memory depends on it.
    """
    import torch  # noqa: PLC0415  not all who pack have to export

    from coordinator.export.step import export_step  # noqa: PLC0415  loads what traces

    torch.manual_seed(seed)
    model = task.model()
    x, y = task.example()
    graphs = export_step(model, task.loss, x, y)
    title = Title(task.name, "1", "classification", tuple(x.shape[1:]), task.preprocessing.num_classes)
    initial = initial_weights(model, graphs.layout)
    growth = growth_like(initial, graphs.layout, seed) if grown and task.begins_at_random else None
    bundle = signed_bundle(title, graphs, task.preprocessing, key, batch_size, growth)
    return bundle, initial if growth is None else grow(growth, graphs.layout)


@dataclass(frozen=True, slots=True)
class Title:
    """What a bundle is called, and what goes in and out of its model; `input_shape` is without the batch."""

    name: str
    version: str
    task: Literal["classification", "regression"]
    input_shape: tuple[int, ...]
    num_classes: int


def signed_bundle(
    title: Title,
    graphs: StepGraphs,
    preprocessing: Preprocessing | ExamplePreprocessing,
    key: SigningKey,
    batch_size: int = 32,
    growth: Growth | None = None,
) -> bytes:
    """The archive of exported graphs; raises `ExportError` where a manifest cannot say what they are.

    `batch_size` is that of training; the estimate of its memory depends on it. By a `growth` devices make the first
    model themselves. What `preprocessing` leaves out is not written, so that earlier devices can read what they know.
    """
    files = {
        "train.onnx": graphs.train,
        "eval.onnx": graphs.evaluate,
        "predict.onnx": graphs.predict,
    }
    try:
        manifest = BundleManifest(
            **asdict(title),
            preprocessing=preprocessing.model_dump(mode="json", exclude_none=True),
            layout=tuple((tensor.name, tensor.shape, tensor.role) for tensor in graphs.layout.tensors),
            files=file_entries(files),
            growth=growth,
            estimated_peak_bytes=trainer_peak_bytes(graphs, batch_size),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ExportError(f"bundle {title.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return pack_bundle(sign_bundle(manifest, key), files)
