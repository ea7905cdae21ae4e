import math

import numpy as np
import pytest

from shared.compression.bits import BitReader
from shared.compression.draws import uniform_draws
from shared.compression.plan import Plan
from shared.compression.qsgd import QsgdCodec, omega, quantise, read_omegas
from shared.errors import DecodeError
from shared.layout import Layout

CODEC = QsgdCodec()
LEVELS = [3, 1, 700, 2, 16, 1, 65, 5, 1]


def test_a_level_is_the_upper_with_the_probability_of_the_rest() -> None:
    """The paper's equation for ξ: with |v| s / ‖v‖ = 2.3 the level is 3 three times in ten, else 2."""
    levels = quantise(np.full(100_000, 2.3), norm=4.0, levels=4, draws=uniform_draws(1, 100_000))
    assert set(levels.tolist()) == {2, 3}
    assert abs(float(np.mean(levels == 3)) - 0.3) < 0.005


def test_rounding_is_unbiased_with_the_variance_and_sparsity_of_lemma_3_1() -> None:
    random = np.random.default_rng(0)
    values = np.abs(random.standard_normal(1_000))
    norm, levels = float(np.linalg.norm(values)), 4
    rounded = [quantise(values, norm, levels, uniform_draws(seed, 1_000)) * norm / levels for seed in range(600)]
    np.testing.assert_allclose(np.mean(rounded, axis=0).sum(), values.sum(), rtol=0.01)
    error = np.mean([np.sum((one - values) ** 2) for one in rounded])
    assert 0.5 < error / (math.sqrt(1_000) / levels * norm**2) <= 1
    assert np.mean([np.count_nonzero(one) for one in rounded]) <= levels * (levels + math.sqrt(1_000))


@pytest.mark.parametrize(
    ("value", "code"), [(1, b"0"), (2, b"100"), (3, b"110"), (4, b"101000"), (8, b"1110000"), (16, b"10100100000")]
)
def test_levels_take_the_recursive_code_of_elias(value: int, code: bytes) -> None:
    assert omega(value) == code


def test_every_level_comes_back_and_one_above_the_most_is_refused() -> None:
    for value in (*range(1, 300), 65_535):
        code = omega(value).decode()
        data = int(code.ljust(40, "0"), 2).to_bytes(5, "big")
        assert read_omegas(BitReader(data), 1, value).tolist() == [value]
        if value > 1:
            with pytest.raises(DecodeError, match="a level is above"):
                read_omegas(BitReader(data), 1, value - 1)


def test_levels_one_after_another_come_back_and_ones_that_the_end_cuts_off_are_refused() -> None:
    code = b"".join(map(omega, LEVELS)).decode()
    data = int(code, 2).to_bytes(len(code) // 8, "big")
    reader = BitReader(data)
    assert len(code) == 8 * len(data)
    assert read_omegas(reader, len(LEVELS), 1_000).tolist() == LEVELS
    reader.finish()
    for cut in range(len(data)):
        with pytest.raises(DecodeError, match="truncated"):
            read_omegas(BitReader(data[:cut]), len(LEVELS), 1_000)


def test_a_level_of_many_thousand_bits_is_refused_like_any_other() -> None:
    with pytest.raises(DecodeError, match="above the 65535"):
        read_omegas(BitReader(b"\xff" * 10_000), 1, 65_535)


def test_more_bytes_buy_more_levels_down_to_one_level(watch_layout: Layout) -> None:
    update = np.random.default_rng(0).standard_normal(watch_layout.size).astype(np.float32)
    norm = float(np.linalg.norm(update))
    for budget_bytes in (400, 4_000, 20_000):
        encoded = CODEC.encode(update, watch_layout, Plan(budget_bytes))
        assert 0.8 * budget_bytes <= len(encoded.frame) <= budget_bytes
        levels = int.from_bytes(encoded.frame[5:7], "big")
        multiples = np.abs(encoded.delivered.values.astype(np.float64)) * levels / norm
        np.testing.assert_allclose(multiples, np.round(multiples), rtol=1e-5)
    least = CODEC.encode(update, watch_layout, Plan(1))
    assert int.from_bytes(least.frame[5:7], "big") == 1
    expected = np.abs(update).sum() / norm
    assert abs(len(least.delivered.indices) - expected) < 5 * math.sqrt(expected)
