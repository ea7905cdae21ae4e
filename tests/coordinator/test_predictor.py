from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from coordinator.checkpoints import CheckpointStore
from coordinator.predictor import BlockPredictor
from coordinator.round_counts import RoundCounts
from coordinator.sieve_facts import SieveFacts
from coordinator.survival_curve import LAPLACE_GAPS, SurvivalCurves
from shared.compression.codec import SparseUpdate
from shared.layout import F32, Layout

F64 = npt.NDArray[np.float64]

LAYOUT = Layout.of(
    [
        ("conv.weight", (32, 8, 5, 5), "weight"),
        ("conv.bias", (32,), "bias"),
        ("norm.weight", (32,), "norm"),
        ("hidden.weight", (40, 200), "weight"),
        ("hidden.bias", (40,), "bias"),
        ("out.weight", (10, 40), "weight"),
    ]
)
SIZES = np.diff(LAYOUT.block_starts).astype(np.float64)
SENT_SHARE = 0.005
BUDGET_BYTES = round(LAYOUT.size * SENT_SHARE * 9 / 8)
DEVICES = 4
ROUNDS = 25
WARM_UP_ROUNDS = 10


class World:
    """Devices whose values differ in scale by tensor, by block (drifting), by device, and keep what was not sent."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        tensor_octaves = self._generator.normal(0, 1.5, len(LAYOUT.tensors))
        self._octaves = tensor_octaves[LAYOUT.block_tensor] + self._generator.normal(0, 1, LAYOUT.num_blocks)
        self._owed = np.zeros((DEVICES, LAYOUT.size))

    def play_round(self) -> tuple[F32, list[SieveFacts]]:
        self._octaves = self._octaves + self._generator.normal(0, 0.3, LAYOUT.num_blocks)
        mean, facts = np.zeros(LAYOUT.size, np.float32), []
        for owed in self._owed:
            octaves = self._octaves + self._generator.normal(0, 0.5, LAYOUT.num_blocks)
            owed += self._generator.laplace(size=LAYOUT.size) * np.repeat(2.0**octaves, SIZES.astype(int))
            threshold = float(np.quantile(np.abs(owed), 1 - SENT_SHARE))
            indices = np.flatnonzero(np.abs(owed) > threshold).astype(np.int64)
            sent = SparseUpdate(LAYOUT.size, indices, owed[indices].astype(np.float32))
            owed[indices] = 0
            mean[indices] += sent.values / DEVICES
            facts.append(SieveFacts.of(sent, LAYOUT, threshold))
        return mean, facts


def bits_a_value(densities: F64, counts: F64) -> float:
    """Ideal position bits of a round under densities of which, as in a frame, only the ratios count."""
    values = DEVICES * SIZES
    low, high = -40.0, 40.0
    for _ in range(60):
        octaves = (low + high) / 2
        shares = np.minimum(densities * 2.0**octaves, 0.98)
        low, high = (low, octaves) if (values * shares).sum() > counts.sum() else (octaves, high)
    return float(-(counts * np.log2(shares) + (values - counts) * np.log2(1 - shares)).sum() / counts.sum())


def mean_losses(seed: int) -> dict[str, float]:
    world, predictor = World(seed), BlockPredictor(LAYOUT, seed)
    average, losses = np.ones(LAYOUT.num_blocks), dict[str, list[float]](uniform=[], average=[], predictor=[])
    counted, expected = np.zeros(LAYOUT.num_blocks), np.zeros(LAYOUT.num_blocks)
    for _ in range(ROUNDS):
        predicted = predictor.densities(BUDGET_BYTES)
        mean, facts = world.play_round()
        counts = np.sum([fact.counts for fact in facts], axis=0).astype(np.float64)
        losses["uniform"].append(bits_a_value(np.ones(LAYOUT.num_blocks), counts))
        losses["average"].append(bits_a_value(average, counts))
        losses["predictor"].append(bits_a_value(predicted, counts))
        counted = 0.8 * counted + counts
        expected = 0.8 * expected + SIZES * counts.sum() / SIZES.sum()
        average = (counted + 0.5) / (expected + 0.5)
        predictor.observe(mean, facts, BUDGET_BYTES)
    return {name: float(np.mean(values[WARM_UP_ROUNDS:])) for name, values in losses.items()}


def trained(rounds: int, seed: int = 3) -> tuple[BlockPredictor, World]:
    world, predictor = World(seed), BlockPredictor(LAYOUT, seed)
    for _ in range(rounds):
        predictor.observe(*world.play_round(), BUDGET_BYTES)
    return predictor, world


@pytest.mark.parametrize("seed", [1, 2])
def test_prediction_beats_uniform_density_and_is_no_worse_than_running_averages(seed: int) -> None:
    losses = mean_losses(seed)
    assert losses["predictor"] < 0.9 * losses["uniform"]
    assert losses["predictor"] <= 1.001 * losses["average"]


def test_nothing_is_known_before_the_first_round() -> None:
    densities = BlockPredictor(LAYOUT, 1).densities(BUDGET_BYTES)
    assert densities.shape == (LAYOUT.num_blocks,)
    np.testing.assert_allclose(densities, densities[0], rtol=1e-5)


@pytest.mark.parametrize("rounds", [0, 6])
@pytest.mark.parametrize("budget_bytes", [60, 300, 1200])
def test_densities_fill_the_budget(rounds: int, budget_bytes: int) -> None:
    shares = trained(rounds)[0].densities(budget_bytes)
    entropy = -shares * np.log2(shares) - (1 - shares) * np.log2(1 - shares)
    assert (SIZES * (entropy + shares)).sum() / 8 == pytest.approx(budget_bytes - 12, rel=0.01)


@pytest.mark.parametrize("budget_bytes", [1, 10**9])
def test_budget_of_any_size_gives_densities_between_0_and_1(budget_bytes: int) -> None:
    shares = trained(3)[0].densities(budget_bytes)
    assert ((shares >= 0) & (shares <= 1)).all()


def test_quantiles_rise_in_every_block() -> None:
    assert (np.diff(trained(6)[0].quantiles(BUDGET_BYTES), axis=1) > 0).all()


def test_restored_predictor_continues_bit_for_bit(tmp_path: Path) -> None:
    predictor, world = trained(5)
    store = CheckpointStore(tmp_path)
    restored = BlockPredictor(LAYOUT, seed=99)
    restored.restore(store.load(store.save(5, predictor.state(), {})).tensors)
    for _ in range(3):
        mean, facts = world.play_round()
        for one in (predictor, restored):
            one.observe(mean, facts, BUDGET_BYTES)
        assert predictor.densities(300).tobytes() == restored.densities(300).tobytes()
    for name, array in predictor.state().items():
        np.testing.assert_array_equal(array, restored.state()[name])


def test_state_is_a_copy() -> None:
    predictor, world = trained(2)
    kept = predictor.state()
    before = {name: array.copy() for name, array in kept.items()}
    predictor.observe(*world.play_round(), BUDGET_BYTES)
    for name, array in kept.items():
        np.testing.assert_array_equal(array, before[name])


def test_result_does_not_depend_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        several = trained(3)[0].densities(300).tobytes()
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert trained(3)[0].densities(300).tobytes() == several
    finally:
        torch.set_num_threads(threads)


def test_round_without_a_sent_value_teaches_nothing() -> None:
    predictor, _ = trained(3)
    before = predictor.densities(300)
    nothing = SieveFacts(np.zeros(LAYOUT.num_blocks, np.int64), 0.0)
    for facts in ([], [nothing]):
        predictor.observe(np.zeros(LAYOUT.size, np.float32), facts, BUDGET_BYTES)
    assert predictor.densities(300).tobytes() == before.tobytes()


def test_thresholds_that_are_unknown_or_absurd_leave_the_prediction_finite() -> None:
    predictor, world = trained(2)
    for thresholds in ((0.0, 0.0, 0.0, 0.0), (0.0, 6e-8, 1.0, 65504.0)):
        mean, facts = world.play_round()
        pairs = zip(facts, thresholds, strict=True)
        predictor.observe(mean, [SieveFacts(fact.counts, threshold) for fact, threshold in pairs], BUDGET_BYTES)
        assert np.isfinite(predictor.densities(300)).all()


def test_facts_count_values_by_block() -> None:
    indices = np.array([0, 199, 200, LAYOUT.size - 1], np.int64)
    counts = SieveFacts.of(SparseUpdate(LAYOUT.size, indices, np.ones(4, np.float32)), LAYOUT, 0.5).counts
    assert (counts[0], counts[1], counts[-1], counts.sum()) == (2, 1, 1, 4)


def test_updates_of_nearly_equal_threshold_are_counted_together() -> None:
    facts = [SieveFacts(np.full(3, number), threshold) for number, threshold in ((1, 1.0), (2, 1.01), (4, 2.0))]
    counts = RoundCounts.of(facts, torch.tensor([10.0, 20.0, 30.0]))
    assert counts.sent.tolist() == [[3.0] * 3, [4.0] * 3]
    assert counts.values.tolist() == [[20.0, 40.0, 60.0], [10.0, 20.0, 30.0]]
    assert counts.offsets.flatten().tolist() == [0.0, 1.0]


def test_laplace_curve_has_the_quantiles_of_the_laplace_distribution() -> None:
    shares = torch.tensor([0.5, 0.1, 0.01, 0.001])
    curves = SurvivalCurves.through(torch.log2(shares))
    medians = curves.quantiles()[:, 0].numpy()
    expected = np.log2(np.log(2) / -np.log(shares.numpy()))
    np.testing.assert_allclose(medians, expected, atol=1e-5)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3, 0.02, 0.002, 1e-6])
def test_curve_passes_through_its_share_and_falls(share: float) -> None:
    gaps = LAPLACE_GAPS * torch.tensor([[0.3, 1.0, 3.0], [2.0, 0.5, 1.0]])
    curves = SurvivalCurves.through(torch.full((2,), share).log2(), gaps)
    np.testing.assert_allclose(torch.exp2(curves.log2_shares(0.0)), share, rtol=1e-4)
    along = curves.log2_shares(torch.linspace(-12, 12, 200)[:, None])
    assert (along.diff(dim=0) <= 0).all()
    assert torch.isfinite(along).all()


def test_slopes_of_the_curve_are_finite_everywhere() -> None:
    gaps = LAPLACE_GAPS.expand(1, 3).clone().requires_grad_()
    curves = SurvivalCurves.through(torch.tensor([-7.0]), gaps)
    (slope,) = torch.autograd.grad(curves.log2_shares(torch.linspace(-12, 12, 97)[:, None]).sum(), gaps)
    assert torch.isfinite(slope).all()
