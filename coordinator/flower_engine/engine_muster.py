"""The devices of a run on Flower's engines: whichever nodes are there, asked for their names."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from coordinator.fleet import Device
from coordinator.flower_engine.engine_grid import EngineGrid
from coordinator.muster import too_few
from shared.errors import DeadlineExceeded

LOOK_SECONDS = 0.2
"""Time between two looks at which nodes there are."""


class EngineMuster:
    """`Muster` of an `EngineGrid`'s clients."""

    def __init__(
        self,
        grid: EngineGrid,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grid, self._clock, self._pause = grid, clock, pause
        self._lock = threading.Lock()

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Nobody else takes updates here."""
        return self._lock

    def wait_for(self, count: int, seconds: float) -> bool:
        """Look until so many clients are there."""
        return self._until(lambda: len(self._grid.devices()) >= count, seconds)

    def gather(self, wanted: int, seconds: float, on_wait: Callable[[int], None]) -> list[str]:
        """The clients that are there, once they are `wanted`."""
        self._grid.roll.look()
        if len(self._grid.devices()) < wanted:
            on_wait(len(self._grid.devices()))
        if not self.wait_for(wanted, seconds):
            raise DeadlineExceeded(too_few(wanted, seconds, self._grid.devices()))
        return self._grid.devices()

    def regather(self, cohort: Sequence[str], seconds: float) -> None:
        """Look until all of these are there."""
        self._until(lambda: set(cohort) <= self._grid.roll.nodes.keys(), seconds)

    def dismiss(self, run: str, seconds: float, on_wait: Callable[[], None]) -> None:
        """Nothing: Flower ends its nodes' part itself."""

    def traffic_bytes(self) -> tuple[int, int]:
        """Objects alone, without what Flower puts around them."""
        return sum(self._grid.received_bytes.values()), self._grid.sent_bytes

    def devices(self) -> list[Device]:
        """The clients heard of by name, whether their nodes are there, and the bytes that came from each."""
        received, here = self._grid.received_bytes, self._grid.roll.nodes.keys()
        return [
            Device(name, online=name in here, received_bytes=received.get(name, 0))
            for name in sorted(here | received.keys())
        ]

    def _until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Look until `ready()` and all nodes have said who they are, or were given the time to."""
        deadline = self._clock() + seconds
        while True:
            self._grid.roll.look()
            if ready() and self._grid.roll.settled:
                return True
            if self._clock() >= deadline:
                return ready()
            self._pause(LOOK_SECONDS)
