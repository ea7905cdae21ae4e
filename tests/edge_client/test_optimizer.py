import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_client.gradient_terms import GradientTerms
from edge_client.optimizer import optimizer_for
from shared.messages import LocalWork

STEPS, SIZE = 10, 60
TRAINABLE = (slice(0, 20), slice(30, 60))

Torch = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


def work(**fields: object) -> LocalWork:
    known = {"steps": 1, "batch_size": 1, "learning_rate": 0.05, "codec": "dense", "seed": 0}
    momentum = {} if fields.get("optimizer") == "adam" else {"momentum": 0.0}
    return LocalWork.model_validate(known | momentum | fields)


CASES: dict[str, tuple[LocalWork, Torch]] = {
    "sgd": (work(), lambda p: torch.optim.SGD(p, lr=0.05)),
    "momentum": (work(momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    "nesterov": (
        work(momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "l2": (
        work(momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    ),
    "adam": (work(optimizer="adam"), lambda p: torch.optim.Adam(p, lr=0.05)),
    "adam with l2": (
        work(optimizer="adam", beta1=0.8, beta2=0.99, epsilon=1e-6, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
    ),
    "adamw": (
        work(optimizer="adam", weight_decay=0.1, decoupled_decay=True),
        lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("clip_norm", [None, 3.0])
@pytest.mark.parametrize("mu", [0.0, 0.5])
@pytest.mark.parametrize("name", CASES)
def test_ten_steps_lead_where_torch_leads(name: str, mu: float, clip_norm: float | None) -> None:
    plain, reference_of = CASES[name]
    chosen = plain.model_copy(update={"proximal_mu": mu, "clip_norm": clip_norm})
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(SIZE).astype(np.float32)
    start = torch.from_numpy(weights.copy())
    parameters = [torch.nn.Parameter(start[part].clone()) for part in TRAINABLE]
    reference, optimizer = reference_of(parameters), optimizer_for(chosen, TRAINABLE, weights)
    for _ in range(STEPS):
        gradient = rng.standard_normal(SIZE).astype(np.float32)
        for parameter, part in zip(parameters, TRAINABLE, strict=True):
            proximal = mu * (parameter.detach() - start[part])
            parameter.grad = torch.from_numpy(gradient[part].copy()) + proximal
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        reference.step()
        optimizer.step(weights, gradient)
    for parameter, part in zip(parameters, TRAINABLE, strict=True):
        np.testing.assert_allclose(weights[part], parameter.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert (weights[20:30] == start[20:30].numpy()).all()


@pytest.mark.parametrize("name", CASES)
def test_step_allocates_nothing_of_the_size_of_the_model(name: str) -> None:
    size = 100_000
    weights, gradient = np.ones(size, np.float32), np.ones(size, np.float32)
    chosen = CASES[name][0].model_copy(update={"proximal_mu": 0.1, "clip_norm": 1.0})
    optimizer = optimizer_for(chosen, [slice(0, size)], weights)
    tracemalloc.start()
    try:
        optimizer.step(weights, gradient)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < size // 10


def test_proximal_term_pulls_to_where_the_round_began() -> None:
    weights, started = np.zeros(4, np.float32), np.full(4, 2.0, np.float32)
    optimizer = optimizer_for(work(proximal_mu=1.0, learning_rate=0.5), [slice(0, 4)], started)
    started[:] = 9  # the caller's vector is not the one that is remembered
    for _ in range(20):
        optimizer.step(weights, np.zeros(4, np.float32))
    np.testing.assert_allclose(weights, 2.0, atol=1e-5)


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    clip_norm=st.floats(1e-3, 1e3),
)
def test_clipped_gradient_keeps_its_direction_and_is_within_the_norm(values: list[float], clip_norm: float) -> None:
    gradient = np.asarray(values, np.float32)
    before, norm = gradient.copy(), float(np.linalg.norm(np.asarray(values, np.float64)))
    terms = GradientTerms([slice(0, len(values))], work(clip_norm=clip_norm), gradient)
    terms.apply(np.zeros_like(gradient), gradient, np.empty_like(gradient))
    assert np.linalg.norm(gradient.astype(np.float64)) <= clip_norm * (1 + 1e-5) + 1e-30
    if norm <= clip_norm * (1 - 1e-5):
        assert gradient.tobytes() == before.tobytes()
    else:
        np.testing.assert_allclose(gradient, before * min(1.0, clip_norm / norm), rtol=1e-5, atol=1e-30)
