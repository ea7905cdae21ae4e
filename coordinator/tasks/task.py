"""A learning task: what to train, how to judge it, and each client's own recordings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shared.layout import F32
from shared.preprocessing import Preprocessing

EXAMPLE_BATCH = 4


@dataclass(frozen=True, slots=True)
class ClientData:
    """One client's raw recordings: float32 `[t, channels]` series, one class label each."""

    name: str
    series: list[F32]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Task:
    """A module factory, a mean loss over `(logits, y)`, and the clients whose series `preprocessing` cuts.

    `clients` raises `DataError` when the data is neither at hand nor to be had. A module that `begins_at_random` may
    as well begin with other weights that are spread alike, tensor by tensor: one with learnt weights must not.
    """

    name: str
    preprocessing: Preprocessing
    model: Callable[[], torch.nn.Module]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    clients: Callable[[], list[ClientData]]
    begins_at_random: bool = False

    def example(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of the right shapes and dtypes: x float32 `[4, channels, window]`, y int64 `[4]`."""
        shape = (EXAMPLE_BATCH, self.preprocessing.channels, self.preprocessing.window)
        return torch.zeros(shape), torch.zeros(EXAMPLE_BATCH, dtype=torch.int64)


def export_folder(client: ClientData, folder: Path) -> None:
    """Write what a device's folder source reads: `series-000.npz`… of `x` float32 `[t, channels]` and scalar `y`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (samples, label) in enumerate(zip(client.series, client.labels, strict=True)):
        np.savez(folder / f"series-{number:03}.npz", x=samples, y=np.int64(label))
