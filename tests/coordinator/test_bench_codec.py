import numpy as np
import pytest

from coordinator.bench.codec import Case, budget_for, claims_of, measure, threshold_methods
from shared.compression.histogram import BIN_SHIFT, NUM_BINS, magnitude_bits
from shared.compression.sieve import likely_count


@pytest.mark.parametrize(("size", "density"), [(24_000, 0.01), (1_000_000, 0.001)])
def test_the_budget_is_the_smallest_for_its_density(size: int, density: float) -> None:
    budget_bytes = budget_for(size, density)
    assert likely_count(size, budget_bytes) >= size * density > likely_count(size, budget_bytes - 1)


@pytest.mark.parametrize("prior", ["none", "public"])
def test_a_case_sends_about_its_density_and_is_timed(prior: str) -> None:
    row = measure(Case(24_000, 0.01, layered=True, prior=prior, seed=0), repeats=1)
    assert 150 < float(str(row["sent"])) < 400
    assert float(str(row["ratio"])) > 0


def test_claims_are_means_over_the_rows_of_a_million_values() -> None:
    measured = [(10**6, "none", 1.0), (10**6, "none", 2.0), (24, "none", 9.0), (10**6, "client", 3.0)]
    rows = [{"size": size, "prior": prior, "density": 0.01, "ratio": ratio} for size, prior, ratio in measured]
    assert [claim.value for claim in claims_of(rows)] == [1.5, 3.0]


def test_the_threshold_methods_agree_on_how_many_values_reach_it() -> None:
    update, layout, _ = Case(24_000, 0.01, layered=False, prior="none", seed=0).make()
    sent = 240
    bits = magnitude_bits(update, layout)
    methods = threshold_methods(update, layout, sent)
    exact = float(np.asarray(methods["partition"]())[-sent])
    assert np.count_nonzero(np.abs(update) >= exact) == sent
    edge = NUM_BINS - 1 - int(str(methods["histogram"]())) << BIN_SHIFT
    assert np.count_nonzero(bits >= edge) >= sent > np.count_nonzero(bits >= edge + (1 << BIN_SHIFT))
    assert sent <= np.count_nonzero(bits >= int(str(methods["sample"]()))) <= 2 * sent
