"""What the documentation says of compression, computed from the benchmark's rows."""

from collections.abc import Callable, Sequence
from statistics import median_high

from coordinator.bench.matrix import MAIN_SKEWS, Headline
from coordinator.bench.recipes import MOST_ROUNDS
from coordinator.bench.result import Claim
from coordinator.bench.setting import WITHIN, Row, Setting, best, cheapest, settings_of, targets_of

OURS = "partition"
NEVER = 99.0
"""Stands for a quotient of bytes where ours does not reach what the rival does."""


def claims_of(rows: Sequence[Row], headline: Headline) -> list[Claim]:
    """All claims that the rows suffice for; those about one task are about the headline's."""
    settings = settings_of(rows)
    here = [s for s in settings if (s["task"], s["skew"], s["participation"]) == (headline.task, headline.skew, 1)]
    made = [
        _within_of_dense(settings),
        _to_dense_best(here),
        _codec_alone(here),
        _codec_by_default(here),
        _codec_with_gain(here),
        _system(here),
        _levers_lent(here),
        *_both_ways(here),
        _frame_against_ideal(settings),
        _against_stc(here, "public", -0.10, -0.15),
        _against_stc(here, "client", -0.18, -0.30),
    ]
    return [claim for claim in made if claim is not None]


def within_ratios(settings: Sequence[Setting]) -> dict[str, float]:
    """For each place the largest mean ratio of a sieved setting within 0.3 points of dense, same rounds and steps.

    1 where none is; dense has its best optimiser. A ratio counts only where every smaller one holds too, so that no
    lucky seed makes it.
    """
    ratios: dict[str, float] = {}
    for place in dict.fromkeys(setting.place for setting in settings):
        there = [setting for setting in settings if setting.place == place]
        dense = [setting for setting in there if setting["codec"] == "dense"]
        sieved = [s for s in there if s["codec"] == OURS and s["study"] in ("tasks", "codec") and not s["variant"]]
        if dense and sieved:
            ratios[place] = _held_ratio(sorted(sieved, key=lambda setting: setting.mean("ratio")), dense)
    return ratios


def _held_ratio(rising: Sequence[Setting], dense: Sequence[Setting]) -> float:
    held = 1.0
    for setting in rising:
        same = best([found for found in dense if _same_work(found, setting)], lambda found: found.accuracy)
        if same is not None and setting.accuracy < same.accuracy - WITHIN:
            break
        held = setting.mean("ratio") if same is not None else held
    return held


def codec_target(settings: Sequence[Setting]) -> float | None:
    """The accuracy that the better half of the codecs reach at one of their budgets."""
    reached: dict[str, float] = {}
    for setting in (setting for setting in settings if setting["study"] == "codec"):
        reached[setting["codec"]] = max(reached.get(setting["codec"], 0.0), setting.accuracy)
    return median_high(reached.values()) if len(reached) > 1 else None


def _within_of_dense(settings: Sequence[Setting]) -> Claim | None:
    main = [s for s in settings if s["skew"] == MAIN_SKEWS.get(s["task"], "dirichlet-0.5") and s["participation"] == 1]
    ratios = within_ratios(main)
    if not ratios:
        return None
    text = f"ratio with accuracy within 0.3 points of dense, least of {len(ratios)} tasks"
    return Claim(text, round(min(ratios.values()), 1), 37.1, 300, "higher")


def _to_dense_best(here: Sequence[Setting]) -> Claim | None:
    dense = best((s for s in here if s["codec"] == "dense" and s["study"] == "dense"), lambda found: found.accuracy)
    ours = [s for s in here if s["study"] == "ours" and s["codec"] == OURS]
    if dense is None or not ours:
        return None
    spent = dense.bytes_to(dense.accuracy) or dense.mean("uplink_bytes")
    found = cheapest([s for s in ours if s["rounds"] <= MOST_ROUNDS * dense["rounds"]], dense.accuracy)
    ratio = round(spent / found[1], 1) if found else 0.0
    text = "uplink bytes to dense's best accuracy, dense / ours with all levers (0: not reached)"
    return Claim(text, ratio, 500, 2000, "higher")


def _codec_alone(here: Sequence[Setting]) -> Claim | None:
    alone = of_all_seeds([s for s in here if s["study"] == "codec"])
    target = codec_target(alone)
    return None if target is None else _against_rivals(
        "codec alone, same optimiser and rounds: uplink bytes to equal accuracy, ours / best rival's",
        alone, target, (0.8, 0.6),
    )  # fmt: skip


def _codec_by_default(here: Sequence[Setting]) -> Claim | None:
    """The same, for jobs that do not ask for chance."""
    alone = of_all_seeds([s for s in here if s["study"] == "codec"])
    target = codec_target(alone)
    return None if target is None else _against_rivals(
        "codec alone, by default, without chance: uplink bytes to equal accuracy, ours / best rival's",
        [setting for setting in alone if not setting["chance"]], target, (0.8, 0.6),
    )  # fmt: skip


def of_all_seeds(settings: Sequence[Setting]) -> list[Setting]:
    """Those that ran with the most seeds: a lucky or hard split must not count for one side alone."""
    most = max((len(setting.rows) for setting in settings), default=0)
    return [setting for setting in settings if len(setting.rows) == most]


def _codec_with_gain(here: Sequence[Setting]) -> Claim | None:
    """The same against STC with the sieve's gain, which its paper has not: what is left is priors and levels."""
    first = [s for s in here if s["study"] in ("codec", "gain")]
    lent = [s for s in first if s["study"] == "gain" and s["codec"] == "stc"]
    ours = [s for s in first if s["study"] == "codec" and s["codec"] == OURS and not s["chance"]]
    target = max((setting.accuracy for setting in lent), default=None)
    return None if target is None else _against_rivals(
        "codec alone, the gain lent to STC: uplink bytes to STC's best accuracy, ours / STC's",
        [*ours, *lent], target, (0.8, 0.6),
    )  # fmt: skip


def _levers_lent(here: Sequence[Setting]) -> Claim | None:
    ours = [s for s in here if s["study"] == "ours"]
    lent = [s for s in here if s["study"] == "lent"]
    target = max((setting.accuracy for setting in lent), default=None)
    return None if target is None else _against_rivals(
        "our recipe, all its levers lent to STC: uplink bytes to STC's best accuracy, ours / STC's",
        [*ours, *lent], target, (0.8, 0.6),
    )  # fmt: skip


def _system(here: Sequence[Setting]) -> Claim | None:
    """The target is that of plain federated averaging, as the rivals' papers have no server momentum."""
    target = next(iter(targets_of([s for s in here if s["study"] == "dense"]).values()), None)
    contest = [s for s in here if s["study"] in ("published", "ours")]
    return None if target is None else _against_rivals(
        "our recipe against published recipes: uplink bytes to 0.3 points below dense, ours / best rival's",
        contest, target, (0.33, 0.15),
    )  # fmt: skip


def _against_rivals(text: str, contest: Sequence[Setting], target: float, limits: tuple[float, float]) -> Claim | None:
    ours = cheapest([setting for setting in contest if setting["codec"] == OURS], target)
    rival = cheapest([setting for setting in contest if setting["codec"] != OURS], target)
    if rival is None:
        return None
    if ours is None:
        return Claim(f"{text} ({rival[0]['codec']}; ours never gets there)", NEVER, *limits, "lower")
    return Claim(f"{text} ({rival[0]['codec']})", round(ours[1] / rival[1], 3), *limits, "lower")


def _both_ways(here: Sequence[Setting]) -> list[Claim]:
    """Bytes up and down until 0.3 points below dense, of the cheapest dense setting and of our cheapest."""
    target = next(iter(targets_of(here).values()), None)
    if target is None:
        return []
    dense = _cheapest_both_ways([s for s in here if s["codec"] == "dense" and s["study"] == "dense"], target)
    ours = _cheapest_both_ways([s for s in here if s["study"] == "ours" and s["downlink_codec"] != "dense"], target)
    if dense is None or ours is None:
        return []
    (of_dense, spent_dense), (of_ours, spent_ours) = dense, ours
    first = (spent_dense + of_dense.mean("first_model_bytes")) / (spent_ours + of_ours.mean("first_model_bytes"))
    text = "up and down together to 0.3 points below dense, dense / ours, the first model"
    return [
        Claim(f"{text} apart", round(spent_dense / spent_ours, 1), 30, 200, "higher"),
        Claim(f"{text} counted", round(first, 1), 30, 200, "higher"),
    ]


def _cheapest_both_ways(settings: Sequence[Setting], target: float) -> tuple[Setting, float] | None:
    spent = [(setting, bytes_) for setting in settings if (bytes_ := _both_ways_to(setting, target)) is not None]
    return min(spent, key=lambda pair: pair[1], default=None)


def _both_ways_to(setting: Setting, target: float) -> float | None:
    """Bytes up and down until the target; those down are the same every round."""
    up = setting.bytes_to(target)
    if up is None:
        return None
    server_round: int = next(point[0] for point in setting.curve if point[2] >= up)
    down = setting.mean("downlink_bytes") + setting.mean("plan_bytes")
    return up + down * float(server_round) / float(setting["rounds"])


def _frame_against_ideal(settings: Sequence[Setting]) -> Claim | None:
    return _quotient(
        "frame length / ideal length of its symbols",
        settings, lambda s: not s["variant"], ("frame_bits", "ideal_bits"), 0, (1.05, 1.02),
    )  # fmt: skip


def _against_stc(here: Sequence[Setting], prior: str, floor: float, aim: float) -> Claim | None:
    """Over the study of codecs, at the budgets that both priors were run at."""
    study = [s for s in here if s["study"] == "codec" and s["codec"] == OURS and not s["chance"]]
    ratios = {p: {s["budget_ratio"] for s in study if s["prior"] == p} for p in ("public", "client")}
    shared = ratios["public"] & ratios["client"] or ratios[prior]
    return _quotient(
        f"prior {prior} against STC at identical masks, position and sign bits with the head",
        study, lambda s: s["prior"] == prior and s["budget_ratio"] in shared,
        ("mask_bits", "stc_mask_bits"), 1, (floor, aim),
    )  # fmt: skip


def _quotient(
    text: str,
    settings: Sequence[Setting],
    wanted: Callable[[Setting], bool],
    keys: tuple[str, str],
    less: float,
    limits: tuple[float, float],
) -> Claim | None:
    """The quotient of two sums over all rows of the sieve that are wanted, less a number."""
    rows = [row for s in settings if s["codec"] == OURS and wanted(s) for row in s.rows]
    whole, part = (sum(row[key] for row in rows) for key in keys)
    return Claim(text, round(whole / part - less, 4), *limits, "lower") if part else None


def _same_work(one: Setting, other: Setting) -> bool:
    return (one["rounds"], one["steps"], one["clients"]) == (other["rounds"], other["steps"], other["clients"])
