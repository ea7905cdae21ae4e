"""One training step whose result is known: graph, weights and batch are fixed, and torch computed the numbers.

`known_step.onnx` is what the coordinator's exporter makes of a convolution, a batch norm, a SiLU and a linear layer;
tests/edge_client/doctor/test_known_step.py makes it and the numbers anew.
"""

from pathlib import Path

import numpy as np

from edge_client.runtime import OnnxRuntime
from shared.layout import F32, I64, Layout
from shared.messages import LocalWork

GRAPH = Path(__file__).with_name("known_step.onnx")
WORK = LocalWork(steps=1, batch_size=6, learning_rate=0.1, momentum=0.9, weight_decay=0.01, codec="dense", seed=0)
LAYOUT = Layout.of(
    [
        ("conv.weight", (4, 2, 3), "weight"),
        ("conv.bias", (4,), "bias"),
        ("norm.weight", (4,), "norm"),
        ("norm.bias", (4,), "norm"),
        ("head.weight", (3, 4), "weight"),
        ("head.bias", (3,), "bias"),
        ("norm.running_mean", (4,), "buffer"),
        ("norm.running_var", (4,), "buffer"),
    ]
)
KNOWN = {"loss": 1.1209675, "norm": 2.8521096, "projection": 1.8747719}
"""Loss of the batch; length of the new weights and buffers, and their product with a fixed pattern."""


def weights() -> F32:
    """The weights before the step, float32 `[LAYOUT.size]`: a pattern of no meaning, and variances of one."""
    values = pattern(LAYOUT.size, 29) / np.float32(2)
    LAYOUT.split(values)["norm.running_var"][:] = 1
    return values


def batch() -> tuple[F32, I64]:
    """Six windows float32 `[6, 2, 8]` and their labels int64 `[6]`."""
    return pattern(6 * 2 * 8, 41).reshape(6, 2, 8), np.arange(6, dtype=np.int64) % 3


def pattern(size: int, stride: int) -> F32:
    """`size` values between -1 and 1, exact in float32 on every machine."""
    return (np.arange(size, dtype=np.int64) * stride % 65 - 32).astype(np.float32) / np.float32(32)


def described(loss: float, after: F32) -> dict[str, float]:
    """The numbers that stand for a step: its loss, and weights and buffers float32 `[LAYOUT.size]` after it."""
    exact = after.astype(np.float64)
    probe = pattern(LAYOUT.size, 17).astype(np.float64)
    return {"loss": loss, "norm": float(np.sqrt(exact @ exact)), "projection": float(exact @ probe)}


def taken() -> dict[str, float]:
    """Take the step with onnxruntime; raises `BundleError` or `TrainerError` where it fails."""
    after = weights()
    report = OnnxRuntime(GRAPH.read_bytes(), b"", LAYOUT).train(after, [batch()], WORK, lambda: True)
    return described(report.loss, after)
