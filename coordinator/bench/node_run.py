"""What a device benchmark measures of one node, whichever program it is: idle, training, and between the two."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.bench.control_group import ControlGroup
from coordinator.bench.process_tree import Watch, pss_bytes, usage

LOOK_SECONDS = 0.02
SETTLED_LOOKS, SETTLE_LOOK_SECONDS, SETTLE_SECONDS = 8, 0.5, 90.0
SETTLED_SHARE = 0.01


@dataclass
class NodeRun:
    """Watches a node and notes its counters whenever `progress` has risen; `group` is its control group, if any."""

    watch: Watch
    progress: Callable[[], int]
    group: ControlGroup | None
    figures: dict[str, object] = field(default_factory=dict)
    _marks: list[tuple[int, float, int]] = field(default_factory=list)

    def measure_idle(self) -> None:
        """Resident memory of the connected node that has nothing to do, once it has not changed for four seconds."""
        self.figures["idle_rss_mb"] = _mb(self._settled_rss_bytes())
        self.figures["idle_pss_mb"] = _mb(pss_bytes(self.watch.root))

    def _settled_rss_bytes(self) -> int:
        deadline, seen = time.monotonic() + SETTLE_SECONDS, [0]
        while time.monotonic() < deadline:
            time.sleep(SETTLE_LOOK_SECONDS)
            seen.append(usage(self.watch.root).rss_bytes)
            last = seen[-SETTLED_LOOKS:]
            if len(last) == SETTLED_LOOKS and max(last) - min(last) <= SETTLED_SHARE * max(last):
                break
        return seen[-1]

    def wait(self, rounds: int, seconds: float, alive: Callable[[], bool] = lambda: True) -> bool:
        """Note each step of progress up to `rounds`; False when it does not come within `seconds`, or all is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            is_over = not alive()  # asked first: the last round may be done just before all ends
            done = self.progress()
            if not self._marks or done > self._marks[-1][0]:
                self._marks.append((done, usage(self.watch.root).cpu_seconds, self.watch.written_bytes))
            if done >= rounds:
                return True
            if is_over:
                return False
            time.sleep(LOOK_SECONDS)
        return False

    def a_round(self, first: int, last: int) -> tuple[float, float] | None:
        """Processor seconds and written bytes of each round after round `first` up to round `last`."""
        found = {done: (cpu, written) for done, cpu, written in self._marks}
        if first not in found or last not in found or last <= first:
            return None
        (cpu, written), (cpu_after, written_after) = found[first], found[last]
        return (cpu_after - cpu) / (last - first), (written_after - written) / (last - first)

    def note_peaks(self) -> None:
        """The peaks so far."""
        self.figures["peak_rss_mb"] = _mb(self.watch.peak_rss_bytes)
        self.figures["peak_pss_mb"] = _mb(self.watch.peak_pss_bytes)
        if self.group is not None:
            self.figures["peak_charged_mb"] = _mb(self.group.peak_bytes() or 0)
            self.figures["killed_for_memory"] = self.group.killed()


def _mb(count: int) -> float:
    return round(count / 1e6, 1)
