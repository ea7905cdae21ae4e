"""How a run begins or is taken up again in its folder: the coordinator's key, the journal's entry, the strategy."""

from pathlib import Path
from uuid import uuid4

import numpy as np
from pydantic import ValidationError

from coordinator.exported_model import LARGEST_BUNDLE_BYTES
from coordinator.job import Job
from coordinator.journal import Journal
from coordinator.run_folder import RunFolder
from coordinator.strategy import SieveStrategy
from shared.bundle import BundleManifest, open_bundle
from shared.errors import BundleError, RunError, SignatureError
from shared.layout import F32, Layout
from shared.signing import SigningKey

REMEDY = "resume with the key_file and the files that the run began with"


def signing_key(file: Path) -> SigningKey:
    """The coordinator's key; made, readable by its owner alone, where there is none yet."""
    if file.exists():
        return SigningKey.load(file)
    key = SigningKey.generate()
    file.parent.mkdir(parents=True, exist_ok=True)
    key.save(file)
    key.verify_key.save(file.with_suffix(".pub"))
    return key


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
    manifest, layout = opened_bundle(folder, key)
    try:
        bundle, weights = folder.bundle.read_bytes(), folder.initial.read_bytes()
    except OSError as error:
        raise RunError(f"{folder.initial}: {error}: {REMEDY}") from None
    if len(weights) != 4 * layout.size:
        raise RunError(f"{folder.initial} has {len(weights)} bytes, the model {4 * layout.size}: {REMEDY}")
    initial: F32 = np.frombuffer(weights, "<f4").astype(np.float32)
    return SieveStrategy(job, run, layout, initial, bundle, grows=manifest.growth is not None)


def opened_bundle(folder: RunFolder, key: SigningKey) -> tuple[BundleManifest, Layout]:
    """The manifest of a run's bundle and the layout in it; raises `RunError`."""
    try:
        archive = folder.bundle.read_bytes()
        manifest = open_bundle(archive, [key.verify_key], LARGEST_BUNDLE_BYTES, available_memory_bytes=None).manifest
    except (OSError, BundleError, SignatureError) as error:
        raise RunError(f"{folder.bundle}: {error}: {REMEDY}") from None
    return manifest, Layout.of([(name, shape, role) for name, shape, role in manifest.layout])
