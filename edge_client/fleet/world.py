"""Virtual time: what is to happen, in order of when. Pure: it has no clock but its own."""

import heapq
import math
from collections.abc import Callable
from itertools import count


class World:
    """Plays events in order of their time, those of one time in the order in which they were planned.

    `now` is in seconds since the emulation began; nothing but `run_until` moves it.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._numbers = count()

    def at(self, seconds: float, act: Callable[..., None], *arguments: object) -> None:
        """Plan `act(*arguments)` for this time, or for now where that has passed."""
        heapq.heappush(self._events, (max(seconds, self.now), next(self._numbers), act, arguments))

    def next_event(self) -> float:
        """When the next event is; infinity for never."""
        return self._events[0][0] if self._events else math.inf

    def run_until(self, seconds: float, stop: Callable[[], bool]) -> None:
        """Play what happens until this time, until `stop()`, which is asked before each event."""
        while not stop():
            if not self._events or self._events[0][0] > seconds:
                self.now = max(self.now, seconds)
                return
            self.now, _, act, arguments = heapq.heappop(self._events)
            act(*arguments)
