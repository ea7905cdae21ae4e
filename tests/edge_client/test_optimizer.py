import tracemalloc

import numpy as np
import torch

from edge_client.optimizer import Sgd
from shared.messages import LocalWork

WORK = LocalWork(steps=1, batch_size=1, learning_rate=0.1, momentum=0.9, weight_decay=0.01, codec="dense", seed=0)


def test_steps_are_those_of_torch() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(50).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(weights.copy()))
    reference = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, weight_decay=0.01)
    optimizer = Sgd(50, [slice(0, 50)], WORK)
    for _ in range(10):
        gradient = rng.standard_normal(50).astype(np.float32)
        parameter.grad = torch.from_numpy(gradient.copy())
        reference.step()
        optimizer.step(weights, gradient)
    np.testing.assert_allclose(weights, parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_what_is_not_trainable_stays() -> None:
    weights, gradient = np.ones(10, np.float32), np.ones(10, np.float32)
    Sgd(10, [slice(0, 3), slice(6, 10)], WORK).step(weights, gradient)
    assert (weights[3:6] == 1).all()
    assert (np.delete(weights, [3, 4, 5]) != 1).all()


def test_step_allocates_nothing_of_the_size_of_the_model() -> None:
    size = 100_000
    weights, gradient = np.ones(size, np.float32), np.ones(size, np.float32)
    optimizer = Sgd(size, [slice(0, size)], WORK)
    tracemalloc.start()
    try:
        optimizer.step(weights, gradient)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < size
