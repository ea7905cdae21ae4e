import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.orders import PrivacyTerms
from edge_client.privacy_account import ACCOUNT_FILE, PrivacyAccount, read_account, write_account
from shared.errors import Declined

TERMS = PrivacyTerms(clip_norm=1.0, noise_multiplier=20.0, delta=1e-5, largest_epsilon=None)
multipliers = st.lists(st.floats(0.5, 100), min_size=1, max_size=30)


def terms(noise_multiplier: float, largest_epsilon: float | None = None) -> PrivacyTerms:
    return TERMS.model_copy(update={"noise_multiplier": noise_multiplier, "largest_epsilon": largest_epsilon})


def spent(noise: list[float]) -> PrivacyAccount:
    account = PrivacyAccount()
    for multiplier in noise:
        account = account.after(terms(multiplier))
    return account


def test_nothing_sent_costs_nothing() -> None:
    assert PrivacyAccount().epsilon(1e-5) == 0


def test_hundred_rounds_cost_what_is_computed_by_hand() -> None:
    account = spent([20.0] * 100)
    assert account.rounds == 100
    assert account.rho == pytest.approx(100 * 2 / 400)
    assert account.epsilon(1e-5) == pytest.approx(0.5 + 2 * math.sqrt(0.5 * math.log(1e5)))


@given(noise=multipliers, delta=st.floats(1e-9, 0.1))
def test_epsilon_is_the_least_over_all_orders(noise: list[float], delta: float) -> None:
    account = spent(noise)
    orders = [1 + 2.0**power for power in range(-20, 30)]
    over_orders = min(order * account.rho + math.log(1 / delta) / (order - 1) for order in orders)
    assert account.epsilon(delta) <= over_orders * (1 + 1e-9)
    assert over_orders <= account.epsilon(delta) * 1.26  # orders that double are at worst so far from the best one


@given(noise=multipliers, more=st.floats(0.5, 100), delta=st.floats(1e-9, 0.1))
def test_each_round_costs_more_and_louder_noise_costs_less(noise: list[float], more: float, delta: float) -> None:
    account = spent(noise)
    assert account.after(terms(more)).epsilon(delta) > account.epsilon(delta)
    assert account.after(terms(2 * more)).epsilon(delta) < account.after(terms(more)).epsilon(delta)


@given(st.floats(0.5, 20), st.floats(1e-7, 1e-2))
def test_epsilon_is_no_less_than_the_exact_one_of_a_single_gaussian(noise_multiplier: float, delta: float) -> None:
    epsilon = spent([noise_multiplier]).epsilon(delta)
    # B. Balle, Y.-X. Wang, Improving the Gaussian Mechanism for Differential Privacy, ICML 2018, theorem 8
    sigma, sensitivity = noise_multiplier, 2.0
    half, shift = sensitivity / (2 * sigma), epsilon * sigma / sensitivity
    exact_delta = _normal(half - shift) - math.exp(epsilon) * _normal(-half - shift)
    assert exact_delta <= delta


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def test_round_that_would_cost_too_much_in_all_is_declined() -> None:
    strict = terms(20.0, largest_epsilon=1.0)
    account = PrivacyAccount()
    while account.after(strict).epsilon(strict.delta) <= 1.0:
        account.check(strict)
        account = account.after(strict)
    assert account.rounds == 4
    with pytest.raises(Declined, match=r"above privacy\.largest_epsilon = 1") as caught:
        account.check(strict)
    assert caught.value.reason == "privacy"


def test_account_comes_back_from_its_file(tmp_path: Path) -> None:
    assert read_account(tmp_path) == PrivacyAccount()
    write_account(tmp_path, spent([3.0, 7.0]))
    assert read_account(tmp_path) == spent([3.0, 7.0])


@pytest.mark.parametrize("content", [b"", b'{"rho":-1,"rounds":0}', b'{"rho":1}'])
def test_damaged_account_is_not_taken_for_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ACCOUNT_FILE).write_bytes(content)
    with pytest.raises(Declined, match="restore it, or delete it"):
        read_account(tmp_path)
