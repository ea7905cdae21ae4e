import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_client.noise import PIECE_VALUES, clip, privatize
from edge_client.orders import PrivacyTerms
from shared.layout import F32

vectors = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32))


def terms(clip_norm: float = 1.0, noise_multiplier: float = 2.0) -> PrivacyTerms:
    return PrivacyTerms(clip_norm=clip_norm, noise_multiplier=noise_multiplier, delta=1e-5)


def norm(vector: F32) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))


@given(update=vectors, clip_norm=st.floats(1e-3, 1e4))
def test_clipped_update_is_within_the_norm_to_the_last_bit(update: F32, clip_norm: float) -> None:
    before = update.copy()
    clip(update, clip_norm)
    assert norm(update) <= clip_norm
    if norm(before) <= clip_norm:
        assert update.tobytes() == before.tobytes()
    else:
        assert norm(update) >= clip_norm * (1 - 1e-4)


@given(first=vectors, second=vectors, clip_norm=st.floats(1e-2, 1e3))
def test_any_two_updates_differ_by_no_more_than_the_account_assumes(first: F32, second: F32, clip_norm: float) -> None:
    size = min(first.size, second.size)
    first, second = first[:size].copy(), second[:size].copy()
    clip(first, clip_norm)
    clip(second, clip_norm)
    assert np.linalg.norm(first.astype(np.float64) - second) <= 2 * clip_norm


@given(update=vectors, seed=st.integers(0, 2**32))
def test_noise_does_not_depend_on_the_data(update: F32, seed: int) -> None:
    nothing = np.zeros_like(update)
    clipped = update.copy()
    clip(clipped, 1.0)
    privatize(update, terms(), np.random.default_rng(seed))
    privatize(nothing, terms(), np.random.default_rng(seed))
    np.testing.assert_allclose(update - clipped, nothing, atol=1e-5)


@pytest.mark.parametrize(("clip_norm", "multiplier"), [(1.0, 2.0), (0.5, 8.0)])
def test_every_value_gets_noise_of_the_stated_deviation(clip_norm: float, multiplier: float) -> None:
    count = 6 * PIECE_VALUES + 17
    noise = np.zeros(count, np.float32)
    privatize(noise, terms(clip_norm, multiplier), np.random.default_rng(0))
    sigma = clip_norm * multiplier
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(count)
    assert noise.std() == pytest.approx(sigma, rel=0.01)
    assert np.mean(np.abs(noise) > 1.959964 * sigma) == pytest.approx(0.05, abs=0.003)
    assert (noise != 0).all()
    halves = noise[: count // 2], noise[count // 2 : 2 * (count // 2)]
    assert abs(np.corrcoef(*halves)[0, 1]) < 0.02
