"""Which devices a round asks."""

import hashlib
import random

from coordinator.job import Job


def cohort(job: Job, server_round: int, devices: list[str]) -> list[str]:
    """The job's share of the devices, drawn by seed and round alone, in the order of their names."""
    count = max(1, job.fleet.minimum_updates, round(len(devices) * job.fleet.participation))
    digest = hashlib.sha256(f"{job.seed}/{server_round}".encode()).digest()
    return sorted(random.Random(digest).sample(sorted(devices), min(count, len(devices))))  # noqa: S311  not a secret
