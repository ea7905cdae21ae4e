"""The task `watch` as arrays: each wearer's windows, cut and standardised by themselves as on a device."""

import numpy as np

from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples, joined
from coordinator.tasks.watch import PREPROCESSING, WatchNet, clients
from shared.labels import Inputs, Labels
from shared.preprocessing import cut


def load() -> tuple[Examples, Examples]:
    """Windows float32 `[n, 6, 100]`, 3,453 to train on and 732 to test; each wearer owns theirs."""
    splits = [cut(client.series, client.labels, PREPROCESSING) for client in clients()]
    train = joined([_examples(split.train_x, split.train_y) for split in splits])
    test = joined([_examples(split.test_x, split.test_y) for split in splits])
    return train, test


def _examples(x: Inputs, y: Labels) -> Examples:
    """Of windows with a class, which are of these types already."""
    return Examples(np.asarray(x, np.float32), np.asarray(y, np.int64))


WATCH_WINDOWS = ArrayTask("watch", WatchNet, load, learning_rate=0.05, mean_over_owners=True)
