"""The bundled training step is what the exporter makes today, and its numbers are torch's."""

import numpy as np
import pytest
import torch
from torch import nn

from coordinator.export.step import export_step
from edge_client.doctor.known_step import GRAPH, KNOWN, LAYOUT, WORK, batch, described, taken, weights

LARGEST_BYTES = 10_000


class KnownNet(nn.Module):
    """Float32 `[n, 2, 8]` to logits `[n, 3]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(nn.functional.silu(self.norm(self.conv(x))).mean(-1))
        return logits


def test_graph_is_what_the_exporter_makes_and_small() -> None:
    x, y = map(torch.from_numpy, batch())
    graphs = export_step(KnownNet(), nn.functional.cross_entropy, x, y)
    assert GRAPH.read_bytes() == graphs.train, "the exporter changed: write graphs.train to known_step.onnx"
    assert graphs.layout == LAYOUT
    assert len(graphs.train) < LARGEST_BYTES


def test_numbers_are_those_of_torch() -> None:
    torch.set_num_threads(1)
    net = KnownNet()
    state = {name: torch.from_numpy(array.copy()) for name, array in LAYOUT.split(weights()).items()}
    net.load_state_dict(state, strict=False)
    momentum = WORK.momentum or 0.0  # of no effect in a first step
    optimizer = torch.optim.SGD(
        net.parameters(), lr=WORK.learning_rate, momentum=momentum, weight_decay=WORK.weight_decay
    )
    x, y = map(torch.from_numpy, batch())
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
    after = LAYOUT.join({name: net.state_dict()[name].numpy() for name in (tensor.name for tensor in LAYOUT.tensors)})
    assert not np.allclose(after, weights(), atol=1e-3), "a step that changes nothing proves nothing"
    assert described(loss.item(), after) == pytest.approx(KNOWN, rel=1e-5)


def test_onnxruntime_takes_the_step_to_the_known_numbers() -> None:
    assert taken() == pytest.approx(KNOWN, rel=1e-5)
