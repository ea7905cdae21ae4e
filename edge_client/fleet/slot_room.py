"""A slot as what a trainer keeps of a run; its model lies on the shelf of all slots."""

import hashlib
from pathlib import Path

import numpy as np

from edge_client.fleet.model_shelf import ModelShelf
from edge_client.fleet.slot_file import ACCEPTED, UNSETTLED, SlotFile
from edge_client.pending import PendingUpdate
from edge_client.room import KeptModel, UpdateStore
from shared.bundle import Growth
from shared.errors import DigestMismatch
from shared.layout import F32, Layout


class SlotRoom:
    """What an emulated device keeps of its run."""

    def __init__(self, file: SlotFile, slot: int, shelf: ModelShelf) -> None:
        self._file, self._slot, self._shelf = file, slot, shelf

    @property
    def updates(self) -> UpdateStore:
        """The pending update in the slot."""
        return SlotUpdates(self._file, self._slot)

    def model(self, layout: Layout) -> KeptModel:
        """The kept model, of which the slot has the digest alone."""
        return SlotModel(self._file, self._slot, self._shelf, layout)


class SlotUpdates:
    """The pending update of a slot, for the time of one order: nobody else replaces it meanwhile."""

    def __init__(self, file: SlotFile, slot: int) -> None:
        self._file, self._slot = file, slot
        self._last: PendingUpdate | None = None

    def commit(self, update: PendingUpdate, residual: bytes | memoryview) -> None:
        """Replace update and residual."""
        self._file.commit(self._slot, update, residual)
        self._last = update

    def read(self) -> PendingUpdate | None:
        """The last committed update."""
        if self._last is None:
            self._last = self._file.update(self._slot)
        return self._last

    def read_residual(self) -> bytes:
        """The residual that goes with it."""
        return self._file.residual(self._slot)

    def keep_history(self, after: bytes) -> None:
        """Keep the sends after the update: reading them is quicker than decoding its frame."""
        self._file.keep_history(self._slot, after)

    def history(self) -> bytes:
        """What was kept."""
        return self._file.history(self._slot)

    def verdict_on(self, update: PendingUpdate) -> bool | None:
        """Whether it was accepted; None while no final verdict came."""
        header = self._file.header(self._slot)
        if header.verdict == UNSETTLED or header.server_round != update.server_round:
            return None
        return header.verdict == ACCEPTED


class SlotModel:
    """The model whose digest a slot has; the values lie on the shelf, once for all."""

    def __init__(self, file: SlotFile, slot: int, shelf: ModelShelf, layout: Layout) -> None:
        self._file, self._slot, self._shelf, self._layout = file, slot, shelf, layout

    def begin(self, growth: Growth | None) -> None:
        """Hold the first model that devices grow, where none is held yet."""
        if growth is not None and self.digest() is None:
            self._hold(self._shelf.grown(growth, self._layout))

    def load(self, digest: str) -> F32 | None:
        """The held model, if it has this digest."""
        return self._shelf.get(digest) if self.digest() == digest else None

    def digest(self) -> str | None:
        """The digest of the held model."""
        return self._file.header(self._slot).held.hex() or None

    def replace(self, source: Path, digest: str) -> F32:
        """Hold the whole model in a file named by its content."""
        model = self._shelf.get(digest)
        if model is None:
            model = np.frombuffer(source.read_bytes(), "<f4").copy()
            found = hashlib.sha256(model.tobytes()).hexdigest()
            if model.size != self._layout.size or found != digest:
                raise DigestMismatch(f"model of {4 * model.size} bytes does not have digest {digest[:16]}…")
            self._shelf.put(model)
        self._hold(digest)
        return model

    def advance(self, chain: Path, target: str) -> F32 | None:
        """Add the deltas in a file named by its content to the held model, where that leads to `target`."""
        held = self.digest()
        if held is None or self._shelf.led(held, chain, self._layout) != target:
            return None
        self._hold(target)
        return self._shelf.get(target)

    def _hold(self, digest: str) -> None:
        header = self._file.header(self._slot)
        self._file.put_header(self._slot, header._replace(held=bytes.fromhex(digest)))
