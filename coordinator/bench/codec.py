"""`python -m coordinator.bench.codec`: how long the partition codec takes, against `np.partition` in the same run.

Which code NumPy runs for `np.partition` depends on the CPU, and takes 0.9 to 6 ms for the same million values. So every
row names it; the environment variable NPY_DISABLE_CPU_FEATURES selects another.
"""

import argparse
import gc
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np

from coordinator.bench.result import Claim, Row, write_result
from shared.compression.histogram import likely_edge, magnitude_bits, magnitude_histogram
from shared.compression.history import RECENT_FRAMES, SendHistory
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan, plan_from_densities
from shared.compression.sieve import likely_count
from shared.layout import F32, Layout

SIZES = (24_000, 221_000, 1_000_000, 10_000_000)
QUICK_SIZES = SIZES[:3]
DENSITIES = (0.001, 0.01)
LAYERS, ROW = 12, 500
REPEATS = 15
ZLIB_LEVEL = 1
CODEC = PartitionCodec()


@dataclass(frozen=True)
class Case:
    """One update of Student-t values, `layered` with log-normal scales of layers and rows or not, and one plan."""

    size: int
    density: float
    layered: bool
    prior: str
    seed: int

    def make(self) -> tuple[F32, Layout, Plan]:
        """The update, its layout, and a plan whose budget pays for about the density."""
        random = np.random.default_rng(self.seed)
        rows = np.array([len(part) for part in np.array_split(np.arange(self.size // ROW), LAYERS)])
        layout = Layout.of([(f"layer{number}", (count, ROW), "weight") for number, count in enumerate(rows.tolist())])
        scales = np.ones(int(rows.sum()))
        if self.layered:
            scales = np.repeat(random.lognormal(0, 1, LAYERS), rows) * random.lognormal(0, 0.6, rows.sum())
        scale = np.repeat(scales, ROW).astype(np.float32)
        update = random.standard_t(4, layout.size).astype(np.float32) * scale
        plan = Plan(budget_for(layout.size, self.density))
        if self.prior == "public":
            plan = replace(plan, density_classes=self._classes(update, layout))
        if self.prior == "client":
            plan = plan.knowing(self._history(random, scale, layout, plan))
        return update, layout, plan

    def _history(self, random: np.random.Generator, scale: F32, layout: Layout, plan: Plan) -> SendHistory:
        """As many earlier frames of such updates as a history remembers."""
        history = SendHistory.empty(layout)
        for _ in range(RECENT_FRAMES):
            update = random.standard_t(4, layout.size).astype(np.float32) * scale
            history = history.after(CODEC.encode(update, layout, plan).delivered.indices, layout)
        return history

    def _classes(self, update: F32, layout: Layout) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """The classes of a plan that predicts well: of the blocks' true densities, none below an eighth of all."""
        magnitudes = np.abs(update)
        threshold = np.partition(magnitudes, -int(layout.size * self.density))[-int(layout.size * self.density)]
        sent = np.add.reduceat(magnitudes >= threshold, layout.block_starts[:-1], dtype=np.int64)
        return plan_from_densities(np.maximum(sent / np.diff(layout.block_starts), self.density / 8))


def budget_for(size: int, density: float) -> int:
    """The fewest bytes that are likely to send this share of `size` values."""
    low, high = 1, 4 * size
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if likely_count(size, middle) < size * density else (low, middle)
    return low


def measure(case: Case, repeats: int = REPEATS) -> Row:
    """Medians of processor time, in milliseconds, over runs that take turns; of zlib a single run."""
    update, layout, plan = case.make()
    encoded = CODEC.encode(update, layout, plan)
    sent = len(encoded.delivered.indices)
    runs: dict[str, Callable[[], object]] = {
        "encode": partial(CODEC.encode, update, layout, plan),
        "decode": partial(CODEC.decode, encoded.frame, layout, plan),
        "copy": update.copy,
        **threshold_methods(update, layout, sent),
    }
    spent = _interleaved(runs, repeats)
    packed: list[bytes] = []
    spent["zlib"] = _interleaved({"zlib": lambda: packed.append(zlib.compress(update.tobytes(), ZLIB_LEVEL))}, 1)[
        "zlib"
    ]
    millions = layout.size / 1e6
    return {
        "size": layout.size,
        "density": case.density,
        "data": "layered" if case.layered else "student-t",
        "prior": case.prior,
        "seed": case.seed,
        "simd": simd_extensions(),
        "frame_bytes": len(encoded.frame),
        "zlib_bytes": len(packed[0]),
        "sent": sent,
        **{f"{name}_ms": round(taken, 4) for name, taken in spent.items()},
        "encode_ms_per_million": round(spent["encode"] / millions, 3),
        "decode_ms_per_million": round(spent["decode"] / millions, 3),
        "ratio": round(spent["encode"] / spent["partition"], 3),
    }


def threshold_methods(update: F32, layout: Layout, sent: int) -> dict[str, Callable[[], object]]:
    """Ways to a threshold that `sent` values reach: exactly, to a bin of 1/16 octave, or about, from a sample."""
    magnitudes, bits = np.abs(update), magnitude_bits(update, layout)
    return {
        "partition": partial(np.partition, magnitudes, layout.size - sent),
        "histogram": lambda: magnitude_histogram(bits)[::-1].cumsum().searchsorted(sent),
        "sample": partial(likely_edge, bits, sent),
    }


def simd_extensions() -> str:
    """The latest vector extension that this NumPy uses here."""
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return [*extensions["baseline"], *extensions.get("found", [])][-1]


def claims_of(rows: Sequence[Row]) -> list[Claim]:
    """Encoding a million values against `np.partition` alone, prior by prior, as means over data and seeds."""
    ratios: dict[tuple[object, object], list[float]] = {}
    for row in rows:
        if row["size"] == 10**6:
            ratios.setdefault((row["prior"], row["density"]), []).append(float(str(row["ratio"])))
    return [
        Claim(
            f"encode / np.partition, 1 M values, prior {prior}, {density:.1%}", round(mean(found), 3), 1, 0.6, "lower"
        )
        for (prior, density), found in ratios.items()
    ]


def _interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    spent: dict[str, list[float]] = {name: [] for name in runs}
    gc.disable()
    try:
        for _ in range(repeats):
            for name, run in runs.items():
                started = time.process_time_ns()
                run()
                spent[name].append((time.process_time_ns() - started) / 1e6)
    finally:
        gc.enable()
    return {name: median(times) for name, times in spent.items()}


def main() -> None:
    """Measure all cases, print a line for each, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench codec", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="no more than a million values")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/codec.json"))
    chosen = parser.parse_args()
    rows = []
    print(f"NumPy uses {simd_extensions()}; times in ms")
    print(
        "   size  density  data       prior    bytes  encode  decode  copy  partition  histogram  sample   zlib  ratio"
    )
    for size in QUICK_SIZES if chosen.quick else SIZES:
        for density in DENSITIES:
            for layered, prior in ((False, "none"), (True, "none"), (True, "public"), (True, "client")):
                for seed in chosen.seeds:
                    row = measure(Case(size, density, layered, prior, seed))
                    rows.append(row)
                    print(LINE.format(**row))
    command = f"scripts/bench codec{' --quick' if chosen.quick else ''} --seeds {' '.join(map(str, chosen.seeds))}"
    write_result(chosen.out, "codec", command, chosen.seeds, rows, claims_of(rows))


LINE = (
    "{size:>8}  {density:<6} {data:<10} {prior:<7} {frame_bytes:>7} {encode_ms:>7.2f} {decode_ms:>7.2f} {copy_ms:>5.2f}"
    " {partition_ms:>9.2f} {histogram_ms:>10.2f} {sample_ms:>7.2f} {zlib_ms:>6.1f} {ratio:>6.2f}"
)

if __name__ == "__main__":
    main()
