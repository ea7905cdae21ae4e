"""`gradsieve codec`: codecs by themselves, without a run."""

import json
import math
import time
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
import numpy.typing as npt
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, deserialize

from coordinator.codec_trial import PERFECT_PLAN, Arrays, NamedUpdate, Trial, budget_of_ratio, try_codecs
from shared.compression.memory import NoMemory
from shared.compression.plan import MOST_BUDGET_BYTES
from shared.compression.registry import MEMORIES
from shared.errors import DataError, SettingsError

DEFAULT_RATIO = 100.0
PIPED_WIDTH = 120
FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""The types of safetensors that numpy has; bfloat16 is the upper half of a float32."""

UNREADABLE = (ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What numpy raises on archives that are damaged, encrypted or hold pickled objects."""

codec = typer.Typer(help="Codecs by themselves, without a run.", no_args_is_help=True)


class _Entry(TypedDict):
    """A tensor as it stands in a safetensors file."""

    dtype: str
    shape: list[int]
    data: bytes


@codec.command("try")
def try_(
    first: Annotated[Path, typer.Argument(metavar="FILE", help="an update; or the checkpoint before, with a second")],
    second: Annotated[Path | None, typer.Argument(metavar="[AFTER]", help="the checkpoint after")] = None,
    ratio: Annotated[list[float] | None, typer.Option(help="times smaller than float32; default 100")] = None,
    budget: Annotated[
        list[int] | None, typer.Option(min=1, max=MOST_BUDGET_BYTES, metavar="BYTES", help="most bytes of a frame")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Try every codec on your own update: bytes, ratio, error and time of each.

    FILE, .safetensors or .npz, is a gradient or an update; where AFTER is given too, both are checkpoints of one model,
    and the update is AFTER - FILE. --ratio and --budget can be given several times.
    """
    ratios = ratio or ([] if budget else [DEFAULT_RATIO])
    for wanted in ratios:
        if not 1 <= wanted < math.inf:
            raise SettingsError(f"--ratio {wanted}: it must be a number from 1 up, 100 for a hundredth of the bytes")
    arrays = _read(first)
    update = NamedUpdate.of(arrays) if second is None else NamedUpdate.between(arrays, _read(second))
    budgets = [*(budget or []), *(budget_of_ratio(wanted, update.layout) for wanted in ratios)]
    with Console(stderr=True).status("codecs") as spinner:
        trials = try_codecs(update, budgets, time.perf_counter, lambda name: spinner.update(f"codec {name}"))
    if as_json:
        print(json.dumps(_facts(update, trials), indent=2))
    else:
        _show(update, trials)


def _facts(update: NamedUpdate, trials: list[Trial]) -> dict[str, object]:
    return {
        "tensors": len(update.layout.tensors),
        "values": update.layout.size,
        "skipped": update.skipped,
        "trials": [asdict(trial) for trial in trials],
    }


def _show(update: NamedUpdate, trials: list[Trial]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    console.print(_table(trials, box.ROUNDED if console.is_terminal else None))
    for line in _notes(update, trials):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(trials: list[Trial], style: box.Box | None) -> Table:
    table = Table(box=style, pad_edge=style is not None)
    for name in ("budget", "codec", "bytes", "ratio", "error", "values", "encode ms", "decode ms"):
        table.add_column(name, justify="left" if name == "codec" else "right", no_wrap=True)
    shown: int | None = 0
    for trial in trials:
        is_next = trial.budget_bytes != shown
        if is_next:
            table.add_section()
            shown = trial.budget_bytes
        budget = "any" if trial.budget_bytes is None else f"{trial.budget_bytes:,}"
        table.add_row(budget if is_next else "", *_cells(trial))
    return table


def _cells(trial: Trial) -> tuple[str, ...]:
    return (
        trial.codec,
        f"{'*' if trial.is_over_budget else ''}{trial.frame_bytes:,}",
        f"{trial.ratio:,.1f}",
        f"{trial.nmse:.4f}" if trial.nmse >= 1e-4 or trial.nmse == 0 else f"{trial.nmse:.0e}",
        f"{trial.values_sent:,}",
        f"{trial.encode_milliseconds:.1f}",
        f"{trial.decode_milliseconds:.1f}",
    )


def _notes(update: NamedUpdate, trials: list[Trial]) -> list[str]:
    plans = ", ".join(f"{trial.plan_bytes:,}" for trial in trials if trial.codec == PERFECT_PLAN)
    unbiased = ", ".join(name for name, memory in MEMORIES.items() if memory is NoMemory)
    notes = [
        f"{update.layout.size:,} values in {len(update.layout.tensors)} tensors.",
        "error: share of the update's energy that is not delivered. any: takes no budget.",
        f"{PERFECT_PLAN}: classes made of this very update, a mark for predictors. Plan, not counted: {plans} bytes.",
        f"{unbiased}: rounded at random, errors average out over devices; the others send the rest later.",
    ]
    if any(trial.is_over_budget for trial in trials):
        notes.append("*: above the budget, this codec can go no lower.")
    if update.skipped:
        notes.append(f"skipped, no floating values: {', '.join(update.skipped)}")
    return notes


def _read(file: Path) -> Arrays:
    """The arrays of a file by name; raises `DataError` when it is missing, damaged or of another type."""
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    if file.suffix not in readers:
        raise DataError(f"{file}: only .safetensors and .npz files can be read, convert it to one of them")
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    return readers[file.suffix](file)


def _read_npz(file: Path) -> Arrays:
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file}: damaged or no .npz archive, write it with np.savez")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except UNREADABLE as error:
        raise DataError(f"{file}: {error}: write plain arrays with np.savez") from error


def _read_safetensors(file: Path) -> Arrays:
    try:
        entries: list[tuple[str, _Entry]] = deserialize(file.read_bytes())  # type: ignore[no-untyped-call]  # no stubs
    except SafetensorError as error:
        raise DataError(f"{file}: damaged or no safetensors file, {error}: save it again") from error
    return {name: _tensor(entry["dtype"], entry["data"], entry["shape"]) for name, entry in entries}


def _tensor(kind: str, data: bytes, shape: list[int]) -> npt.NDArray[np.generic]:
    """A tensor of floats in its shape; of any other type its bytes."""
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(shape)
    if kind in FLOATS:
        return np.frombuffer(data, FLOATS[kind]).reshape(shape)
    return np.frombuffer(data, np.uint8)
