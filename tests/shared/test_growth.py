import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bundle import Growth
from shared.growth import grow, growth_like
from shared.layout import Layout

LAYOUT = Layout.of([
    ("a.weight", (40, 30), "weight"),
    ("a.bias", (40,), "bias"),
    ("n.weight", (7,), "norm"),
    ("n.running_mean", (6,), "buffer"),
])  # fmt: skip
GROWTH = Growth(seed=11, spreads=((0.0, 0.3), (0.0, 0.0), (1.0, 0.0), (-0.25, 0.5)))


def test_grown_weights_are_these_very_bits() -> None:
    digest = hashlib.sha256(grow(GROWTH, LAYOUT).astype("<f4").tobytes()).hexdigest()
    assert digest == "b34d9c358f2cbd5ee3a3ffba7451d31c4be6ca486baf0858a39cd00dfb48ee65"


def test_each_tensor_lies_within_its_reach_around_its_centre() -> None:
    weights = LAYOUT.split(grow(GROWTH, LAYOUT))
    assert 0.29 < np.abs(weights["a.weight"]).max() <= np.float32(0.3)
    assert abs(weights["a.weight"].mean()) < 0.02
    assert (weights["a.bias"] == 0).all()
    assert (weights["n.weight"] == 1).all()
    assert ((weights["n.running_mean"] >= -0.75) & (weights["n.running_mean"] < 0.25)).all()


@given(st.integers(0, 1 << 53), st.integers(0, 1 << 53))
def test_another_seed_grows_other_weights(one: int, other: int) -> None:
    first, second = (grow(GROWTH.model_copy(update={"seed": seed}), LAYOUT) for seed in (one, other))
    assert np.array_equal(first, second) == (one == other)


def test_weights_are_grown_like_those_of_a_module() -> None:
    random = np.random.default_rng(2)
    weights = LAYOUT.join({
        "a.weight": random.normal(0, 0.2, (40, 30)).astype(np.float32),
        "a.bias": np.zeros(40, np.float32),
        "n.weight": np.ones(7, np.float32),
        "n.running_mean": np.full(6, 3.5, np.float32),
    })  # fmt: skip
    grown = LAYOUT.split(grow(growth_like(weights, LAYOUT, seed=5), LAYOUT))
    assert grown["a.weight"].std() == pytest.approx(0.2, rel=0.05)
    assert (grown["a.bias"] == 0).all()
    assert (grown["n.weight"] == 1).all()
    assert (grown["n.running_mean"] == 3.5).all()


def test_spreads_for_another_number_of_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        grow(Growth(seed=1, spreads=((0.0, 1.0),)), LAYOUT)
