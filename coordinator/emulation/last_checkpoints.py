"""The checkpoints of an emulated run: those that a real one leaves at its end."""

from pathlib import Path

from coordinator.checkpoints import KEPT, CheckpointStore


class LastCheckpoints(CheckpointStore):
    """Checkpoints of the last three of so many rounds, and of no other.

    Those before would serve a restart, and an emulated run is begun again instead. With the sends of thousands of
    devices in them they would be most of what a round writes.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        super().__init__(folder)
        self._rounds = rounds

    def wants(self, server_round: int) -> bool:
        """True for a round whose checkpoint is still there when the run ends."""
        return server_round > self._rounds - KEPT
