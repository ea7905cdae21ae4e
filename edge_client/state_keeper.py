"""What an agent asks of the place where its device keeps things: a directory, or for an emulated device memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from edge_client.outbox import Recovered, StatePaths
from edge_client.pending import PendingUpdate


class StateKeeper(Protocol):
    """Bundles, fetched objects, unsettled updates and the count of starts; `Outbox` says what each method means."""

    @property
    def paths(self) -> StatePaths:
        """Where things are, as orders name them."""

    def next_connection(self) -> int:
        """One more than the last time."""

    def recover(self, *, private: bool = False) -> Recovered:
        """What earlier lives of the agent left behind."""

    def upload_days(self) -> dict[str, int]:
        """The bytes of updates sent by day."""

    def keep_upload_days(self, days: Mapping[str, int]) -> None:
        """Keep the bytes of updates sent by day."""

    def pending(self, run: str) -> PendingUpdate | None:
        """The run's update that still waits for a verdict."""

    def settle(self, run: str, server_round: int, accepted: bool) -> None:
        """Record the final verdict on a run's pending update."""

    def keep(self, path: Path, content: bytes) -> None:
        """Keep a fetched object, whole or not at all."""

    def keep_bundle(self, digest: str, archive: bytes) -> None:
        """Keep a verified bundle."""

    def use_bundle(self, path: Path) -> None:
        """Note that an archive is used now."""

    def drop_bundle(self, digest: str) -> None:
        """Forget an archive that turned out to be unusable."""

    def forget(self, run: str) -> None:
        """Drop all that is kept of a run that ended."""
