import numpy as np

from shared.compression.draws import raw_draws, seed_of, uniform_draws


def test_draws_never_change() -> None:
    seed = seed_of(np.array([1.0, -2.0], np.float32))
    assert seed == 17170755590550615894
    assert raw_draws(7, 2).tolist() == [11530976094092348043, 16550673365885938325]


def test_draws_are_uniform() -> None:
    draws = uniform_draws(1, 100_000)
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(np.histogram(draws, 10, (0, 1))[0], 10_000, rtol=0.05)
