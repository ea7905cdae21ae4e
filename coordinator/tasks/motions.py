"""The task `motions`: standing, walking, running or badminton, told from ten seconds of a watch on the wrist.

Data: BasicMotions of the UEA archive (Bagnall et al., *The UEA multivariate time series classification archive*, 2018);
shipped inside the wheel of aeon. 40 series to train on and 40 to test: the smallest task.
"""

from pathlib import Path

import numpy as np

from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples
from coordinator.tasks.shelf import find
from coordinator.tasks.watch import WatchNet
from shared.errors import DataError
from shared.layout import F32, I64

CLASSES = ("Badminton", "Running", "Standing", "Walking")
CHANNELS, SAMPLES = 6, 100
SOURCE = "the wheel of aeon (pip download --no-deps aeon==1.6.0), there in aeon/datasets/data/BasicMotions"


class MotionsNet(WatchNet):
    """The network of the task `watch` with four classes: float32 `[n, 6, 100]` to logits `[n, 4]`; 23,908 weights."""

    def __init__(self) -> None:
        super().__init__(len(CLASSES))


def load() -> tuple[Examples, Examples]:
    """40 series to train on and 40 to test, float32 `[40, 6, 100]`, each channel standardised by the training part.

    Raises `DataError` where a file is missing or not of that form.
    """
    folder = "aeon-ts/BasicMotions"
    (train_x, train_y), (test_x, test_y) = (
        read_series(find(folder, f"BasicMotions_{part}.ts", SOURCE)) for part in ("TRAIN", "TEST")
    )
    mean, std = (train_x.mean((0, 2), keepdims=True), train_x.std((0, 2), keepdims=True))
    return Examples((train_x - mean) / std, train_y), Examples((test_x - mean) / std, test_y)


def read_series(path: Path) -> tuple[F32, I64]:
    """Series float32 `[n, 6, 100]` and their classes of a `.ts` file; raises `DataError` where it holds others."""
    lines = path.read_text(encoding="utf-8").partition("@data\n")[2].splitlines()
    try:
        rows = [line.split(":") for line in lines]
        x = np.array([[channel.split(",") for channel in channels] for *channels, _ in rows], np.float32)
        y = np.array([CLASSES.index(label.strip()) for *_, label in rows], np.int64)
    except ValueError as error:
        raise DataError(f"{path} is not the data of BasicMotions ({error}): get it anew") from error
    if x.shape[1:] != (CHANNELS, SAMPLES):
        raise DataError(f"{path} holds no series of {CHANNELS} channels x {SAMPLES} samples: get it anew")
    return x, y


MOTIONS = ArrayTask("motions", MotionsNet, load, learning_rate=0.02, batch_size=8)
