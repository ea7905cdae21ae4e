"""The trainer in a child process: onnxruntime may abort and the kernel may kill, but the agent stays on the air."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock, Thread

from edge_client.data_settings import DataSourceSettings
from edge_client.orders import Answer, Order, failed
from edge_client.trainer_pipe import MARGIN_SECONDS, TrainerPipe
from shared.errors import MessageError

log = logging.getLogger(__name__)


class ProcessTrainer:
    """A `Trainer` whose work is done by a child, started with the first order and ended after `idle_seconds` without.

    `on_answer` is called, mostly from another thread, whenever `poll` has something new. A child that cannot start,
    dies mid-order or is killed because it hangs answers `Failed(code="trainer_failed")` with the reason; the next order
    starts a new one. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        state_dir: Path,
        data_dir: Path,
        on_answer: Callable[[], None],
        *,
        idle_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        data_source: DataSourceSettings = DataSourceSettings(),  # noqa: B008  frozen
    ) -> None:
        self._arguments = (str(state_dir), str(data_dir), data_source.model_dump_json())
        self._on_answer, self._idle_seconds, self._clock = on_answer, idle_seconds, clock
        self._lock = Lock()
        self._child: TrainerPipe | None = None
        self._answers: list[Answer] = []
        self._peak_rss_bytes = 0
        self._listener = Thread()

    def submit(self, order: Order) -> None:
        """Hand `order` to the child, starting one where none runs; returns at once."""
        try:
            with self._lock:
                if self._child is None:
                    self._child = self._start()
                self._child.send(order, self._clock())
        except OSError as error:
            self._collect([failed(order, "trainer_failed", f"the trainer cannot be started: {error}")])

    def poll(self) -> list[Answer]:
        """The answers since the last poll, oldest first; never blocks. A child that hangs is ended."""
        with self._lock:
            if self._child is not None and self._child.is_overdue(self._clock()):
                self._child.kill(f"trainer hung and was ended {MARGIN_SECONDS:g} s after the time of its order")
            answers, self._answers = self._answers, []
            return answers

    def peak_rss_bytes(self) -> int:
        """The most memory that any child so far has had resident."""
        with self._lock:
            if self._child is not None:
                self._peak_rss_bytes = max(self._peak_rss_bytes, self._child.peak_rss_bytes())
            return self._peak_rss_bytes

    def resident_bytes(self) -> int:
        """Memory that the child has resident now, 0 while there is none."""
        with self._lock:
            return 0 if self._child is None else self._child.resident_bytes()

    def close(self) -> None:
        """End the child, by force where it lingers; open orders stay unanswered."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.hang_up()
            self._listener.join()

    def _start(self) -> TrainerPipe:
        child = TrainerPipe(self._arguments)
        listener = Thread(target=self._listen, args=(child,), name="trainer-answers", daemon=True)
        try:
            listener.start()
        except RuntimeError as error:  # what Python raises when there is no memory for a thread
            child.finish()
            raise OSError(str(error)) from None
        self._listener = listener
        return child

    def _listen(self, child: TrainerPipe) -> None:
        """Collect the answers of one child until it ends; let it go when it idles."""
        try:
            while (answers := child.receive(self._idle_seconds)) is not None:
                if answers:
                    self._collect(answers)
                elif self._let_go_idle(child):
                    break
        except MessageError as error:
            child.kill(f"trainer was ended because its answer is none: {error}")
        lost = self._let_go(child)
        ending = child.finish()
        if lost:
            self._collect([failed(order, "trainer_failed", ending) for order in lost])

    def _collect(self, answers: Sequence[Answer]) -> None:
        with self._lock:
            self._answers.extend(answers)
            self._peak_rss_bytes = max(self._peak_rss_bytes, *(answer.peak_rss_bytes for answer in answers))
        self._on_answer()

    def _let_go_idle(self, child: TrainerPipe) -> bool:
        """Whether no order came meanwhile: then the next one starts another child."""
        with self._lock:
            idle = not child.open_orders
            if idle and self._child is child:
                self._child = None
            return idle

    def _let_go(self, child: TrainerPipe) -> list[Order]:
        """The orders that a child took with it; none when it was closed on purpose."""
        with self._lock:
            if self._child is not child:
                return []
            self._child = None
            return list(child.open_orders)
