"""A tiny task through the real exporter: recordings of three classes, a convolution and a linear layer."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from coordinator.export.step import export_step
from coordinator.export.step_graphs import StepGraphs, initial_weights
from edge_client.orders import EvaluateOrder, TrainOrder
from shared.bundle import BundleManifest, file_entries, pack_bundle, sign_bundle
from shared.layout import F32, Layout
from shared.messages import LocalWork
from shared.preprocessing import Preprocessing
from shared.signing import SigningKey

PREPROCESSING = Preprocessing(channels=2, window=8, stride=4, num_classes=3)
CLASSES, RECORDINGS, SAMPLES = 3, 6, 80


class TinyNet(nn.Module):
    """A convolution with batch norm, and a linear layer: float32 `[n, 2, 8]` to logits `[n, 3]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(nn.functional.silu(self.norm(self.conv(x))).mean(-1))
        return logits


@dataclass(frozen=True)
class TinyTask:
    """A bundle archive with the model that its first round begins with."""

    graphs: StepGraphs
    archive: bytes
    weights: F32

    @property
    def layout(self) -> Layout:
        return self.graphs.layout

    @property
    def bundle_digest(self) -> str:
        return hashlib.sha256(self.archive).hexdigest()


@dataclass(frozen=True)
class Lab:
    """A device's folders, filled: `state` with bundle and model, `data` with recordings; and orders for them."""

    state: Path
    data: Path
    task: TinyTask

    @property
    def model(self) -> Path:
        return self.state / "received.bin"

    @property
    def target(self) -> str:
        return hashlib.sha256(self.model.read_bytes()).hexdigest()

    @property
    def run(self) -> Path:
        return self.state / "runs" / "r"

    def train_order(self, server_round: int = 0, **changes: object) -> TrainOrder:
        work = LocalWork(steps=6, batch_size=8, learning_rate=0.05, momentum=0.9, codec="dense", seed=7)
        order = TrainOrder(
            device="dev",
            run="r",
            server_round=server_round,
            bundle=str(self.state / "bundles" / f"{self.task.bundle_digest}.gsb"),
            model=str(self.model),
            target=self.target,
            work=work,
            seconds=60.0,
        )
        return order.model_copy(update=changes)

    def evaluate_order(self, **changes: object) -> EvaluateOrder:
        fields = self.train_order().model_dump(exclude={"kind", "device", "work", "plan", "evaluate"})
        return EvaluateOrder(**fields).model_copy(update=changes)


@pytest.fixture(scope="session")
def tiny_task() -> TinyTask:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    net = TinyNet()
    graphs = export_step(net, nn.functional.cross_entropy, torch.zeros(4, 2, 8), torch.zeros(4, dtype=torch.int64))
    files = {"train.onnx": graphs.train, "eval.onnx": graphs.evaluate}
    manifest = BundleManifest(
        name="tiny",
        version="1",
        task="classification",
        input_shape=(2, 8),
        num_classes=CLASSES,
        preprocessing=PREPROCESSING.model_dump(mode="json"),
        layout=tuple((tensor.name, tensor.shape, tensor.role) for tensor in graphs.layout.tensors),
        files=file_entries(files),
        estimated_peak_bytes=0,
    )
    archive = pack_bundle(sign_bundle(manifest, SigningKey(bytes(32))), files)
    return TinyTask(graphs, archive, initial_weights(net, graphs.layout))


@pytest.fixture
def tiny_net(tiny_task: TinyTask) -> TinyNet:
    """The task's model in torch, with the task's weights."""
    net = TinyNet()
    state = {name: torch.from_numpy(array.copy()) for name, array in tiny_task.layout.split(tiny_task.weights).items()}
    net.load_state_dict(state, strict=False)
    return net


@pytest.fixture
def lab(tmp_path: Path, tiny_task: TinyTask) -> Lab:
    lab = Lab(tmp_path / "state", tmp_path / "data", tiny_task)
    (lab.state / "bundles").mkdir(parents=True)
    (lab.state / "bundles" / f"{tiny_task.bundle_digest}.gsb").write_bytes(tiny_task.archive)
    lab.model.write_bytes(tiny_task.weights.tobytes())
    lab.data.mkdir()
    rng = np.random.default_rng(0)
    for number in range(RECORDINGS):
        label = number % CLASSES
        x = rng.normal(size=(SAMPLES, 2)) + np.sin(np.arange(SAMPLES) * (label + 1) / 2)[:, None]
        np.savez(lab.data / f"{number}.npz", x=x.astype(np.float32), y=np.int64(label))
    return lab
