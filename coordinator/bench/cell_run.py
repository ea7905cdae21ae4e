"""Runs one cell to its end: from a cell to the row that stands in the result file."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from coordinator.bench.cell import Cell
from coordinator.bench.federation import Federation
from coordinator.tasks.examples import Examples
from coordinator.tasks.registry import array_task_by_name

ROUNDS_PER_EVALUATION = 2
AVERAGED = 3
"""An accuracy is the mean of so many evaluations in a row, which takes the jitter of single rounds off it."""

CurvePoint = tuple[int, float, int]
"""The round, the accuracy after it, and the uplink bytes until then."""


def run_cell(cell: Cell, announce: Callable[[int], None] = lambda server_round: None) -> dict[str, object]:
    """The row of a cell; `announce` hears each round that has ended. The same cell gives the same row but for seconds.

    Raises `DataError` where the task's data is not at hand.
    """
    began = time.process_time()
    task = array_task_by_name(cell.task)
    federation = Federation(cell, task, *_examples(cell.task))
    curve: list[CurvePoint] = []
    for server_round in range(1, cell.recipe.rounds + 1):
        federation.play_round()
        if server_round % ROUNDS_PER_EVALUATION == 0 or server_round == cell.recipe.rounds:
            curve.append((server_round, round(federation.accuracy(), 5), federation.traffic.uplink_bytes))
        announce(server_round)
    return row_of(cell, federation, curve) | {"cpu_seconds": round(time.process_time() - began, 1)}


def row_of(cell: Cell, federation: Federation, curve: Sequence[CurvePoint]) -> dict[str, object]:
    """What a finished run is to be judged by."""
    traffic, bits = federation.traffic, federation.bits
    settings = asdict(cell.recipe) | {"codec_options": dict(cell.recipe.codec_options)}
    settings["budget_ratio"] = settings.pop("ratio")
    return {
        "task": cell.task,
        "skew": cell.skew,
        "codec": cell.recipe.codec,
        "seed": cell.seed,
        "clients": cell.clients,
        "participation": cell.participation,
        **settings,
        "values": federation.layout.size,
        "accuracy": round(running_means(curve)[-1][1], 5),
        "ratio": round(traffic.dense_bytes / traffic.uplink_bytes, 2),
        **asdict(traffic),
        "ideal_bits": round(bits.ideal),
        "frame_bits": bits.frame,
        "mask_bits": bits.mask,
        "stc_mask_bits": bits.stc_mask,
        "position_bits": bits.positions,
        "stc_position_bits": bits.stc_positions,
        "curve": [list(point) for point in curve],
    }


def running_means(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The curve with each accuracy as the mean of the last three, of fewer at the beginning only."""
    means = []
    for place, (server_round, _, uplink_bytes) in enumerate(curve, start=1):
        last = [accuracy for _, accuracy, _ in curve[max(place - AVERAGED, 0) : place]]
        means.append((server_round, sum(last) / len(last), uplink_bytes))
    return means


def bytes_to(curve: Sequence[CurvePoint], target: float) -> int | None:
    """Uplink bytes when the mean of three evaluations first reaches the target; None when it never does."""
    return next((spent for _, mean, spent in running_means(curve)[AVERAGED - 1 :] if mean >= target), None)


@functools.cache
def _examples(task: str) -> tuple[Examples, Examples]:
    """Read once a process: the runs of one task follow each other."""
    return array_task_by_name(task).load()
