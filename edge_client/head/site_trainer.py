"""The trainer of a head: orders are carried out with the site's boards, one after another, on a thread of its own."""

import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread

from edge_client.data import MemorySource, Recordings
from edge_client.head.site_rounds import SiteRounds
from edge_client.inline_trainer import InlineTrainer
from edge_client.orders import Answer, Order, failed
from shared.errors import GradsieveError

NO_DATA = MemorySource(Recordings([], []))
JOIN_SECONDS = 5.0


class SiteTrainer:
    """`Trainer` for an agent that must not wait while boards train; `on_answer` is called from the other thread."""

    def __init__(self, state_dir: Path, rounds: SiteRounds, on_answer: Callable[[], None]) -> None:
        self._inline = InlineTrainer(state_dir, NO_DATA, time.monotonic, work=rounds.work, score=rounds.score)
        self._on_answer, self._lock = on_answer, Lock()
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._answers: list[Answer] = []
        self._thread = Thread(target=self._serve, name="site", daemon=True)
        self._thread.start()

    def submit(self, order: Order) -> None:
        """Take an order; returns at once."""
        self._orders.put(order)

    def poll(self) -> list[Answer]:
        """The answers since the last poll, oldest first."""
        with self._lock:
            answers, self._answers = self._answers, []
        return answers

    def peak_rss_bytes(self) -> int:
        """0: this trainer has no process of its own."""
        return 0

    def resident_bytes(self) -> int:
        """0: as above."""
        return 0

    def close(self) -> None:
        """Take no more orders; one under way is abandoned with the process."""
        self._orders.put(None)
        self._thread.join(JOIN_SECONDS)

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            answers = self._carried_out(order)
            with self._lock:
                self._answers += answers
            self._on_answer()

    def _carried_out(self, order: Order) -> list[Answer]:
        try:
            self._inline.submit(order)
        except GradsieveError as error:  # of the journal: its disk may be full
            return [failed(order, "trainer_failed", str(error))]
        return self._inline.poll()
