"""Where an emulated device keeps things: its slot, its own memory, and files that all devices share."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from edge_client.fleet.slot_file import ACCEPTED, REFUSED, UNSETTLED, SlotFile
from edge_client.outbox import Recovered, StatePaths
from edge_client.pending import PendingUpdate


class SharedObjects:
    """Files named by their content, each written once however many devices fetched it."""

    def __init__(self, root: Path) -> None:
        self.paths = StatePaths(root)
        self._folder = root / "objects"
        self._folder.mkdir(parents=True, exist_ok=True)
        (root / "bundles").mkdir(exist_ok=True)
        self._written = set[str]()
        self._objects = dict[bytes, str]()

    def keep(self, content: bytes) -> str:
        """The path of the file with this content."""
        digest = hashlib.sha256(content).digest()
        if digest not in self._objects:
            path = self._folder / digest.hex()
            path.write_bytes(content)
            self._objects[digest] = str(path)
        return self._objects[digest]

    def keep_bundle(self, digest: str, archive: bytes) -> None:
        """Keep a verified bundle where orders look for it."""
        path = self.paths.bundle(digest)
        if digest not in self._written:
            path.write_bytes(archive)
            self._written.add(digest)


class MemberKeeper:
    """`StateKeeper` of one emulated device; it outlives the agent, as a state directory does."""

    __slots__ = ("_bundles", "_connection", "_days", "_file", "_objects", "_received", "_slot", "paths")

    def __init__(self, file: SlotFile, slot: int, objects: SharedObjects) -> None:
        self.paths = objects.paths
        self._file, self._slot, self._objects = file, slot, objects
        self._bundles: frozenset[str] = frozenset()
        self._received: dict[str, bytes] = {}
        self._days: dict[str, int] = {}
        self._connection = 0

    def next_connection(self) -> int:
        """One more than the last time."""
        self._connection += 1
        return self._connection

    def recover(self, *, private: bool = False) -> Recovered:
        """The bundles that are here, and the update that waits for its verdict."""
        header, update = self._file.header(self._slot), self._file.update(self._slot)
        if update is None:
            return Recovered(self._bundles)
        if header.verdict == UNSETTLED:
            return Recovered(self._bundles, (update,))
        return Recovered(self._bundles, (), ((update.run, update.server_round),))

    def upload_days(self) -> dict[str, int]:
        """The bytes of updates sent by day."""
        return self._days

    def keep_upload_days(self, days: Mapping[str, int]) -> None:
        """Keep the bytes of updates sent by day."""
        self._days = dict(days)

    def pending(self, run: str) -> PendingUpdate | None:
        """The update that still waits for a verdict."""
        update = self._file.unsettled(self._slot)
        return update if update is not None and update.run == run else None

    def settle(self, run: str, server_round: int, accepted: bool) -> None:
        """Record the final verdict."""
        header = self._file.header(self._slot)
        if header.run == run.encode() and header.server_round == server_round:
            self._file.put_header(self._slot, header._replace(verdict=ACCEPTED if accepted else REFUSED))

    def keep(self, path: Path, content: bytes) -> None:
        """Keep a fetched object until the order that needs it is carried out."""
        self._received[str(path)] = content

    def shared(self, path: str) -> str:
        """The file that all devices share for what was kept as `path`."""
        return self._objects.keep(self._received.pop(path))

    def held(self) -> str | None:
        """The digest of the model that the device holds."""
        return self._file.header(self._slot).held.hex() or None

    def keep_bundle(self, digest: str, archive: bytes) -> None:
        """Keep a verified bundle."""
        self._objects.keep_bundle(digest, archive)
        self._bundles = self._bundles | {digest}

    def use_bundle(self, path: Path) -> None:
        """Nothing: no bundle is dropped for want of room."""

    def drop_bundle(self, digest: str) -> None:
        """Forget an archive that turned out to be unusable."""
        self._bundles = self._bundles - {digest}

    def forget(self, run: str) -> None:
        """Drop what is kept of the run."""
        self._received.clear()
        self._file.clear(self._slot)
