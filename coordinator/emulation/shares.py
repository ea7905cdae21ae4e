"""What each emulated device has to train on, put where the fleet's workers read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coordinator.tasks.examples import Examples
from shared.layout import I64

if TYPE_CHECKING:
    from coordinator.tasks.task import ClientData


def write_shares(folder: Path, examples: Examples, parts: Sequence[I64], test_share: float, seed: int) -> None:
    """Write the arrays, and whose rows are whose: each device tests on this share of its own, drawn by `seed`.

    A device with one example trains on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x.npy", examples.x)
    np.save(folder / "y.npy", examples.y)
    random, ends, end = np.random.default_rng((seed, 0x7E57)), np.empty((len(parts), 2), np.int64), 0
    rows = np.empty(sum(len(part) for part in parts), np.int64)
    for number, part in enumerate(parts):
        tests = min(round(test_share * len(part)), len(part) - 1)
        rows[end : end + len(part)] = random.permutation(part)
        ends[number] = end + len(part) - tests, end + len(part)
        end += len(part)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "ends.npy", ends)


def write_recordings(folder: Path, clients: Sequence["ClientData"]) -> None:
    """Write each client's recordings into a folder of its name, as a board has them."""
    from coordinator.tasks.task import export_folder  # noqa: PLC0415  loads torch, which dealt examples need not

    for client in clients:
        export_folder(client, folder / client.name)
