"""`python -m tests.aarch64.training_step FOLDER`: what the device's runtime computes of every case below a folder.

A case is a folder with `train.onnx`, `eval.onnx`, `layout.json` and `inputs.npz`; the answer is written beside them as
`answer.npz`.
"""

import json
import sys
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_client.graph_session import GraphSession
from edge_client.runtime import OnnxRuntime
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan
from shared.layout import F32, I64, Layout
from shared.messages import LocalWork

WORK = LocalWork(steps=5, batch_size=32, learning_rate=0.05, momentum=0.9, clip_norm=1.0, codec="partition", seed=0)
BUDGET_BYTES = 300

Answer = dict[str, npt.NDArray[np.generic]]


def answer(case: Path) -> Answer:
    """Loss and gradient of one step; the update of some, its frame, and the score of the model after them."""
    layout = Layout.of(
        [(name, tuple(shape), role) for name, shape, role in json.loads((case / "layout.json").read_text())]
    )
    train, evaluate = (case / "train.onnx").read_bytes(), (case / "eval.onnx").read_bytes()
    with np.load(case / "inputs.npz", allow_pickle=False) as inputs:
        weights, x, y = inputs["weights"], inputs["x"], inputs["y"]
    loss, gradient = one_step(train, layout, weights, x, y)
    runtime, trained = OnnxRuntime(train, evaluate, layout), weights.copy()
    report = runtime.train(trained, repeat((x, y)), WORK, lambda: True)
    score = runtime.evaluate(trained, x, y)
    update = trained - weights
    frame = PartitionCodec().encode(update, layout, Plan(BUDGET_BYTES)).frame
    return {
        "loss": np.float64(loss),
        "gradient": gradient,
        "update": update,
        "mean_loss": np.float64(report.loss),
        "score": np.array([score.loss, score.correct, score.examples]),
        "frame": np.frombuffer(frame, np.uint8),
    }


def one_step(train: bytes, layout: Layout, weights: F32, x: F32, y: I64) -> tuple[float, F32]:
    """The loss of a batch and its gradient, float32 `[layout.size]`."""
    session = GraphSession("training", train)
    views = layout.split(weights)
    feed = {name: views[name.partition(".")[2]] for name in session.inputs if "." in name}
    loss, *outputs = session.run({**feed, "x": x, "y": y})
    gradient = np.zeros(layout.size, np.float32)
    for name, output in zip(list(session.outputs)[1:], outputs, strict=True):
        layout.split(gradient)[name.partition(".")[2]][...] = output
    return float(loss), gradient


def main(folder: Path) -> None:
    """Answer every case below `folder`."""
    for case in sorted(path for path in folder.iterdir() if path.is_dir()):
        np.savez(case / "answer.npz", allow_pickle=False, **answer(case))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
