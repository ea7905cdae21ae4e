"""The coordinator dies at every call to its journal and checkpoints; resumed, it ends in the same model bit for bit.

And in the same last offer to devices, with all that one that lags would be given.

In one process, over the in-memory broker: devices are real agents with the real trainer, on their own threads.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.assembly import prepare
from coordinator.checkpoints import CheckpointStore
from coordinator.intake import Intake
from coordinator.job import Fleet, Job, Work
from coordinator.journal import Journal
from coordinator.link import Link
from coordinator.mqtt_grid import MqttGrid
from coordinator.muster import LinkMuster
from coordinator.publisher import Publisher
from coordinator.round_offer import RoundOffer
from coordinator.run import Run
from coordinator.run_folder import RunFolder
from coordinator.strategy import SieveStrategy
from edge_client.agent import Agent
from edge_client.data import FolderSource
from edge_client.inline_trainer import InlineTrainer
from edge_client.outbox import Outbox
from edge_client.settings import EdgeSettings
from shared.bundle import open_bundle
from shared.compression.history import SendHistory
from shared.errors import RunError
from shared.layout import Layout
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.receiver import Receiver
from shared.signing import SigningKey
from shared.spool import MemorySpool
from shared.topics import Topics

NAMES = ("board-a", "board-b")
KEY = SigningKey(bytes(range(32)))
RUN = "crash-1"
JOB = Job(
    name="crash",
    task="watch",
    rounds=3,
    work=Work(steps=2, batch_size=8),
    fleet=Fleet(minimum_devices=2, minimum_updates=2, round_seconds=20, gather_seconds=20),
)
WATCHED = {
    Journal: ("open_round", "accept", "freeze_round", "close_round", "finish_run"),
    CheckpointStore: ("save",),
}


class Killed(BaseException):
    """Stands for kill -9: nothing in the code catches it, nothing after it is carried out."""


@dataclass
class Reaper:
    """Counts the watched calls of one coordinator, and ends it just before or just after the n-th."""

    at_call: int = 0
    after: bool = False
    calls: list[str] = field(default_factory=list)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        for kind, names in WATCHED.items():
            for name in names:
                patch.setattr(kind, name, self._deadly(name, getattr(kind, name)))

    def _deadly(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self.at_call and not self.after:
                raise Killed(name)
            answer = method(*arguments, **named)
            if len(self.calls) == self.at_call:
                raise Killed(name)
            return answer

        return call


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle and initial weights, exported once."""
    folder = RunFolder(tmp_path_factory.mktemp("prepared"))
    prepare(JOB, folder, KEY)
    return folder.path


def make_recordings(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(7):
        x = generator.standard_normal((900, 6)).astype(np.float32)
        np.savez(folder / f"series-{number}.npz", x=x, y=np.int64(number))
    return folder


@contextmanager
def devices(broker: MemoryBroker, folder: Path) -> Iterator[None]:
    stop, threads = threading.Event(), []
    transports = []
    for seed, name in enumerate(NAMES):
        data, state = make_recordings(folder / name / "data", seed), folder / name / "state"
        settings = EdgeSettings(name=name, data=data, state_dir=state, trusted_signers=(KEY.verify_key.hex,))
        transport = MemoryTransport(broker, name)
        trainer = InlineTrainer(state, FolderSource(data), time.monotonic)
        agent = Agent(settings, Outbox(state), transport, trainer, jitter=random.Random(seed).random)
        transports.append(transport)
        threads.append(threading.Thread(target=agent.run, args=(stop,), name=name))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for transport in transports:
            transport.wake()
        for thread in threads:
            thread.join(20)


def coordinate(broker: MemoryBroker, folder: Path, prepared: Path, life: int) -> RoundOffer:
    """One life of the coordinator, from its files to the end of the run; its offer of the final model."""
    with ExitStack() as stack:
        journal = Journal.open(folder / "journal.sqlite")
        stack.callback(journal.close)
        if not journal.runs():
            journal.create_run(RUN, JOB.model_dump_json())
        bundle = (prepared / "bundle.gsb").read_bytes()
        manifest = open_bundle(bundle, [KEY.verify_key], 1 << 30, available_memory_bytes=None).manifest
        layout = Layout.of(list(manifest.layout))
        strategy = SieveStrategy(JOB, RUN, layout, np.fromfile(prepared / "initial.f32", "<f4"), bundle)
        transport = MemoryTransport(broker, f"coordinator-{life}")
        publisher = Publisher(transport, Topics(), KEY, f"epoch-{life}", chunk_bytes=65536)
        link = Link(transport, Topics(), publisher, Receiver(1 << 20, 1 << 22, MemorySpool()), random.Random(1).random)
        intake = Intake(journal, RUN)
        grid = MqttGrid(link, intake=intake)
        stack.callback(link.close)
        link.start(grid)
        checkpoints = CheckpointStore(folder / "checkpoints")
        run = Run(JOB, strategy, journal, checkpoints, LinkMuster(link, grid), grid, intake)
        run.execute()
        run.finish()
        return strategy.offer(JOB.rounds + 1)


def last_checkpoint(folder: Path) -> str:
    """The name of the newest checkpoint: equal names are equal states, histories of sends and all."""
    return max(path.name for path in (folder / "checkpoints").iterdir())


def frames_by_history(folder: Path, prepared: Path) -> list[int]:
    """How many frames in a row each device has sieved by its history, and the one before, which began it."""
    tensors = CheckpointStore(folder / "checkpoints").load(last_checkpoint(folder)).tensors
    bundle = open_bundle((prepared / "bundle.gsb").read_bytes(), [KEY.verify_key], 1 << 30, available_memory_bytes=None)
    layout = Layout.of(list(bundle.manifest.layout))
    return [len(SendHistory.from_bytes(tensors[f"history.of.{name}"].tobytes(), layout).recent) for name in NAMES]


def journaled(folder: Path) -> list[tuple[int, str, str]]:
    journal = Journal.open(folder / "journal.sqlite")
    try:
        return [(u.server_round, u.device, u.digest) for u in journal.updates(RUN)]
    finally:
        journal.close()


@dataclass(frozen=True)
class Unbroken:
    offer: RoundOffer
    updates: list[tuple[int, str, str]]
    calls: list[str]
    checkpoint: str
    frames_by_history: list[int]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Unbroken:
    folder, broker, reaper = tmp_path_factory.mktemp("unbroken"), MemoryBroker(), Reaper()
    with pytest.MonkeyPatch.context() as patch, devices(broker, folder):
        reaper.watch(patch)
        offer = coordinate(broker, folder, prepared, 0)
    return Unbroken(
        offer, journaled(folder), reaper.calls, last_checkpoint(folder), frames_by_history(folder, prepared)
    )


def test_unbroken_run_makes_the_calls_that_the_matrix_interrupts(unbroken: Unbroken) -> None:
    one_round = ["open_round", "accept", "accept", "freeze_round", "save", "close_round"]
    assert unbroken.calls == [*one_round * 3, "finish_run"]
    assert unbroken.offer.manifest.history is not None
    assert unbroken.frames_by_history == [JOB.rounds] * len(NAMES)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the link thread is killed too
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at_call", range(1, 20))
def test_coordinator_killed_at_a_call_ends_in_the_same_model(
    at_call: int, after: bool, tmp_path: Path, prepared: Path, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, reaper = MemoryBroker(), Reaper(at_call, after)
    with devices(broker, tmp_path):
        with monkeypatch.context() as patch:
            reaper.watch(patch)
            with pytest.raises((Killed, RunError)):  # in the link's thread, the run ends by the broken link
                coordinate(broker, tmp_path, prepared, 1)
        assert len(reaper.calls) >= at_call
        if not (after and at_call == len(unbroken.calls)):  # after finish_run nothing is left to do
            assert coordinate(broker, tmp_path, prepared, 2) == unbroken.offer
    assert journaled(tmp_path) == unbroken.updates
    assert last_checkpoint(tmp_path) == unbroken.checkpoint
