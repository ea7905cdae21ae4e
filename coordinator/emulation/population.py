"""Who is emulated: the devices' names, the bundle they get, and the data that lies on each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch

from coordinator.bundle_builder import Title, signed_bundle
from coordinator.emulation.deal import deal
from coordinator.emulation.graph_shelf import graphs_of
from coordinator.emulation.preparation import DATA_FOLDER, Prepared, Request
from coordinator.emulation.shares import write_recordings, write_shares
from coordinator.export.flops import example_flops
from coordinator.export.step_graphs import initial_weights
from coordinator.exported_model import LARGEST_BUNDLE_BYTES, SUFFIX
from coordinator.first_bundle import first_bundle
from coordinator.job import Job
from coordinator.run_folder import KEY_FILE, RunFolder
from coordinator.server_model import model_bytes
from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples
from coordinator.tasks.registry import ARRAY_TASKS, TASKS, array_task_by_name, task_by_name
from coordinator.tasks.task import ClientData
from shared.bundle import open_bundle
from shared.errors import DataError, SettingsError
from shared.fleet_brief import TorchModule
from shared.growth import grow, growth_like
from shared.layout import F32, I64
from shared.preprocessing import ExamplePreprocessing
from shared.signing import SigningKey

TEST_SHARE = 0.2
DEFAULT_CLIENTS = 10


class Population(Protocol):
    """The devices of an emulated fleet."""

    @property
    def names(self) -> Sequence[str]:
        """What the devices are called."""

    @property
    def kind(self) -> Literal["folders", "arrays"]:
        """How their data lies on disk."""

    def bundle(self, job: Job, key: SigningKey) -> tuple[bytes, F32]:
        """The signed bundle that they get, and the first model float32 `[size]`."""

    def write(self, folder: Path, job: Job) -> None:
        """Put their data where the fleet reads it; raises `DataError`."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The clients of a task with recordings of their own: they train as boards do with the same files."""

    clients: Sequence[ClientData]
    kind: Literal["folders"] = "folders"

    @property
    def names(self) -> Sequence[str]:
        """The clients' own names, sorted."""
        return sorted(client.name for client in self.clients)

    def bundle(self, job: Job, key: SigningKey) -> tuple[bytes, F32]:
        """The very bundle that a real fleet gets."""
        return first_bundle(job, key)

    def write(self, folder: Path, job: Job) -> None:
        """A folder of recordings for each client."""
        write_recordings(folder, self.clients)


@dataclass(frozen=True, slots=True)
class Dealt:
    """Devices to which the examples of one data set are dealt; each holds back a share of its own to test on."""

    examples: Examples
    parts: Sequence[I64]
    task: ArrayTask | None = None
    test_share: float = TEST_SHARE
    kind: Literal["arrays"] = "arrays"

    @property
    def names(self) -> Sequence[str]:
        """`client-00000` and so on."""
        return [f"client-{number:05d}" for number in range(len(self.parts))]

    def bundle(self, job: Job, key: SigningKey) -> tuple[bytes, F32]:
        """The bundle of an export, or one of the task's own model that begins at random, drawn by the job's seed."""
        return first_bundle(job, key) if self.task is None else _array_bundle(self.task, self.examples, job, key)

    def write(self, folder: Path, job: Job) -> None:
        """The arrays, once for all devices, and whose rows are whose."""
        write_shares(folder, self.examples, self.parts, self.test_share, job.seed)


def prepare(request: Request) -> Prepared:
    """Make bundle, initial weights and data in the run's folder."""
    torch.set_num_threads(1)
    job, folder = request.job, RunFolder(request.folder)
    key = SigningKey.load(folder.path / KEY_FILE)
    population = population_of(job, request.clients, request.data, request.test_share)
    bundle, initial = population.bundle(job, key)
    folder.initial.write_bytes(model_bytes(initial))
    folder.bundle.write_bytes(bundle)
    population.write(folder.path / DATA_FOLDER, job)
    graph = open_bundle(bundle, [key.verify_key], LARGEST_BUNDLE_BYTES, None).files["eval.onnx"]
    task = population.task if isinstance(population, Dealt) else None
    return Prepared(
        names=tuple(population.names),
        kind=population.kind,
        example_flops=example_flops(graph),
        module=_module(task) if task else None,
    )


def _module(task: ArrayTask) -> TorchModule | None:
    """Where a process that has torch finds the task's own module and loss; None where they have no name."""
    paths = [f"{found.__module__}:{found.__qualname__}" for found in (task.model, task.loss)]
    return None if any("<" in path for path in paths) else TorchModule(factory=paths[0], loss=paths[1])


def population_of(job: Job, clients: int | None, data: Path | None, test_share: float = TEST_SHARE) -> Population:
    """The devices for a job: the clients of its task, or so many that its data set, or the one in `data`, is dealt to.

    Raises `SettingsError` where the job's task cannot be dealt so, and `DataError` where data is missing or too small.
    """
    if data is not None:
        examples = _read(data)
        return Dealt(examples, _parts(job, examples, clients or DEFAULT_CLIENTS), _array_task(job), test_share)
    if job.task.endswith(SUFFIX):
        raise SettingsError(f"{job.task} comes without data: name a folder with x.npy and y.npy by --data")
    known = sorted(task_by_name(job.task).clients(), key=lambda client: client.name) if job.task in TASKS else []
    if known and (clients is None or clients <= len(known)):
        return Recorded(known[:clients])
    if job.task not in ARRAY_TASKS | TASKS:
        raise SettingsError(f"task {job.task!r} is unknown: choose one of {', '.join(sorted(ARRAY_TASKS | TASKS))}")
    if job.task not in ARRAY_TASKS:
        others = ", ".join(sorted(ARRAY_TASKS))
        raise SettingsError(
            f"task {job.task} has {len(known)} clients: ask for at most that many, or deal one of {others} to more"
        )
    task = array_task_by_name(job.task)
    examples = task.load()[0]
    return Dealt(examples, _parts(job, examples, clients or DEFAULT_CLIENTS), task, test_share)


def _array_task(job: Job) -> ArrayTask | None:
    return array_task_by_name(job.task) if job.task in ARRAY_TASKS else None


def _parts(job: Job, examples: Examples, clients: int) -> Sequence[I64]:
    return deal(examples, job.split, clients, job.seed)


def _read(folder: Path) -> Examples:
    try:
        x, y = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in "xy")
        owner = np.load(folder / "owner.npy", allow_pickle=False) if (folder / "owner.npy").exists() else None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: x.npy and y.npy cannot be read: {error}") from None
    return Examples(x, y, owner)


def _array_bundle(task: ArrayTask, examples: Examples, job: Job, key: SigningKey) -> tuple[bytes, F32]:
    torch.manual_seed(job.seed)
    model, shape = task.model(), tuple(examples.x.shape[1:])
    graphs = graphs_of(task, model, shape)
    with torch.inference_mode():
        classes = int(model.eval()(torch.zeros(1, *shape)).shape[1])
    initial = initial_weights(model, graphs.layout)
    growth = growth_like(initial, graphs.layout, job.seed) if job.downlink.first_model == "grown" else None
    scale = (0.0,) * shape[0], (1.0,) * shape[0]
    preprocessing = ExamplePreprocessing(shape=shape, mean=scale[0], std=scale[1], num_classes=classes)
    title = Title(task.name, "1", "classification", shape, classes)
    bundle = signed_bundle(title, graphs, preprocessing, key, job.work.batch_size, growth)
    return bundle, initial if growth is None else grow(growth, graphs.layout)
