"""The bundle and the weights that a job begins with."""

from pathlib import Path

from coordinator.bundle_builder import build_bundle
from coordinator.exported_model import SUFFIX, ExportedModel
from coordinator.job import Job
from shared.layout import F32
from shared.signing import SigningKey


def first_bundle(job: Job, key: SigningKey) -> tuple[bytes, F32]:
    """The signed bundle of a job's task and its initial weights float32 `[size]`, or those of an export."""
    if job.task.endswith(SUFFIX):
        return ExportedModel(Path(job.task)).read(key.verify_key)
    from coordinator.tasks.registry import task_by_name  # noqa: PLC0415  loads torch, which an export needs not

    grown = job.downlink.first_model == "grown"
    return build_bundle(task_by_name(job.task), job.seed, key, job.work.batch_size, grown=grown)
