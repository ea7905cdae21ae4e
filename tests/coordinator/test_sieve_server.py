import numpy as np

from coordinator.job import Job, Sieve
from coordinator.sieve_server import SieveServer
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name
from shared.layout import F32, Layout
from shared.update import UpdateHeader, UpdateObject

LAYOUT = Layout.of([("w", (4, 64), "weight"), ("f", (100,), "frozen"), ("b", (4,), "bias")])
JOB = Job(name="tuned", task="watch", sieve=Sieve(codec="dense", prior="none"))
HEADER = UpdateHeader(bytes(4), bytes(4), 1, 10, 5, 0.5, 0, 0, 0.0)


def packed(values: F32, plan: Plan) -> UpdateObject:
    return UpdateObject(HEADER, codec_by_name("dense").encode(values, LAYOUT, plan).frame)


def test_device_that_sends_frozen_values_moves_all_but_these() -> None:
    server = SieveServer(JOB, LAYOUT, np.zeros(LAYOUT.size, np.float32))
    plan = Plan(budget_bytes=4 * LAYOUT.size)
    gathered = server.gather(plan)
    counted = gathered.add("a", packed(np.ones(LAYOUT.size, np.float32), plan))
    mean = gathered.mean.mean()
    frozen = LAYOUT.are_frozen(np.arange(LAYOUT.size))
    assert (mean[~frozen] == 1).all()
    assert not mean[frozen].any()
    assert len(counted.indices) == (~frozen).sum()
