"""How long local training may go on: until the order's time is over, or the board gets too hot."""

import math
from collections.abc import Callable
from typing import Literal

READ_SECONDS = 1.0
"""Time between two looks at the temperature: a step may take less than reading it."""


class Allotment:
    """Says before each step whether there is time for it; `ended_by` is what ended it.

    `celsius` reads the board's temperature, None where it has no sensor; `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        deadline: float,
        hottest_celsius: float | None,
        celsius: Callable[[], float | None],
        clock: Callable[[], float],
    ) -> None:
        self.ended_by: Literal["time", "heat"] | None = None
        self._deadline, self._hottest = deadline, hottest_celsius
        self._celsius, self._clock = celsius, clock
        self._next_look = -math.inf

    def __call__(self) -> bool:
        """True while the next step may be taken."""
        now = self._clock()
        if now >= self._deadline:
            self.ended_by = "time"
        elif self._hottest is not None and now >= self._next_look:
            self._next_look = now + READ_SECONDS
            found = self._celsius()
            if found is not None and found > self._hottest:
                self.ended_by = "heat"
        return self.ended_by is None
