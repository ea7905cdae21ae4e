"""A job on an emulated fleet, from its data to its figures: the run of every fleet, on a virtual clock."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

from coordinator.admission import dense_object_bytes
from coordinator.emulation.fleet_process import FleetProcess
from coordinator.emulation.fleet_transport import FleetTransport
from coordinator.emulation.last_checkpoints import LastCheckpoints
from coordinator.emulation.preparation import DATA_FOLDER, Prepared, Request, prepared_by
from coordinator.emulation.preparer import Preparer
from coordinator.emulation.stepped_link import SteppedLink
from coordinator.intake import Intake
from coordinator.job import Job
from coordinator.journal import Journal
from coordinator.mqtt_grid import MqttGrid
from coordinator.muster import LinkMuster
from coordinator.publisher import Publisher
from coordinator.records import RoundRecord
from coordinator.run import Progress, Run
from coordinator.run_entry import enter_run, opened_bundle, signing_key, strategy_of
from coordinator.run_folder import KEY_FILE, RunFolder
from coordinator.settings import CoordinatorSettings
from coordinator.strategy import SieveStrategy
from shared.compression.history import SendHistory
from shared.compression.registry import memory_by_codec
from shared.device_profile import DeviceProfile
from shared.errors import SettingsError
from shared.fleet_brief import Cluster, FleetBrief, Sizes
from shared.receiver import Receiver
from shared.settings import BrokerSettings
from shared.signing import SigningKey
from shared.spool import MemorySpool
from shared.topics import Topics

TICK_SECONDS = 60.0
"""Virtual time between two rounds of housekeeping: no packet is lost here, so nothing waits for it."""
SETTLE_SECONDS = 30.0
"""Virtual time in which devices that are on the air come online before the first round."""
LIVE_SETTLE_SECONDS = 120.0
CHUNK_BYTES = 65_536
DAY_SECONDS = 86_400.0
PLAN_ROOM_BYTES = 1 << 16
LARGEST_RECENT_BYTES = 64


@dataclass
class EmulatedRun:
    """A run that is ready to execute, and the fleet it talks to."""

    run: Run
    process: FleetProcess
    transport: FleetTransport | None = None
    """What virtual time passes on; None where the broker is a real one, and time too."""

    def figures(self) -> dict[str, object]:
        """What the fleet has cost by its own clocks; of real time, nothing."""
        return {} if self.transport is None else self.transport.figures()


@dataclass(frozen=True)
class Setup:
    """What is emulated: a job, the devices and their data, what kinds of devices they are, and who trains for them."""

    job: Job
    clients: int | None = None
    data: Path | None = None
    test_share: float = 0.2
    engine: Literal["onnx", "torch"] = "onnx"
    profiles: Sequence[DeviceProfile] = (DeviceProfile(),)
    workers: int = 2
    start_hour: float = 8.0
    clusters: Sequence[int] = ()
    """How many devices, in order of name from the first, stand behind each head."""

    def request(self, folder: Path) -> Request:
        """What has to be prepared."""
        job, data = self.job, self.data
        return Request(job=job, folder=folder, clients=self.clients, data=data, test_share=self.test_share)


@contextmanager
def emulated_run(
    setup: Setup,
    folder: RunFolder,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_closed: Callable[[RoundRecord], None] = lambda record: None,
    preparer: Preparer | None = None,
) -> Iterator[EmulatedRun]:
    """A run on a fleet that is emulated until the block ends; the folder must be new.

    A `preparer` that was started earlier has loaded its libraries meanwhile.
    """
    job, began_seconds = setup.job, _morning(time.time(), setup.start_hour)
    with (
        preparer or Preparer() as preparing,
        FleetProcess(setup.workers, folder.path / "fleet.log", setup.engine) as process,
    ):
        transport = FleetTransport(process.stream)
        key = signing_key(folder.path / KEY_FILE)
        prepared = prepared_by(preparing, setup.request(folder.path))
        with closing(Journal.open(folder.journal, _Calendar(transport, began_seconds), durable=False)) as journal:
            run_id = enter_run(journal, job, folder)
            strategy, intake = strategy_of(job, run_id, folder, key), Intake(journal, run_id)
            brief = _brief(setup, prepared, folder, key, began_seconds)
            transport.begin(brief.model_dump_json())
            with closing(_link(transport, key, strategy)) as link:
                grid = MqttGrid(link, intake=intake, grace_seconds=job.fleet.grace_seconds, clock=transport.clock)
                link.start(grid)
                checkpoints = LastCheckpoints(folder.checkpoints, job.rounds)
                run = Run(
                    job, strategy, journal, checkpoints, LinkMuster(link, grid), grid, intake, on_progress, on_closed
                )
                run.await_devices(len(brief.members), SETTLE_SECONDS)
                yield EmulatedRun(run, process, transport)


@contextmanager
def live_run(
    setup: Setup,
    folder: RunFolder,
    broker: BrokerSettings,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_closed: Callable[[RoundRecord], None] = lambda record: None,
    preparer: Preparer | None = None,
) -> Iterator[EmulatedRun]:
    """The same on a real broker, in real time, with all the devices' connections in one process; kinds do not count."""
    from coordinator.assembly import assembled_run  # noqa: PLC0415  loads torch, which an emulated broker needs not

    job, key = setup.job, signing_key(folder.path / KEY_FILE)
    with (
        preparer or Preparer() as preparing,
        FleetProcess(setup.workers, folder.path / "fleet.log", setup.engine) as process,
    ):
        prepared = prepared_by(preparing, setup.request(folder.path))
        brief = _brief(setup, prepared, folder, key, time.time()).model_copy(update={"broker": broker})
        settings = CoordinatorSettings(broker=broker, key_file=folder.path / KEY_FILE)
        with assembled_run(job, folder, settings, on_progress, on_closed, make=lambda *prepared: None) as run:
            FleetTransport(process.stream).begin(brief.model_dump_json())
            run.await_devices(len(prepared.names), LIVE_SETTLE_SECONDS)
            yield EmulatedRun(run, process)


def _morning(now: float, hour: float) -> float:
    """Today at this hour, UTC, in unix seconds: what devices do by the hour must not depend on when it is emulated."""
    return now // DAY_SECONDS * DAY_SECONDS + 3600.0 * hour


@dataclass
class _Calendar:
    """Unix time, if the emulation's virtual time had passed since it began."""

    transport: FleetTransport
    began_seconds: float

    def __call__(self) -> float:
        return self.began_seconds + self.transport.now


def _link(transport: FleetTransport, key: SigningKey, strategy: SieveStrategy) -> SteppedLink:
    topics = Topics()
    publisher = Publisher(transport, topics, key, "emulated", CHUNK_BYTES)
    largest_bytes = dense_object_bytes(strategy.layout)
    receiver = Receiver(largest_bytes, 1 << 62, MemorySpool())
    return SteppedLink(
        transport,
        topics,
        publisher,
        receiver,
        random.Random(strategy.job.seed).random,  # noqa: S311  spreads retries, keeps no secret
        transport.clock,
        tick_seconds=TICK_SECONDS,
        lease_seconds=float("inf"),
    )


def _brief(setup: Setup, prepared: Prepared, folder: RunFolder, key: SigningKey, began_seconds: float) -> FleetBrief:
    """What the fleet is told."""
    if setup.engine == "torch" and prepared.module is None:
        raise SettingsError(f"task {setup.job.task} names no torch module of its own: leave out --engine torch")
    job, layout = setup.job, opened_bundle(folder, key)[1]
    return FleetBrief(
        names=prepared.names,
        state=(folder.path / "fleet").resolve(),
        data=(folder.path / DATA_FOLDER).resolve(),
        data_kind=prepared.kind,
        trusted_signer=key.verify_key.hex,
        profiles=tuple(setup.profiles),
        seed=job.seed,
        sizes=Sizes(
            object_bytes=dense_object_bytes(layout),
            plan_bytes=PLAN_ROOM_BYTES + layout.num_columns,
            history_bytes=LARGEST_RECENT_BYTES + len(SendHistory.empty(layout).to_bytes()) + 4 * layout.size,
            residual_bytes=memory_by_codec(job.sieve.codec).zero(layout.size).state.nbytes,
        ),
        example_flops=prepared.example_flops,
        torch_module=prepared.module if setup.engine == "torch" else None,
        began_seconds=began_seconds,
        clusters=clusters_of(prepared.names, setup.clusters),
    )


def clusters_of(names: Sequence[str], sizes: Sequence[int]) -> tuple[Cluster, ...]:
    """Heads of so many boards each, in order of name; raises `SettingsError` for more boards than there are."""
    if sum(sizes) > len(names):
        raise SettingsError(f"{sum(sizes)} boards behind heads, and {len(names)} devices in all: ask for more clients")
    ends = list(accumulate(sizes))
    return tuple(
        Cluster(head=f"head-{number:05d}", boards=tuple(names[end - size : end]))
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True))
    )
