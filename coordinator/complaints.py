"""Keeps a noisy sender from filling log and journal: one complaint of a source is let through a minute."""

from collections import OrderedDict

QUIET_SECONDS = 60.0
MOST_SOURCES = 10_000


class Complaints:
    """Remembers when each source was last complained of; beyond 10,000 sources the longest silent one is forgotten."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def admit(self, source: str, now: float) -> int | None:
        """How many complaints were held back since the last one that was let through; None to hold back this one too.

        `now` is monotonic seconds.
        """
        if source in self._said:
            since, held_back = self._said[source]
            if now - since < QUIET_SECONDS:
                self._said[source] = since, held_back + 1
                return None
        else:
            held_back = 0
        self._said[source] = now, 0
        self._said.move_to_end(source)
        if len(self._said) > MOST_SOURCES:
            self._said.popitem(last=False)
        return held_back
