import numpy as np
import torch

from coordinator.tasks.crowd import CLIENTS, CROWD, IMAGES, KINDS, CrowdNet, crowd


def test_the_net_has_the_weights_that_its_docstring_counts() -> None:
    weights = sum(part.numel() for part in CrowdNet().parameters())
    assert f"{weights:,} weights" in (CrowdNet.__doc__ or "")
    assert CrowdNet()(torch.zeros(3, 1, 28, 28)).shape == (3, KINDS)


def test_every_client_owns_as_many_images_in_a_mixture_of_its_own() -> None:
    examples = crowd(5)
    assert examples.owner is not None
    assert np.bincount(examples.owner).tolist() == [IMAGES] * 5
    mixtures = [np.bincount(examples.y[examples.owner == owner], minlength=KINDS) for owner in range(5)]
    assert len({tuple(mixture.tolist()) for mixture in mixtures}) == 5


def test_a_larger_crowd_begins_with_the_smaller_one() -> None:
    small, large = crowd(2), crowd(4)
    np.testing.assert_array_equal(large.x[: len(small)], small.x)
    np.testing.assert_array_equal(large.y[: len(small)], small.y)


def test_the_task_comes_with_a_hundred_clients_for_training() -> None:
    train, test = CROWD.load()
    assert (len(train), len(test)) == (CLIENTS * IMAGES, IMAGES)
