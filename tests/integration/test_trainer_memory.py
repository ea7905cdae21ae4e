"""The estimate by which a device refuses a bundle, against what a trainer process really takes."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from coordinator.bundle_builder import build_bundle
from coordinator.tasks.drill import DRILL
from coordinator.tasks.resnet import ResNet8
from coordinator.tasks.task import ClientData, Task, export_folder
from edge_client.orders import Trained, TrainOrder
from edge_client.trainer_pipe import TrainerPipe
from shared.bundle import read_kept_bundle
from shared.compression.plan import Plan
from shared.messages import LocalWork
from shared.preprocessing import Preprocessing
from shared.signing import SigningKey

FACTOR = 1.25
"""How far estimate and measurement may lie apart, either way."""
BATCH_SIZE = 32
ORDER_SECONDS = 120.0


class ResNetOfRows(nn.Module):
    """`ResNet8` on float32 `[n, 96, 32]`: three colours of 32 rows below each other."""

    def __init__(self) -> None:
        super().__init__()
        self.net = ResNet8()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(x.reshape(-1, 3, 32, 32))
        return logits


def noise() -> list[ClientData]:
    random = np.random.default_rng(1)
    series = [random.standard_normal((20 * 32, 96)).astype(np.float32) for _ in range(10)]
    return [ClientData("noise", series, list(range(10)))]


COLOURS = Task(
    "colours",
    Preprocessing(channels=96, window=32, stride=32, gap_windows=0, num_classes=10),
    ResNetOfRows,
    functional.cross_entropy,
    noise,
)


def train_once(task: Task, folder: Path) -> tuple[int, int]:
    """Estimated and measured peak of a new trainer process that trains four steps, in bytes."""
    archive, weights = build_bundle(task, 1, SigningKey(bytes(32)), BATCH_SIZE)
    client = task.clients()[0]
    export_folder(client, folder / "data")
    (folder / "bundles").mkdir()
    bundle = folder / "bundles" / f"{hashlib.sha256(archive).hexdigest()}.gsb"
    bundle.write_bytes(archive)
    (folder / "model").write_bytes(weights.tobytes())
    (folder / "plan").write_bytes(Plan(budget_bytes=1000).to_bytes())
    order = TrainOrder(
        device="board",
        run="r",
        server_round=1,
        bundle=str(bundle),
        model=str(folder / "model"),
        target=hashlib.sha256(weights.tobytes()).hexdigest(),
        plan=str(folder / "plan"),
        evaluate=True,
        work=LocalWork(steps=4, batch_size=BATCH_SIZE, learning_rate=0.001, momentum=0.9, codec="partition", seed=1),
        seconds=ORDER_SECONDS,
    )
    data_bytes = sum(samples.nbytes for samples in client.series)
    return read_kept_bundle(archive).manifest.needed_bytes(data_bytes), _peak_bytes(order, folder)


def _peak_bytes(order: TrainOrder, folder: Path) -> int:
    trainer = TrainerPipe([str(folder), str(folder / "data")])
    try:
        trainer.send(order, time.monotonic())
        answers = trainer.receive(ORDER_SECONDS)
        assert answers
        assert isinstance(answers[0], Trained), answers
        return trainer.peak_rss_bytes()
    finally:
        trainer.finish()


@pytest.mark.parametrize("task", [lambda: DRILL, lambda: COLOURS], ids=["lenet", "resnet8"])
def test_estimated_peak_is_about_what_a_trainer_takes(task: Callable[[], Task], tmp_path: Path) -> None:
    estimated, measured = train_once(task(), tmp_path)
    assert measured / FACTOR < estimated < measured * FACTOR, (estimated, measured)
