"""The tasks `mnist` and `fashion-mnist`: ten kinds of grey 28x28 images, 60,000 to train on and 10,000 to test.

Data: LeCun, Cortes, Burges, *The MNIST database of handwritten digits*, 1998; Xiao, Rasul, Vollgraf, *Fashion-MNIST: a
novel image dataset for benchmarking machine learning algorithms*, 2017.
"""

from functools import partial

import numpy as np

from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples
from coordinator.tasks.idx import read_idx
from coordinator.tasks.lenet import LeNet
from coordinator.tasks.shelf import find

PIXELS = (28, 28)
TRAIN, TEST = 60_000, 10_000


def load(data_set: str, mean: float, std: float, source: str) -> tuple[Examples, Examples]:
    """Training and test images float32 `[n, 1, 28, 28]`, standardised; raises `DataError` where a file is missing.

    `mean` and `std` are those of the training set's pixels, from 0 to 255.
    """

    def part(prefix: str, count: int) -> Examples:
        images = read_idx(find(data_set, f"{prefix}-images-idx3-ubyte.gz", source), (count, *PIXELS))
        labels = read_idx(find(data_set, f"{prefix}-labels-idx1-ubyte.gz", source), (count,))
        x = (images[:, None] - np.float32(mean)) / np.float32(std)
        return Examples(x, labels.astype(np.int64))

    return part("train", TRAIN), part("t10k", TEST)


MNIST = ArrayTask(
    "mnist",
    LeNet,
    partial(load, "mnist", 33.32, 78.57, "any mirror of MNIST, as its four files ending in -ubyte.gz"),
    learning_rate=0.05,
)
FASHION_MNIST = ArrayTask(
    "fashion-mnist",
    LeNet,
    partial(load, "fashion-mnist", 72.94, 90.02, "Debian's package dataset-fashion-mnist"),
    learning_rate=0.05,
)
