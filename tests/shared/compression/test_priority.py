import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.compression.memory import remembered
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan
from shared.compression.priority import DRAW_BITS, expected_left, power, priorities
from shared.compression.residual import ResidualFeedback
from shared.layout import F32, Layout

LAYOUT = Layout.of([("a.weight", (20, 60), "weight"), ("a.bias", (20,), "bias")])
CODEC = PartitionCodec()
BY_CHANCE = Plan(90, chance_quarters=5)


def update_of(seed: int) -> F32:
    return np.random.default_rng(seed).laplace(size=LAYOUT.size).astype(np.float32)


def many_draws(update: F32, plan: Plan, draws: int) -> tuple[F32, F32]:
    """Means of what is delivered and of what is left, over draws for updates that hardly differ."""
    random, delivered, left = np.random.default_rng(1), np.zeros_like(update), np.zeros_like(update)
    for _ in range(draws):
        nearly = update * (1 + 1e-5 * random.standard_normal(update.size)).astype(np.float32)
        encoded = CODEC.encode(nearly, LAYOUT, plan)
        assert encoded.left is not None
        encoded.delivered.add_to(delivered)
        left += encoded.left
    return delivered / np.float32(draws), left / np.float32(draws)


@pytest.mark.parametrize("chance_quarters", [4, 5, 8])
def test_delivered_and_left_add_up_to_the_update_on_average(chance_quarters: int) -> None:
    update = update_of(0)
    delivered, left = many_draws(update, Plan(90, chance_quarters=chance_quarters), 600)
    error = np.linalg.norm(delivered + left - update) / np.linalg.norm(update)
    assert error < 0.35
    for part in np.array_split(np.argsort(np.abs(update)), 4):
        assert np.abs(delivered[part] + left[part]).sum() == pytest.approx(np.abs(update[part]).sum(), rel=0.12)


def test_with_exponent_one_nothing_is_left_on_average_and_with_more_the_small_values_are() -> None:
    update = update_of(0)
    left = {quarters: many_draws(update, Plan(90, chance_quarters=quarters), 50)[1] for quarters in (4, 6, 10)}
    owed = {quarters: float(np.abs(rest).sum() / np.abs(update).sum()) for quarters, rest in left.items()}
    assert owed[4] < 0.12 < owed[6] < owed[10]


def test_small_values_are_sent_too() -> None:
    update = update_of(3)
    sent = np.abs(update[CODEC.encode(update, LAYOUT, BY_CHANCE).delivered.indices])
    largest = np.abs(update[CODEC.encode(update, LAYOUT, Plan(90)).delivered.indices])
    assert sent.min() < 0.3 * largest.min()
    assert np.median(sent) < 0.8 * np.median(largest)


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float32, LAYOUT.size, elements=st.floats(-(2.0**127), 2.0**127, width=32)),
    st.integers(4, 10),
    st.integers(12, 400),
)
def test_any_update_keeps_to_the_budget_and_decodes_to_what_is_delivered(
    update: F32, chance_quarters: int, budget_bytes: int
) -> None:
    plan = Plan(budget_bytes, chance_quarters=chance_quarters)
    encoded = CODEC.encode(update, LAYOUT, plan)
    assert len(encoded.frame) <= budget_bytes
    decoded = CODEC.decode(encoded.frame, LAYOUT, plan)
    np.testing.assert_array_equal(decoded.indices, encoded.delivered.indices)
    np.testing.assert_array_equal(decoded.values, encoded.delivered.values)


def test_the_same_update_makes_the_same_draw_and_another_one_another() -> None:
    update = update_of(4)
    first, again, other = (priorities(u, LAYOUT, 1.25) for u in (update, update.copy(), update_of(5)))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first / update, other / update_of(5))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_with_nan_or_infinity_is_refused(bad: float) -> None:
    update = update_of(6)
    update[77] = bad
    with pytest.raises(ValueError, match="NaN"):
        CODEC.encode(update, LAYOUT, BY_CHANCE)


def test_sure_values_leave_exactly_what_was_not_delivered() -> None:
    update = update_of(7)
    update[5] = 400.0
    encoded = CODEC.encode(update, LAYOUT, BY_CHANCE)
    assert encoded.left is not None
    assert encoded.left[5] == np.float32(400.0) - encoded.delivered.densify()[5]
    again = expected_left(update, encoded.delivered, 1e-3, 1.25)
    np.testing.assert_array_equal(again, update - encoded.delivered.densify())


def test_the_memory_keeps_what_the_codec_expects_to_be_left() -> None:
    update, memory = update_of(8), ResidualFeedback.zero(LAYOUT.size)
    by_chance, by_size = (CODEC.encode(update, LAYOUT, plan) for plan in (BY_CHANCE, Plan(90)))
    assert by_chance.left is not None
    np.testing.assert_array_equal(remembered(memory, update, by_chance).state, by_chance.left)
    np.testing.assert_array_equal(remembered(memory, update, by_size).state, update - by_size.delivered.densify())


@pytest.mark.parametrize("quarters", range(4, 11))
def test_powers_are_those_of_numpy_but_for_the_last_bits(quarters: int) -> None:
    numbers = (np.arange(1 << 16) / (1 << 16)).astype(np.float32)
    wanted = numbers.astype(np.float64) ** (quarters / 4)
    np.testing.assert_allclose(power(numbers, quarters / 4), wanted, rtol=2e-6, atol=0)


def test_powers_are_the_same_bits_on_every_cpu() -> None:
    numbers = (np.arange(1 << 16) / (1 << 16)).astype(np.float32)
    powers = np.concatenate([power(numbers, quarters / 4) for quarters in range(4, 11)])
    digest = hashlib.sha256(powers.astype("<f4").tobytes()).hexdigest()
    assert digest == "a5e52c5d219dcb9326d729f78e0a647d55428635fb8a83a17d163a98811cca56"


@pytest.mark.parametrize("quarters", range(4, 11))
def test_no_factor_of_a_draw_is_so_near_the_middle_of_two_float32_that_cpus_could_round_it_otherwise(
    quarters: int,
) -> None:
    factors = ((np.arange(1 << DRAW_BITS) + 0.5) / (1 << DRAW_BITS)) ** (-4 / quarters)
    nearest = factors.astype(np.float32)
    neighbours = [np.nextafter(nearest, np.float32(end)).astype(np.float64) for end in (0, np.inf)]
    margins = [np.abs((nearest + neighbour) / 2 - factors) / np.spacing(factors) for neighbour in neighbours]
    assert np.min(margins) > 256  # a library's power is a few such units wrong at most
