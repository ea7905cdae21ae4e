import math

import numpy as np
import pytest

from shared.compression.eden import CENTROIDS, EdenCodec, Rotation, encode_rotated, hadamard, nearest
from shared.compression.plan import Plan
from shared.compression.rice import F64
from shared.errors import DecodeError
from shared.layout import Layout

CODEC = EdenCodec()
LAYOUT = Layout.of([("weight", (16, 128), "weight")])
HEAD_BYTES = 7


def delivered_under_seeds(update: F64, bits_per_value: float, seeds: int) -> F64:
    budget = HEAD_BYTES + int(len(update) * bits_per_value) // 8
    frames = [encode_rotated(update, seed, 8 * (budget - HEAD_BYTES)) for seed in range(seeds)]
    return np.stack([CODEC.decode(frame, LAYOUT, Plan(budget)).densify() for frame in frames]).astype(np.float64)


def skewed_update() -> F64:
    random = np.random.default_rng(0)
    update: F64 = random.exponential(1.0, LAYOUT.size) * np.repeat([8.0, 1.0], LAYOUT.size // 2)
    return update


def distortion(width: int) -> float:
    """What Lloyd-Max quantisation of a standard normal variable leaves of its energy: 1 - E[centroid²]."""
    sample = np.random.default_rng(1).standard_normal(400_000)
    return float(np.mean((sample - CENTROIDS[width][nearest(sample, width)]) ** 2))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_centroid_is_the_mean_of_the_normal_values_nearest_to_it(width: int) -> None:
    """Lloyd's condition: (φ(a) - φ(b)) / (Φ(b) - Φ(a)) between the midpoints a and b."""
    centroids = CENTROIDS[width]
    edges = [-math.inf, *((centroids[1:] + centroids[:-1]) / 2).tolist(), math.inf]
    density = [math.exp(-edge * edge / 2) / math.sqrt(2 * math.pi) for edge in edges]
    below = [(1 + math.erf(edge / math.sqrt(2))) / 2 for edge in edges]
    np.testing.assert_allclose(centroids, -np.diff(density) / np.diff(below), atol=2e-6)


def test_the_rotation_keeps_lengths_and_spreads_a_single_value() -> None:
    rotation = Rotation.of(3, 1_024)
    update = np.random.default_rng(0).standard_normal(1_024)
    np.testing.assert_allclose(rotation.undo(rotation.apply(update)) / 1_024, update, atol=1e-12)
    one = np.zeros(1_024)
    one[5] = 2.0
    np.testing.assert_array_equal(np.abs(rotation.apply(one)), 2.0)


def test_the_hadamard_transform_is_that_of_sylvester() -> None:
    matrix = np.array([[1.0]])
    for _ in range(4):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    vector = np.random.default_rng(0).standard_normal(16)
    np.testing.assert_allclose(hadamard(vector), matrix @ vector)


@pytest.mark.parametrize(("bits", "known"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_errors_are_those_of_the_theory_at_whole_bits(bits: int, known: float) -> None:
    """Unbiased, D / (1 - D) for the distortion D of Lloyd and Max: π / 2 - 1 at one bit."""
    assert math.isclose(distortion(bits), known, rel_tol=0.02)
    update = skewed_update()
    delivered = delivered_under_seeds(update, bits, 20)
    error = float(np.mean(np.sum((delivered - update) ** 2, axis=1)) / np.sum(update**2))
    assert math.isclose(error, known / (1 - known), rel_tol=0.05)


@pytest.mark.parametrize("bits", [0.125, 0.5])
def test_below_one_bit_the_error_grows_with_the_share_left_out(bits: float) -> None:
    update = skewed_update()
    delivered = delivered_under_seeds(update, bits, 20)
    error = float(np.mean(np.sum((delivered - update) ** 2, axis=1)) / np.sum(update**2))
    assert math.isclose(error, math.pi / 2 / bits - 1, rel_tol=0.05)


@pytest.mark.parametrize("bits", [0.5, 1, 1.5])
def test_the_mean_over_rotations_approaches_the_update(bits: float) -> None:
    update, seeds = skewed_update(), 200
    delivered = delivered_under_seeds(update, bits, seeds)
    single = float(np.mean(np.sum((delivered - update) ** 2, axis=1)))
    averaged = float(np.sum((delivered.mean(axis=0) - update) ** 2))
    assert averaged < 1.15 * single / seeds


@pytest.mark.parametrize("bits", [0.25, 0.5, 1, 1.5, 3])
def test_the_scale_makes_every_frame_deliver_the_update_in_its_own_direction(bits: float) -> None:
    """The paper's S = ‖u‖² / ⟨c, rotated u⟩: whatever the rotation, ⟨delivered, u⟩ = ‖u‖². Unbiased follows."""
    update = skewed_update()
    delivered = delivered_under_seeds(update, bits, 5)
    np.testing.assert_allclose(delivered @ update, update @ update, rtol=1e-5)


def test_which_values_get_a_bit_more_is_drawn_with_the_rotation() -> None:
    (first, _), (other, _) = (Rotation.of(seed, 1_024).widths(512)[0] for seed in (1, 2))
    assert len(first) == len(other) == 512
    for members in (first, other):
        assert 150 < np.count_nonzero(members < 512) < 350
    assert set(first.tolist()) != set(other.tolist())


@pytest.mark.parametrize("budget_bytes", [8, 100, 263, 400, 1_000, 1_031])
def test_the_budget_is_filled_up_to_four_bits_a_value(budget_bytes: int) -> None:
    update = skewed_update().astype(np.float32)
    assert len(CODEC.encode(update, LAYOUT, Plan(budget_bytes)).frame) == budget_bytes
    assert len(CODEC.encode(update, LAYOUT, Plan(5_000)).frame) == HEAD_BYTES + LAYOUT.size * 4 // 8


def test_a_frame_for_another_budget_is_refused() -> None:
    frame = CODEC.encode(skewed_update().astype(np.float32), LAYOUT, Plan(100)).frame
    with pytest.raises(DecodeError, match="this layout and plan need 99"):
        CODEC.decode(frame, LAYOUT, Plan(99))


def test_a_scale_that_is_not_finite_is_refused() -> None:
    frame = CODEC.encode(skewed_update().astype(np.float32), LAYOUT, Plan(100)).frame
    with pytest.raises(DecodeError, match="scale"):
        CODEC.decode(frame[:3] + b"\x7f\x80\x00\x00" + frame[7:], LAYOUT, Plan(100))
