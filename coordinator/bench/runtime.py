"""`python -m coordinator.bench.runtime`: a training step on the device's runtime against torch in eager mode.

Each side is a process of its own with one thread, started anew for every family of models. They take turns, a few steps
at a time, so that both meet the same load; a step is its processor time, the optimiser's included. Torch runs twice:
with its own convolutions, and with those of `coordinator.tasks`, whose memory format it likes better. The ratio is to
the faster.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from coordinator.bench.families import FAMILIES, Family, loss_of
from coordinator.bench.load import load_before
from coordinator.bench.markdown import claims_table, rows_table
from coordinator.bench.result import Claim, Row, write_result
from coordinator.bench.torch_steps import PROGRAM
from coordinator.export.live_bytes import live_bytes
from coordinator.export.step import export_step
from coordinator.export.step_graphs import StepGraphs
from shared.errors import ExportError, TrainerError

BATCH_SIZE = 32
TURNS, QUICK_TURNS = 12, 5
TURN_MS, FEWEST_STEPS, MOST_STEPS = 150.0, 3, 60
ANSWER_SECONDS = 120.0
SIDES = ("ours", "torch_plain", "torch_last")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Side:
    """A process that times steps on request."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.loaded = self._read()
        self.step_ms: list[float] = []
        self.peak_rss_bytes = 0

    def take_turn(self, steps: int, counts: bool = True) -> float:
        """Time so many steps; returns their median in milliseconds. Warm-up steps do not count."""
        if self._process.stdin is None:
            raise TrainerError("the timing process has no standard input")
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer = self._read()
        self.peak_rss_bytes = answer["peak_rss_bytes"]
        taken: list[float] = answer["step_ms"]
        if counts:
            self.step_ms += taken
        return median(taken)

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise TrainerError(f"a timing process ended with exit code {self._process.wait(ANSWER_SECONDS)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Exported:
    """A family's graphs, and the processor time of exporting them."""

    graphs: StepGraphs
    seconds: float

    @classmethod
    def of(cls, family: Family) -> "Exported":
        """Export once; raises `ExportError` where a rule is missing."""
        started = time.process_time()
        x, y = torch.zeros(4, *family.input_shape), torch.zeros(4, dtype=torch.int64)
        graphs = export_step(family.make(), loss_of, x, y)
        return cls(graphs, time.process_time() - started)

    def write(self, folder: Path, family: Family) -> None:
        """What `edge_client.step_times` reads."""
        layout = [(tensor.name, tensor.shape, tensor.role) for tensor in self.graphs.layout.tensors]
        case = {"layout": layout, "input_shape": family.input_shape, "classes": family.classes}
        (folder / "case.json").write_text(json.dumps(case))
        (folder / "train.onnx").write_bytes(self.graphs.train)
        (folder / "eval.onnx").write_bytes(self.graphs.evaluate)


def measure(name: str, turns: int, batch_size: int = BATCH_SIZE) -> Row:
    """One family's row; where it cannot be exported, the reason."""
    family = FAMILIES[name]
    try:
        exported = Exported.of(family)
    except ExportError as error:
        return {"family": name, "batch_size": batch_size, "not_exported": str(error)[:300]}
    with tempfile.TemporaryDirectory(prefix="gradsieve-runtime-") as folder, ExitStack() as stack:
        exported.write(Path(folder), family)
        ours = ["-m", "edge_client.step_times", folder, str(batch_size)]
        torches = [["-c", PROGRAM, name, str(batch_size), kind] for kind in ("plain", "last")]
        sides = [stack.enter_context(side_of(command)) for command in (ours, *torches)]
        take_turns(sides, turns)
        return {"family": name, "batch_size": batch_size} | _figures(exported, sides, batch_size)


def take_turns(sides: Sequence[Side], turns: int) -> None:
    """Warm all sides up, then have each time some steps, one after another, `turns` times."""
    steps = []
    for side in sides:
        side.take_turn(FEWEST_STEPS, counts=False)
        step_ms = side.take_turn(FEWEST_STEPS, counts=False)
        steps.append(min(MOST_STEPS, max(FEWEST_STEPS, round(TURN_MS / step_ms))))
    for _ in range(turns):
        for side, count in zip(sides, steps, strict=True):
            side.take_turn(count)


def _figures(exported: Exported, sides: Sequence[Side], batch_size: int) -> dict[str, object]:
    ours, *torches = sides
    times = {
        f"{name}_ms_{what}": round(function(side.step_ms), 4)
        for name, side in zip(SIDES, sides, strict=True)
        for what, function in (("median", median), ("min", min))
    }
    graphs = exported.graphs
    return {
        "weights": graphs.layout.size,
        "train_onnx_bytes": len(graphs.train),
        "eval_onnx_bytes": len(graphs.evaluate),
        "live_bytes": live_bytes(graphs.train, batch_size),
        "export_seconds": round(exported.seconds, 2),
        "load_seconds": round(ours.loaded["load_seconds"], 3),
        **times,
        "steps": len(ours.step_ms),
        "ratio_median": round(median(ours.step_ms) / min(median(side.step_ms) for side in torches), 3),
        "ratio_min": round(min(ours.step_ms) / min(min(side.step_ms) for side in torches), 3),
        "imported_rss_mb": round(ours.loaded["base_rss_bytes"] / 1e6, 1),
        "peak_rss_mb": round(ours.peak_rss_bytes / 1e6, 1),
        "torch_peak_rss_mb": round(max(side.peak_rss_bytes for side in torches) / 1e6, 1),
    }


@contextmanager
def side_of(arguments: Sequence[str]) -> Iterator[Side]:
    """A timing process of ours with these arguments, one thread, ended at the end of the block."""
    process = subprocess.Popen(  # noqa: S603  our own programs
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ONE_THREAD,
    )
    try:
        yield Side(process)
    finally:
        process.kill()
        process.communicate()


def claims_of(rows: Sequence[Row]) -> list[Claim]:
    """The worst ratio, be it of medians or of minima, of the small families and of the others."""
    claims = []
    for is_small, floor, aim in ((True, 1.0, 0.7), (False, 1.6, 1.0)):
        found = {
            str(row["family"]): max(float(str(row["ratio_median"])), float(str(row["ratio_min"])))
            for row in rows
            if "ratio_median" in row and FAMILIES[str(row["family"])].is_small == is_small
        }
        if found:
            names = ", ".join(found)
            claims.append(Claim(f"step time / torch eager, worst of {names}", max(found.values()), floor, aim, "lower"))
    return claims


COLUMNS = (
    "family", "weights", "ours_ms_median", "torch_plain_ms_median", "torch_last_ms_median", "ratio_median", "ratio_min",
    "load_seconds", "train_onnx_bytes", "peak_rss_mb", "torch_peak_rss_mb",
)  # fmt: skip


def table_of(rows: Sequence[Row], command: str, load: str) -> str:
    """The rows and claims as Markdown."""
    missing = [f"- {row['family']}: not exported: {row['not_exported']}" for row in rows if "not_exported" in row]
    lines = [
        "# A training step on the device's runtime, against torch",
        "",
        f"Made by `{command}`; all figures and versions in [runtime.json](runtime.json). {load}",
        "",
        "Processor time of a step, optimiser included, one thread, in interleaved turns; `torch_plain` is torch with",
        "its own convolutions, `torch_last` with channels last in memory; the ratio is to the faster of the two.",
        "Memory is that of a process that only trains.",
        "",
        *rows_table([row for row in rows if "not_exported" not in row], COLUMNS),
        *missing,
        "",
        *claims_table(claims_of(rows)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all families, print a line for each, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench runtime", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/runtime.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    load, rows = load_before(), []
    for name in chosen.families:
        rows.append(measure(name, QUICK_TURNS if chosen.quick else TURNS, chosen.batch_size))
        print(json.dumps(rows[-1]), flush=True)
    command = f"scripts/bench runtime{' --quick' if chosen.quick else ''}"
    write_result(chosen.out, "runtime", command, [0], rows, claims_of(rows), {"load": load})
    chosen.out.with_suffix(".md").write_text(table_of(rows, command, load), encoding="utf-8")


if __name__ == "__main__":
    main()
