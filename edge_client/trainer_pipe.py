"""A running trainer process as seen from the agent: orders in, answers out, and how it ended."""

import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, cast

from edge_client.memory import KERNEL, field_bytes
from edge_client.orders import ANSWER, Answer, Order, to_line
from shared.errors import DataError
from shared.messages import parse

END_SECONDS = 2.0
MARGIN_SECONDS = 120.0
"""What a trainer may need beyond an order's time, to load, to score and to write; one that needs more hangs."""
READ_BYTES = 1 << 16
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Each further thread of numpy's linear algebra, unused here, would keep buffers of its own."""


class TrainerPipe:
    """Starts `python -m edge_client.trainer_child` with these arguments; `open_orders` still lack their answer."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module, and paths from the settings
            [sys.executable, "-m", "edge_client.trainer_child", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ONE_THREAD,
            start_new_session=True,
        )
        self._orders, self._answers = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        self._unread = b""
        self._due = 0.0
        self._killed_because = ""
        self.open_orders: deque[Order] = deque()

    def send(self, order: Order, now: float) -> None:
        """Hand over an order; that the process is gone shows when its answer is received."""
        self._due = (self._due if self.open_orders else now) + order.seconds + MARGIN_SECONDS
        self.open_orders.append(order)
        with suppress(BrokenPipeError):
            self._orders.write(to_line(order))
            self._orders.flush()

    def receive(self, idle_seconds: float) -> list[Answer] | None:
        """The next answers: empty after `idle_seconds` without an order or answer, None once the process has ended.

        Raises `MessageError` when the process says anything else.
        """
        ready, _, _ = select.select([self._answers], [], [], None if self.open_orders else idle_seconds)
        if not ready:
            return []
        received = os.read(self._answers.fileno(), READ_BYTES)
        if not received:
            return None
        *lines, self._unread = (self._unread + received).split(b"\n")
        answers = [parse(ANSWER, line) for line in lines]
        for _ in answers:
            self.open_orders.popleft()
        return answers

    def is_overdue(self, now: float) -> bool:
        """True when the open orders should have been answered long ago."""
        return bool(self.open_orders) and now >= self._due

    def kill(self, reason: str) -> None:
        """End the process by force, for a reason that `finish` repeats."""
        self._killed_because = reason
        self._process.kill()

    def hang_up(self) -> int:
        """End the process, by force where it does not end with its input; its exit code, or minus its signal."""
        with suppress(BrokenPipeError):
            self._orders.close()
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def finish(self) -> str:
        """Hang up, once nobody receives any more, and say how the process ended."""
        code = self.hang_up()
        self._answers.close()
        return self._killed_because or _ending(code)

    def peak_rss_bytes(self) -> int:
        """The most memory that the process has had resident; 0 once it has ended."""
        return self._status_bytes("VmHWM")

    def resident_bytes(self) -> int:
        """The memory that the process has resident; 0 once it has ended."""
        return self._status_bytes("VmRSS")

    def _status_bytes(self, field: str) -> int:
        try:
            return field_bytes((KERNEL / str(self._process.pid) / "status").read_text(), field)
        except (OSError, DataError):
            return 0


def _ending(code: int) -> str:
    if code >= 0:
        return f"trainer ended with exit code {code}: its error output says why"
    hint = " (out of memory?)" if -code == signal.SIGKILL else f" ({signal.strsignal(-code)})"
    return f"trainer was killed by signal {-code}{hint}"
