"""The task `watch` as arrays: each wearer's windows, cut and standardised by themselves as on a device."""

from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.examples import Examples, joined
from coordinator.tasks.watch import PREPROCESSING, WatchNet, clients
from shared.preprocessing import cut


def load() -> tuple[Examples, Examples]:
    """Windows float32 `[n, 6, 100]`, 3,453 to train on and 732 to test; each wearer owns theirs."""
    splits = [cut(client.series, client.labels, PREPROCESSING) for client in clients()]
    train = joined([Examples(split.train_x, split.train_y) for split in splits])
    test = joined([Examples(split.test_x, split.test_y) for split in splits])
    return train, test


WATCH_WINDOWS = ArrayTask("watch", WatchNet, load, learning_rate=0.05, mean_over_owners=True)
