"""What a federated engine took, round by round, and what it held at the end."""

import json
import os
import time
from dataclasses import dataclass, field

from coordinator.bench.process_tree import pss_bytes, usage

STARTED = "GRADSIEVE_BENCH_STARTED"
"""Variable with the unix time at which the process was started: its imports are part of the start-up."""


@dataclass
class RoundMarks:
    """Takes the processor time of this process and all it started at the end of each round."""

    began: float = field(default_factory=lambda: float(os.environ.get(STARTED, time.time())))
    marks: list[tuple[float, float]] = field(default_factory=list)
    ready_seconds: float = 0.0

    def ready(self) -> None:
        """The first round is about to begin."""
        self.ready_seconds = time.time() - self.began
        self.mark()

    def mark(self) -> None:
        """A round has ended."""
        self.marks.append((time.time(), usage(os.getpid()).cpu_seconds))

    def report(self, client_rounds: int, loss: float | None = None, **more: object) -> None:
        """Print one JSON line: seconds of start-up, of each round, the memory of the whole tree now, and `more`."""
        rounds = list(zip(self.marks[:-1], self.marks[1:], strict=True))
        figures = {
            "startup_seconds": round(self.ready_seconds, 2),
            "cpu_ms": [round(1e3 * (end[1] - begin[1]) / client_rounds, 3) for begin, end in rounds],
            "wall_ms": [round(1e3 * (end[0] - begin[0]) / client_rounds, 3) for begin, end in rounds],
            "total_seconds": round(time.time() - self.began, 2),
            "pss_mb": round(pss_bytes(os.getpid()) / 1e6, 1),
            "train_loss": loss,
            **more,
        }
        print(json.dumps(figures), flush=True)
