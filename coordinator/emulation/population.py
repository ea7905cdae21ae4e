"""Who is emulated: the devices' names, the bundle they get, and the data that lies on each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from coordinator.bundle_builder import Title, signed_bundle
from coordinator.emulation.deal import deal
from coordinator.emulation.preparation import DATA_FOLDER, Prepared, Request
from coordinator.emulation.shares import write_recordings, write_shares
from coordinator.emulation.start_shelf import Maker, Start, start_of
from coordinator.export.flops import example_flops
from coordinator.export.step_graphs import StepGraphs
from coordinator.exported_model import LARGEST_BUNDLE_BYTES, SUFFIX
from coordinator.first_bundle import first_bundle
from coordinator.job import Job
from coordinator.run_folder import KEY_FILE, RunFolder
from coordinator.server_model import model_bytes
from coordinator.tasks.examples import Examples
from shared.bundle import open_bundle
from shared.errors import DataError, SettingsError
from shared.fleet_brief import TorchModule
from shared.growth import grow, growth_like
from shared.layout import F32, I64
from shared.preprocessing import ExamplePreprocessing
from shared.signing import SigningKey

if TYPE_CHECKING:
    from coordinator.tasks.task import ClientData

TEST_SHARE = 0.2
DEFAULT_CLIENTS = 10


@dataclass(frozen=True, slots=True)
class First:
    """What a run begins with: the signed bundle, the first model float32 `[size]`, and a torch module that is named."""

    bundle: bytes
    model: F32
    module: TorchModule | None = None


class Population(Protocol):
    """The devices of an emulated fleet."""

    @property
    def names(self) -> Sequence[str]:
        """What the devices are called."""

    @property
    def kind(self) -> Literal["folders", "arrays"]:
        """How their data lies on disk."""

    def first(self, job: Job, key: SigningKey) -> First:
        """What their run begins with."""

    def write(self, folder: Path, job: Job) -> None:
        """Put their data where the fleet reads it; raises `DataError`."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The clients of a task with recordings of their own: they train as boards do with the same files."""

    clients: Sequence["ClientData"]
    kind: Literal["folders"] = "folders"

    @property
    def names(self) -> Sequence[str]:
        """The clients' own names, sorted."""
        return sorted(client.name for client in self.clients)

    def first(self, job: Job, key: SigningKey) -> First:
        """The very bundle that a real fleet gets."""
        return First(*first_bundle(job, key))

    def write(self, folder: Path, job: Job) -> None:
        """A folder of recordings for each client."""
        write_recordings(folder, self.clients)


@dataclass(frozen=True, slots=True)
class Dealt:
    """Devices to which the examples of one data set are dealt; each holds back a share of its own to test on."""

    examples: Examples
    parts: Sequence[I64]
    test_share: float = TEST_SHARE
    kind: Literal["arrays"] = "arrays"

    @property
    def names(self) -> Sequence[str]:
        """`client-00000` and so on."""
        return [f"client-{number:05d}" for number in range(len(self.parts))]

    def first(self, job: Job, key: SigningKey) -> First:
        """The bundle of an export, or one of the task's own model that begins at random, drawn by the job's seed."""
        shape = tuple(self.examples.x.shape[1:])
        start = None if job.task.endswith(SUFFIX) else start_of(job.task, shape, job.seed, _maker(job, shape))
        return First(*first_bundle(job, key)) if start is None else _first_of(start, shape, job, key)

    def write(self, folder: Path, job: Job) -> None:
        """The arrays, once for all devices, and whose rows are whose."""
        write_shares(folder, self.examples, self.parts, self.test_share, job.seed)


def prepare(request: Request) -> Prepared:
    """Make bundle, initial weights and data in the run's folder."""
    job, folder = request.job, RunFolder(request.folder)
    key = SigningKey.load(folder.path / KEY_FILE)
    population = population_of(job, request.clients, request.data, request.test_share)
    first = population.first(job, key)
    folder.initial.write_bytes(model_bytes(first.model))
    folder.bundle.write_bytes(first.bundle)
    population.write(folder.path / DATA_FOLDER, job)
    graph = open_bundle(first.bundle, [key.verify_key], LARGEST_BUNDLE_BYTES, None).files["eval.onnx"]
    return Prepared(
        names=tuple(population.names),
        kind=population.kind,
        example_flops=example_flops(graph),
        module=first.module,
    )


def population_of(job: Job, clients: int | None, data: Path | None, test_share: float = TEST_SHARE) -> Population:
    """The devices for a job: the clients of its task, or so many that its data set, or the one in `data`, is dealt to.

    Raises `SettingsError` where the job's task cannot be dealt so, and `DataError` where data is missing or too small.
    """
    if data is not None:
        examples = _read(data)
        return Dealt(examples, _parts(job, examples, clients or DEFAULT_CLIENTS), test_share)
    if job.task.endswith(SUFFIX):
        raise SettingsError(f"{job.task} comes without data: name a folder with x.npy and y.npy by --data")
    from coordinator.tasks.registry import (  # noqa: PLC0415  loads torch, which data of one's own need not
        ARRAY_TASKS,
        TASKS,
        array_task_by_name,
        task_by_name,
    )

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
    examples = array_task_by_name(job.task).load()[0]
    return Dealt(examples, _parts(job, examples, clients or DEFAULT_CLIENTS), test_share)


def _parts(job: Job, examples: Examples, clients: int) -> Sequence[I64]:
    return deal(examples, job.split, clients, job.seed)


def _read(folder: Path) -> Examples:
    try:
        x, y = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in "xy")
        owner = np.load(folder / "owner.npy", allow_pickle=False) if (folder / "owner.npy").exists() else None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: x.npy and y.npy cannot be read: {error}") from None
    return Examples(x, y, owner)


def _maker(job: Job, shape: tuple[int, ...]) -> Maker:
    def make(graphs: StepGraphs | None) -> Start | None:
        from coordinator.emulation.array_start import made_start  # noqa: PLC0415  loads torch, which a kept start saves

        return made_start(job.task, shape, job.seed, graphs)

    return make


def _first_of(start: Start, shape: tuple[int, ...], job: Job, key: SigningKey) -> First:
    layout, channels = start.graphs.layout, shape[0]
    growth = growth_like(start.initial, layout, job.seed) if job.downlink.first_model == "grown" else None
    preprocessing = ExamplePreprocessing(
        shape=shape, mean=(0.0,) * channels, std=(1.0,) * channels, num_classes=start.classes
    )
    title = Title(job.task, "1", "classification", shape, start.classes)
    bundle = signed_bundle(title, start.graphs, preprocessing, key, job.work.batch_size, growth)
    return First(bundle, start.initial if growth is None else grow(growth, layout), start.module)
