"""The task `digits`: handwritten digits of 8x8 pixels, which scikit-learn brings along; the quickest task.

Data: Alpaydin, Kaynak, *Optical recognition of handwritten digits*, UCI, 1998 (its test part, 1,797 images).
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples
from coordinator.tasks.he_start import start_at_full_scale
from shared.errors import DataError

TEST = 360
SPLIT_SEED = 0
# Of all pixels, from 0 to 16.
MEAN, STD = np.float32(4.88), np.float32(6.02)


class DigitsNet(nn.Module):
    """Three linear layers, 64-300-100-10: float32 `[n, 64]` to logits `[n, 10]`; 50,610 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Linear(64, 300)
        self.far = nn.Linear(300, 100)
        self.head = nn.Linear(100, 10)
        start_at_full_scale(self, self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 10]`."""
        logits: torch.Tensor = self.head(functional.relu(self.far(functional.relu(self.near(x)))))
        return logits


def load() -> tuple[Examples, Examples]:
    """1,437 images to train on and 360 to test, float32 `[n, 64]`; raises `DataError` without scikit-learn."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - only benchmarks need it, and it is large
    except ImportError as error:
        raise DataError("the task digits needs scikit-learn: install gradsieve[bench]") from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    everything = Examples((images.astype(np.float32) - MEAN) / STD, labels.astype(np.int64))
    return everything.take(order[TEST:]), everything.take(order[:TEST])


DIGITS = ArrayTask("digits", DigitsNet, load, learning_rate=0.05)
