import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.tasks.skew import dirichlet, iid, natural, quantity, shards
from shared.errors import DataError
from shared.layout import I64

CLASSES = 6


def _labels(count: int, seed: int) -> I64:
    return np.random.default_rng(seed).integers(0, CLASSES, count)


def _assert_each_once(parts: list[I64], examples: int) -> None:
    assert all(len(part) and part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(examples))


def _skewness(parts: list[I64], labels: I64) -> float:
    """The mean over clients of the total variation distance from the classes of all."""
    everyone = np.bincount(labels, minlength=CLASSES) / len(labels)
    own = [np.bincount(labels[part], minlength=CLASSES) / len(part) for part in parts]
    return float(np.mean([np.abs(shares - everyone).sum() / 2 for shares in own]))


@given(st.integers(1, 30), st.integers(0, 200), st.integers(0, 2**32))
def test_iid_gives_every_example_once_and_evenly(clients: int, more: int, seed: int) -> None:
    parts = iid(clients + more, clients, np.random.default_rng(seed))
    _assert_each_once(parts, clients + more)
    assert len(parts) == clients
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 30), st.integers(0, 200), st.floats(1e-3, 1e3), st.integers(0, 2**32))
def test_dirichlet_gives_every_example_once_and_evenly(clients: int, more: int, alpha: float, seed: int) -> None:
    parts = dirichlet(_labels(clients + more, seed), clients, alpha, np.random.default_rng(seed))
    _assert_each_once(parts, clients + more)
    assert len(parts) == clients
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(0, 2**32))
def test_dirichlet_is_more_skewed_the_smaller_alpha(seed: int) -> None:
    labels = _labels(3_000, seed)
    skews = [
        _skewness(dirichlet(labels, 10, alpha, np.random.default_rng(seed)), labels) for alpha in (0.05, 1, 20, 1000)
    ]
    assert skews == sorted(skews, reverse=True)


def test_dirichlet_of_tiny_alpha_leaves_most_clients_one_class() -> None:
    labels = np.repeat(np.arange(CLASSES), 500)
    parts = dirichlet(labels, 20, 1e-3, np.random.default_rng(1))
    kinds = [len(np.unique(labels[part])) for part in parts]
    assert sum(count == 1 for count in kinds) > 10


def test_dirichlet_of_large_alpha_follows_the_sizes_of_unequal_classes() -> None:
    labels = np.repeat(np.arange(CLASSES), [5000, 500, 500, 500, 500, 500])
    parts = dirichlet(labels, 5, 1e6, np.random.default_rng(1))
    assert [np.mean(labels[part] == 0) for part in parts] == pytest.approx([2 / 3] * 5, abs=0.03)


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_natural_keeps_every_owner_with_one_client(clients: int, seed: int) -> None:
    owners = np.random.default_rng(seed).permutation(np.repeat(np.arange(12), np.arange(1, 13)))
    parts = natural(owners, clients, np.random.default_rng(seed))
    _assert_each_once(parts, len(owners))
    assert len(parts) == clients
    assert sum(len(np.unique(owners[part])) for part in parts) == 12


def test_natural_with_a_client_for_every_owner_is_in_their_order() -> None:
    owners = np.array([2, 0, 2, 1, 0])
    parts = natural(owners, 3, np.random.default_rng(0))
    assert [part.tolist() for part in parts] == [[1, 4], [3], [0, 2]]


def test_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    labels, owners = _labels(400, 0), np.repeat(np.arange(20), 20)

    def split(seed: int) -> list[list[int]]:
        random = np.random.default_rng(seed)
        parts = iid(400, 5, random) + dirichlet(labels, 5, 0.5, random) + natural(owners, 5, random)
        return [part.tolist() for part in parts]

    assert split(3) == split(3)
    assert all(one != other for one, other in zip(split(3), split(4), strict=True))


def test_more_clients_than_there_is_data_for_are_refused() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(DataError, match="4 clients from 3 examples"):
        iid(3, 4, random)
    with pytest.raises(DataError, match="4 clients from 3 examples"):
        dirichlet(np.arange(3), 4, 1.0, random)
    with pytest.raises(DataError, match="4 clients from 2 owners"):
        natural(np.array([0, 0, 1]), 4, random)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_alpha_that_is_no_concentration_is_refused(alpha: float) -> None:
    with pytest.raises(DataError, match="must be above 0"):
        dirichlet(np.arange(3), 2, alpha, np.random.default_rng(0))


@given(clients=st.integers(1, 20), runs=st.integers(1, 4), more=st.integers(0, 30), seed=st.integers(0, 99))
def test_shards_give_every_example_once_and_few_classes_each(clients: int, runs: int, more: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 10, 40 * clients * runs + more)
    parts = shards(labels, clients, runs, np.random.default_rng(seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    shortest = min(np.bincount(labels)[np.unique(labels)])
    reach = -(-len(labels) // (clients * runs)) // max(1, shortest) + 2
    assert all(len(np.unique(labels[part])) <= runs * reach for part in parts)


@given(clients=st.integers(1, 40), more=st.integers(0, 200), sigma=st.floats(0.1, 3), seed=st.integers(0, 99))
def test_quantity_leaves_nobody_without(clients: int, more: int, sigma: float, seed: int) -> None:
    parts = quantity(clients + more, clients, sigma, np.random.default_rng(seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(clients + more))
    assert min(map(len, parts)) >= 1


def test_quantity_is_more_uneven_the_larger_sigma() -> None:
    spreads = [np.std([len(p) for p in quantity(10_000, 50, s, np.random.default_rng(2))]) for s in (0.1, 0.5, 1, 2)]
    assert spreads == sorted(spreads)
    with pytest.raises(DataError, match="sigma"):
        quantity(10, 2, 0.0, np.random.default_rng(1))
