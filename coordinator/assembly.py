"""Wiring: from a job, a run folder and settings to a Run that is connected and ready to execute."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from pydantic import ValidationError

from coordinator.admission import dense_object_bytes
from coordinator.bundle_builder import build_bundle
from coordinator.checkpoints import CheckpointStore
from coordinator.exported_model import LARGEST_BUNDLE_BYTES, SUFFIX, ExportedModel
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
from shared.errors import BrokerUnreachable, BundleError, RunError, SignatureError
from shared.folder_lock import folder_lock
from shared.layout import F32, Layout
from shared.paho_transport import PahoTransport
from shared.receiver import Receiver
from shared.signing import SigningKey
from shared.spool import FileSpool
from shared.topics import Topics


def signing_key(file: Path) -> SigningKey:
    """The coordinator's key; made, readable by its owner alone, where there is none yet."""
    if file.exists():
        return SigningKey.load(file)
    key = SigningKey.generate()
    file.parent.mkdir(parents=True, exist_ok=True)
    key.save(file)
    key.verify_key.save(file.with_suffix(".pub"))
    return key


def first_bundle(job: Job, key: SigningKey) -> tuple[bytes, F32]:
    """The signed bundle of a job's task and its initial weights float32 `[size]`, or those of an export."""
    if job.task.endswith(SUFFIX):
        return ExportedModel(Path(job.task)).read(key.verify_key)
    grown = job.downlink.first_model == "grown"
    return build_bundle(task_by_name(job.task), job.seed, key, job.work.batch_size, grown=grown)


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
) -> Iterator[Run]:
    """A run whose link is up; the folder is this process's alone until the block ends.

    Raises `RunError` when the folder holds a run of another job, `FolderInUse` when another process works in it, and
    `BrokerUnreachable` when the broker does not answer in `connect_seconds`.
    """
    torch.set_num_threads(1)
    key = signing_key(settings.key_file)
    with folder_lock(folder.path):
        if not folder.journal.exists():
            prepare(job, folder, key)
        with closing(Journal.open(folder.journal)) as journal:
            run = enter_run(journal, job, folder)
            strategy, intake = strategy_of(job, run, folder, key), Intake(journal, run)
            largest_update_bytes = dense_object_bytes(strategy.layout)
            with connected_link(settings, key, folder, largest_update_bytes) as link:
                grid = MqttGrid(link, intake=intake, grace_seconds=job.fleet.grace_seconds)
                link.start(grid)
                _wait_for_broker(link, settings, on_progress)
                checkpoints = CheckpointStore(folder.checkpoints)
                yield Run(job, strategy, journal, checkpoints, link, grid, intake, on_progress, on_closed)


def enter_run(journal: Journal, job: Job, folder: RunFolder) -> str:
    """Give the id of the folder's run, which is taken up again, or entered under a new id where there is none."""
    records = journal.runs()
    run = records[-1].run if records else f"{job.name}-{uuid4().hex[:6]}"
    if records:
        _check_same_job(job, records[-1].job_json, folder)
        journal.resume_run(run)
    else:
        journal.create_run(run, job.model_dump_json())
    journal.note(run, "start", "the coordinator began to serve the run")
    return run


def _check_same_job(job: Job, job_json: str, folder: RunFolder) -> None:
    try:
        changes = job.changes_since(Job.model_validate_json(job_json))
    except ValidationError as error:
        raise RunError(
            f"{folder.path} holds a run that another version of gradsieve began ({error.errors()[0]['msg']}): "
            "resume it with that one, or choose another --out"
        ) from None
    if changes:
        raise RunError(
            f"{folder.path} holds a run of another job: the job file now says {', '.join(changes)}: "
            "change it back to resume, or choose another --out to begin anew"
        )


def strategy_of(job: Job, run: str, folder: RunFolder, key: SigningKey) -> SieveStrategy:
    """The strategy of a run, from the bundle and the initial weights in its folder; raises `RunError`."""
    remedy = "resume with the key_file and the files that the run began with"
    try:
        bundle, weights = folder.bundle.read_bytes(), folder.initial.read_bytes()
        manifest = open_bundle(bundle, [key.verify_key], LARGEST_BUNDLE_BYTES, available_memory_bytes=None).manifest
    except (OSError, BundleError, SignatureError) as error:
        raise RunError(f"{folder.bundle}: {error}: {remedy}") from None
    layout = Layout.of([(name, shape, role) for name, shape, role in manifest.layout])
    if len(weights) != 4 * layout.size:
        raise RunError(f"{folder.initial} has {len(weights)} bytes, the model {4 * layout.size}: {remedy}")
    initial: F32 = np.frombuffer(weights, "<f4").astype(np.float32)
    return SieveStrategy(job, run, layout, initial, bundle, grows=manifest.growth is not None)


def _wait_for_broker(link: Link, settings: CoordinatorSettings, on_progress: Callable[[Progress], None]) -> None:
    seconds, address = settings.connect_seconds, settings.broker.address
    on_progress(Progress(0, f"waiting for the broker at {address}, at most {seconds:g} s"))
    if not link.wait_until(lambda: link.connected is not None, seconds):
        raise BrokerUnreachable(
            f"waited {seconds:g} s for the broker at {address}: {link.last_disconnect or 'no answer'}"
        )
