import numpy as np
import torch

from coordinator.tasks.drill import DRILL, clients
from coordinator.tasks.registry import task_by_name
from shared.preprocessing import cut


def test_every_client_has_images_of_all_kinds_and_the_same_ones_every_time() -> None:
    first, again = clients(2), clients(2)
    assert [client.name for client in first] == ["drill-0", "drill-1"]
    np.testing.assert_array_equal(first[1].series[3], again[1].series[3])
    assert not np.array_equal(first[0].series[3], first[1].series[3])
    split = cut(first[0].series, first[0].labels, DRILL.preprocessing)
    assert split.train_x.shape == (300, 28, 28)
    assert split.test_x.shape == (100, 28, 28)
    assert set(split.test_y.tolist()) == set(range(10))


def test_task_is_one_that_a_job_can_name_and_its_model_takes_its_examples() -> None:
    task = task_by_name("drill")
    x, _ = task.example()
    with torch.no_grad():
        assert task.model()(x).shape == (4, 10)
