"""`python -m edge_client.step_times FOLDER`: how long a training step takes on this device, whole steps at a time.

The folder holds `train.onnx`, `eval.onnx` and `case.json`: the `layout` as a bundle's manifest has it, `input_shape`
and `classes`. For each line with a number on standard input, that many steps on made-up examples; each line of output
is JSON: first what loading took, then for each request the processor time of every step, in milliseconds.
"""

import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_client.memory import peak_rss_bytes, rss_bytes
from edge_client.runtime import Batch, OnnxRuntime
from shared.layout import F32, Layout
from shared.messages import LocalWork

SMALL_DEVIATION = 0.05


@dataclass
class StepTimes:
    """A graph with weights and one batch of random examples, trained again and again."""

    runtime: OnnxRuntime
    weights: F32
    batch: Batch
    _starts: list[int] = field(default_factory=list)

    def measure(self, steps: int, learning_rate: float = 0.001) -> list[float]:
        """Processor time of each of `steps` steps, optimiser included, in milliseconds."""
        self._starts.clear()
        work = LocalWork(
            steps=steps + 1, batch_size=len(self.batch[1]), learning_rate=learning_rate, momentum=0.9, codec="", seed=0
        )
        self.runtime.train(self.weights, itertools.repeat(self.batch), work, self._begin_step)
        return [(end - start) / 1e6 for start, end in itertools.pairwise(self._starts)]

    def _begin_step(self) -> bool:
        """The runtime asks before each step whether there is time, which tells when one ends and the next begins."""
        self._starts.append(time.process_time_ns())
        return True


def read_case(folder: Path, batch_size: int) -> StepTimes:
    """The case in a folder, with small random weights; raises `BundleError` where a graph does not fit its layout."""
    case = json.loads((folder / "case.json").read_text())
    layout = Layout.of([(name, tuple(shape), role) for name, shape, role in case["layout"]])
    random = np.random.default_rng(0)
    weights = random.normal(0, SMALL_DEVIATION, layout.size).astype(np.float32)
    x = random.standard_normal((batch_size, *case["input_shape"])).astype(np.float32)
    y = random.integers(0, case["classes"], batch_size)
    runtime = OnnxRuntime((folder / "train.onnx").read_bytes(), (folder / "eval.onnx").read_bytes(), layout)
    return StepTimes(runtime, weights, (x, y))


def main(folder: str, batch_size: str) -> None:
    """Answer requests until standard input ends."""
    base_bytes, started = rss_bytes(), time.process_time()
    case = read_case(Path(folder), int(batch_size))
    case.runtime.load()
    say = {"load_seconds": time.process_time() - started, "base_rss_bytes": base_bytes}
    print(json.dumps(say), flush=True)
    for line in sys.stdin:
        answer = {"step_ms": case.measure(int(line)), "peak_rss_bytes": peak_rss_bytes()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
