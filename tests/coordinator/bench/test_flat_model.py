from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional

from coordinator.bench.flat_model import FlatModel
from coordinator.job import Work


class Normed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.near = torch.nn.Linear(6, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(functional.relu(self.norm(self.near(x))))
        return logits


def batches(count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        yield torch.randn(10, 6, generator=generator), torch.randint(0, 3, (10,), generator=generator)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_flat_steps_are_those_of_torch_with_momentum_decay_and_clipping(clip_norm: float | None) -> None:
    work = Work(learning_rate=0.1, momentum=0.9, weight_decay=0.01, clip_norm=clip_norm)
    flat, plain = FlatModel.of(Normed, 5), FlatModel.of(Normed, 5).module
    optimiser = torch.optim.SGD(plain.parameters(), 0.1, 0.9, weight_decay=0.01)
    for x, y in batches(5):
        optimiser.zero_grad()
        torch.autograd.backward(functional.cross_entropy(plain(x), y))
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(plain.parameters(), clip_norm)
        optimiser.step()
    flat.train(batches(5), functional.cross_entropy, work)
    wanted = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
    for name, found in flat.layout.split(flat.vector()).items():
        np.testing.assert_allclose(found, wanted[name].detach().numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_what_is_loaded_is_what_the_module_computes_with() -> None:
    model = FlatModel.of(Normed, 5)
    x = torch.ones(2, 6)
    model.load(np.zeros(model.layout.size, np.float32))
    assert not model.module(x).any()


def test_weights_follow_from_the_seed_and_leave_the_process_as_it_was() -> None:
    before = torch.get_rng_state()
    first, again, other = (FlatModel.of(Normed, seed).vector() for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
