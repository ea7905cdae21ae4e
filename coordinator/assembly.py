"""Wiring: from a job, a run folder and settings to a Run that is connected and ready to execute."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch

from coordinator.bundle_builder import build_bundle
from coordinator.checkpoints import CheckpointStore
from coordinator.intake import Intake
from coordinator.job import Job
from coordinator.journal import Journal
from coordinator.link import Link
from coordinator.mqtt_grid import MqttGrid
from coordinator.publisher import Publisher
from coordinator.records import RoundRecord
from coordinator.run import Progress, Run
from coordinator.run_folder import RunFolder
from coordinator.server_model import model_bytes
from coordinator.settings import CoordinatorSettings
from coordinator.strategy import SieveStrategy
from coordinator.tasks.registry import task_by_name
from shared.bundle import open_bundle
from shared.errors import BrokerUnreachable
from shared.layout import F32, Layout
from shared.paho_transport import PahoTransport
from shared.receiver import Receiver
from shared.signing import SigningKey
from shared.spool import FileSpool
from shared.topics import Topics

LARGEST_BUNDLE_BYTES = 1 << 30


def signing_key(file: Path) -> SigningKey:
    """The coordinator's key; made, readable by its owner alone, where there is none yet."""
    if file.exists():
        return SigningKey.load(file)
    key = SigningKey.generate()
    file.parent.mkdir(parents=True, exist_ok=True)
    key.save(file)
    key.verify_key.save(file.with_suffix(".pub"))
    return key


def prepare(job: Job, folder: RunFolder, key: SigningKey) -> None:
    """Make what a run needs and does not change: initial weights and signed bundle; keeps what is there already."""
    if folder.bundle.exists() and folder.initial.exists():
        return
    bundle, initial = build_bundle(task_by_name(job.task), job.seed, key)
    folder.initial.write_bytes(model_bytes(initial))
    folder.bundle.write_bytes(bundle)


@contextmanager
def connected_link(settings: CoordinatorSettings, key: SigningKey, folder: RunFolder) -> Iterator[Link]:
    """A link over MQTT that is not serving yet; closed at the end of the block."""
    epoch = uuid4().hex[:12]
    topics = Topics(settings.topic_root)
    jitter = random.Random(epoch)  # noqa: S311  spreads retries, keeps no secret
    transport = PahoTransport(settings.broker, f"coordinator-{epoch}", jitter)
    publisher = Publisher(transport, topics, key, epoch, settings.broker.max_chunk_bytes)
    spool = FileSpool(folder.path / "spool")
    receiver = Receiver(settings.largest_update_bytes, settings.spool_bytes, spool)
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
) -> Iterator[Run]:
    """A run whose link is up; raises `BrokerUnreachable` when the broker does not answer in `connect_seconds`."""
    torch.set_num_threads(1)
    key = signing_key(settings.key_file)
    prepare(job, folder, key)
    strategy = _strategy(job, folder, key)
    journal = Journal.open(folder.journal)
    intake = Intake(journal, strategy.run)
    try:
        _begin(journal, strategy.run, job)
        with connected_link(settings, key, folder) as link:
            grid = MqttGrid(link, intake=intake, grace_seconds=job.fleet.grace_seconds)
            link.start(grid)
            if not link.wait_until(lambda: link.connected is not None, settings.connect_seconds):
                raise BrokerUnreachable(
                    f"waited {settings.connect_seconds:.0f} s for the broker: {link.last_disconnect or 'no answer'}"
                )
            yield Run(
                job, strategy, journal, CheckpointStore(folder.checkpoints), link, grid, intake, on_progress, on_closed
            )
    finally:
        journal.close()


def _strategy(job: Job, folder: RunFolder, key: SigningKey) -> SieveStrategy:
    bundle = folder.bundle.read_bytes()
    manifest = open_bundle(bundle, [key.verify_key], LARGEST_BUNDLE_BYTES, available_memory_bytes=None).manifest
    layout = Layout.of([(name, shape, role) for name, shape, role in manifest.layout])
    initial: F32 = np.frombuffer(folder.initial.read_bytes(), "<f4").astype(np.float32)
    return SieveStrategy(job, folder.run_id(job), layout, initial, bundle)


def _begin(journal: Journal, run: str, job: Job) -> None:
    if any(record.run == run for record in journal.runs()):
        journal.resume_run(run)
    else:
        journal.create_run(run, job.model_dump_json())
    journal.note(run, "start", "the coordinator began to serve the run")
