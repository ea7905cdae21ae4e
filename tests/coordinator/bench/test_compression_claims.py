from dataclasses import asdict
from typing import Any

import pytest

from coordinator.bench.compression_claims import claims_of, codec_target, within_ratios
from coordinator.bench.matrix import Headline
from coordinator.bench.recipe import Recipe
from coordinator.bench.setting import settings_of, targets_of
from coordinator.job import PriorName

HERE = Headline("digits", "dirichlet-0.5")
WHOLE = 1_000_000


def row(recipe: Recipe, accuracies: list[float], uplink_bytes: int, **fields: Any) -> dict[str, Any]:
    """A run of one client whose accuracy is judged each round, and whose bytes are spent evenly."""
    rounds = len(accuracies)
    settings = asdict(recipe) | {"rounds": rounds}
    settings["budget_ratio"] = settings.pop("ratio")
    curve = [[at, accuracy, uplink_bytes * at // rounds] for at, accuracy in enumerate(accuracies, start=1)]
    traffic = {"uplink_bytes": uplink_bytes, "dense_bytes": WHOLE * rounds, "ratio": WHOLE * rounds / uplink_bytes}
    traffic |= {"downlink_bytes": WHOLE * rounds, "plan_bytes": 0, "first_model_bytes": WHOLE}
    bits = {"frame_bits": 0, "ideal_bits": 0, "mask_bits": 0, "stc_mask_bits": 0}
    place = {"task": "digits", "skew": "dirichlet-0.5", "seed": 1, "clients": 1, "participation": 1.0}
    return settings | place | traffic | bits | {"curve": curve, "accuracy": accuracies[-1]} | fields


def values(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {claim.claim.split(",")[0].split(" (")[0]: claim.value for claim in claims_of(rows, HERE)}


RISING = [0.8, 0.9, 0.95, 0.97, 0.97, 0.97]
DENSE = row(Recipe("dense", study="dense"), RISING, 6 * WHOLE)


def test_the_largest_ratio_that_stays_within_a_third_of_a_point_counts_and_the_worst_task_decides() -> None:
    rows = [DENSE]
    for ratio, accuracy in ((100, 0.97), (400, 0.968), (900, 0.96)):
        recipe = Recipe("partition", ratio=ratio, study="tasks")
        rows.append(row(recipe, [*RISING[:3], accuracy, accuracy, accuracy], 6 * WHOLE // ratio))
    assert within_ratios(settings_of(rows)) == {"digits/dirichlet-0.5": pytest.approx(400, rel=1e-3)}
    worse = [dict(found, task="watch", skew="natural") for found in rows if found["budget_ratio"] in (1, 900)]
    assert values([*rows, *worse])["ratio with accuracy within 0.3 points of dense"] == 1.0


def test_seeds_are_averaged_before_anything_is_compared() -> None:
    seeds = [
        row(Recipe("partition", ratio=100, study="tasks"), [a] * 6, 60_000, seed=n) for n, a in ((1, 0.9), (2, 1.0))
    ]
    (setting,) = settings_of(seeds)
    assert setting.accuracy == pytest.approx(0.95)
    assert setting.bytes_to(0.95 - 1e-9) == 30_000
    assert setting.bytes_to(0.96) is None


def test_dense_against_ours_at_the_best_accuracy_of_any_number_of_local_steps() -> None:
    longer = row(Recipe("dense", steps=80, study="dense"), [0.9, 0.97, 0.98, 0.98, 0.98, 0.98], 6 * WHOLE)
    ours = row(Recipe("partition", ratio=1000, steps=80, study="ours"), [0.9, 0.98, 0.98, 0.98, 0.98, 0.98], 6_000)
    claim = "uplink bytes to dense's best accuracy"
    # three evaluations at 0.98 in a row: after the fifth of dense, the fourth of ours
    assert values([DENSE, longer, ours])[claim] == pytest.approx(5 * WHOLE / 4_000)
    assert values([DENSE, longer, row(Recipe("partition", study="ours"), RISING, 6_000)])[claim] == 0


def test_codecs_are_compared_at_what_the_better_half_reach_each_at_its_cheapest_budget() -> None:
    rows = []
    for codec, top, spent in (("partition", 0.95, 600), ("stc", 0.95, 1200), ("topk", 0.9, 60), ("dgc", 0.8, 6)):
        rows += [row(Recipe(codec, ratio=budget, study="codec"), [top] * 6, budget * spent) for budget in (1, 2)]
    assert codec_target(settings_of(rows)) == pytest.approx(0.95)
    assert values(rows)["codec alone"] == 0.5


def test_our_recipe_is_compared_with_the_cheapest_rival_that_reaches_the_target() -> None:
    rivals = [
        row(Recipe(codec, study="published"), RISING, spent) for codec, spent in (("stc", 6000), ("topk", 60_000))
    ]
    late = row(Recipe("qsgd", study="published"), [0.5] * 6, 6)
    ours = row(Recipe("partition", study="ours", prior="client"), RISING, 600)
    assert (
        values([DENSE, *rivals, late, ours])[
            "our recipe against published recipes: uplink bytes to 0.3 points below dense"
        ]
        == 0.1
    )


def test_both_ways_count_frames_deltas_and_plans_and_the_first_model_only_where_it_says_so() -> None:
    ours = row(
        Recipe("partition", study="ours", downlink_codec="partition"),
        RISING,
        6_000,
        downlink_bytes=50_000,
        plan_bytes=4_000,
    )
    found = {claim.claim: claim.value for claim in claims_of([DENSE, ours], HERE) if "together" in claim.claim}
    apart, counted = found.values()
    assert apart == pytest.approx(12 * WHOLE / 60_000, abs=0.1)
    assert counted == pytest.approx(13 * WHOLE / (60_000 + WHOLE), abs=0.1)


def test_frames_are_compared_as_sums_over_rows() -> None:
    budgets: list[tuple[int, PriorName, int]] = [(10, "public", 900), (10, "client", 700), (20, "client", 100)]
    rows = [
        row(Recipe("partition", ratio=ratio, prior=prior, study="codec"), RISING, 600, frame_bits=1050 * ratio,
            ideal_bits=1000 * ratio, mask_bits=mask, stc_mask_bits=1000)
        for ratio, prior, mask in budgets
    ]  # fmt: skip
    found = values(rows)
    assert found["frame length / ideal length of its symbols"] == 1.05
    assert found["prior public against STC at identical masks"] == pytest.approx(-0.1)
    assert found["prior client against STC at identical masks"] == pytest.approx(-0.3)  # the budgets that both have


def test_rows_that_suffice_for_no_claim_make_none() -> None:
    assert claims_of([DENSE], HERE) == []
    assert targets_of(settings_of([DENSE])) == {"digits/dirichlet-0.5": pytest.approx(0.967)}
