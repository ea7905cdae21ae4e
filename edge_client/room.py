"""What a trainer keeps of one run between orders: a board has files for it, an emulated one a slot of a shared file."""

from pathlib import Path
from typing import Protocol

from edge_client.model_file import ModelFile
from edge_client.pending import PendingStore, PendingUpdate
from shared.bundle import Growth
from shared.layout import F32, Layout


class UpdateStore(Protocol):
    """The last update of a run, the residual that follows from it, and the verdict on it."""

    def commit(self, update: PendingUpdate, residual: bytes | memoryview) -> None:
        """Replace update and raw float32 residual in one step; the update is unsettled from here on."""

    def read(self) -> PendingUpdate | None:
        """The last committed update, settled or not; None where there is none."""

    def read_residual(self) -> bytes | bytearray:
        """The raw float32 residual that goes with the last committed update; empty where there is none."""

    def keep_history(self, after: bytes) -> None:
        """Keep the sends as they are once the last update is accepted; a store may leave that out."""

    def history(self) -> bytes:
        """What `keep_history` kept; empty where it is to be worked out from the update's frame."""

    def verdict_on(self, update: PendingUpdate) -> bool | None:
        """Whether `update` was accepted; None while no final verdict came."""


class KeptModel(Protocol):
    """The public model of a run that a device holds, a float32 `[layout.size]` vector named by its digest."""

    def begin(self, growth: Growth | None) -> None:
        """Keep the first model of a run that devices grow themselves, where none is kept yet."""

    def load(self, digest: str) -> F32 | None:
        """The kept model, if it is the one with this digest; the caller does not write to it."""

    def digest(self) -> str | None:
        """The digest of the kept model, whichever it is; None where none is kept."""

    def replace(self, source: Path, digest: str) -> F32:
        """Keep the whole model in `source`; raises `DigestMismatch` when it is not the one with this digest."""

    def advance(self, chain: Path, target: str) -> F32 | None:
        """Add the deltas in the file `chain` to the kept model and keep the result; None where that is not `target`."""


class Room(Protocol):
    """What is kept of one run."""

    @property
    def updates(self) -> UpdateStore:
        """The pending update."""

    def model(self, layout: Layout) -> KeptModel:
        """The kept model."""


class FolderRoom:
    """The folder of a run in a device's state directory, made where it is missing."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    @property
    def updates(self) -> UpdateStore:
        """`pending.bin` and `settled.json`."""
        return PendingStore(self._folder)

    def model(self, layout: Layout) -> KeptModel:
        """`model.bin`."""
        return ModelFile(self._folder, layout)
