"""Wiring: from a job, a run folder and settings to a Run that is connected and ready to execute."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

import torch

from coordinator.admission import dense_object_bytes
from coordinator.checkpoints import CheckpointStore
from coordinator.first_bundle import first_bundle
from coordinator.intake import Intake
from coordinator.job import Job
from coordinator.journal import Journal
from coordinator.link import Link
from coordinator.mqtt_grid import MqttGrid
from coordinator.muster import LinkMuster
from coordinator.publisher import Publisher
from coordinator.records import RoundRecord
from coordinator.run import Progress, Run
from coordinator.run_entry import enter_run, signing_key, strategy_of
from coordinator.run_folder import RunFolder
from coordinator.server_model import model_bytes
from coordinator.settings import CoordinatorSettings
from shared.errors import BrokerUnreachable
from shared.folder_lock import folder_lock
from shared.paho_transport import PahoTransport
from shared.receiver import Receiver
from shared.signing import SigningKey
from shared.spool import FileSpool
from shared.topics import Topics


def prepare(job: Job, folder: RunFolder, key: SigningKey) -> None:
    """Make what a run needs and does not change: initial weights and signed bundle."""
    bundle, initial = first_bundle(job, key)
    folder.initial.write_bytes(model_bytes(initial))
    folder.bundle.write_bytes(bundle)


@contextmanager
def connected_link(
    settings: CoordinatorSettings, key: SigningKey, folder: RunFolder, largest_update_bytes: int
) -> Iterator[Link]:
    """A link over MQTT that is not serving yet; closed at the end of the block."""
    epoch = uuid4().hex[:12]
    topics = Topics(settings.topic_root)
    jitter = random.Random(epoch)  # noqa: S311  spreads retries, keeps no secret
    transport = PahoTransport(settings.broker, f"coordinator-{epoch}", jitter)
    publisher = Publisher(transport, topics, key, epoch, settings.broker.max_chunk_bytes)
    spool = FileSpool(folder.path / "spool")
    receiver = Receiver(min(settings.largest_update_bytes, largest_update_bytes), settings.spool_bytes, spool)
    link = Link(transport, topics, publisher, receiver, jitter.random)
    try:
        yield link
    finally:
        link.close()


@contextmanager
def assembled_run(
    job: Job,
    folder: RunFolder,
    settings: CoordinatorSettings,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_closed: Callable[[RoundRecord], None] = lambda record: None,
    make: Callable[[Job, RunFolder, SigningKey], None] | None = None,
) -> Iterator[Run]:
    """A run whose link is up; the folder is this process's alone until the block ends.

    What a new run needs is made by `make`, `prepare` unless another is given.

    Raises `RunError` when the folder holds a run of another job, `FolderInUse` when another process works in it, and
    `BrokerUnreachable` when the broker does not answer in `connect_seconds`.
    """
    torch.set_num_threads(1)
    key = signing_key(settings.key_file)
    with folder_lock(folder.path):
        if not folder.journal.exists():
            (make or prepare)(job, folder, key)
        with closing(Journal.open(folder.journal)) as journal:
            run = enter_run(journal, job, folder)
            strategy, intake = strategy_of(job, run, folder, key), Intake(journal, run)
            largest_update_bytes = dense_object_bytes(strategy.layout)
            with connected_link(settings, key, folder, largest_update_bytes) as link:
                grid = MqttGrid(link, intake=intake, grace_seconds=job.fleet.grace_seconds)
                link.start(grid)
                _wait_for_broker(link, settings, on_progress)
                checkpoints = CheckpointStore(folder.checkpoints)
                yield Run(
                    job, strategy, journal, checkpoints, LinkMuster(link, grid), grid, intake, on_progress, on_closed
                )


def _wait_for_broker(link: Link, settings: CoordinatorSettings, on_progress: Callable[[Progress], None]) -> None:
    seconds, address = settings.connect_seconds, settings.broker.address
    on_progress(Progress(0, f"waiting for the broker at {address}, at most {seconds:g} s"))
    if not link.wait_until(lambda: link.connected is not None, seconds):
        raise BrokerUnreachable(
            f"waited {seconds:g} s for the broker at {address}: {link.last_disconnect or 'no answer'}"
        )
