"""The worker processes of an emulated fleet: orders go to whoever has least to do, answers are fetched when due."""

import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import NoReturn

from edge_client.fleet.worker import serve
from shared.errors import TrainerError
from shared.fleet_brief import FleetBrief

MOST_AHEAD = 16
"""Orders that a worker has before it: enough that it never waits, few enough that no buffer of a socket fills up."""
ANSWER_SECONDS = 900.0
READ_BYTES = 1 << 16


@dataclass
class _Hand:
    process: int
    connection: socket.socket
    ahead: int = 0
    rest: bytearray = field(default_factory=bytearray)


class Workforce:
    """Forked workers: begin it before this process has threads or sessions.

    A slot has one order at a time. Raises `TrainerError` where a worker ended, or an answer did not come in time.
    """

    def __init__(self, workers: int) -> None:
        self._hands: list[_Hand] = []
        for _ in range(workers):
            self._hands.append(self._hire())
        self._by_descriptor = {hand.connection.fileno(): hand for hand in self._hands}
        self._poll = select.poll()
        for descriptor in self._by_descriptor:
            self._poll.register(descriptor, select.POLLIN)
        self._waiting: deque[bytes] = deque()
        self._answers: dict[int, bytes] = {}
        self.client_rounds = 0

    def brief(self, brief: FleetBrief) -> None:
        """Tell all workers what they work on."""
        line = brief.model_dump_json().encode() + b"\n"
        for hand in self._hands:
            hand.connection.sendall(line)

    def submit(self, slot: int, step_seconds: float, order: bytes) -> None:
        """Take an order, a line of JSON, for the device in a slot whose steps take so long."""
        self._waiting.append(f"{slot} {step_seconds!r} ".encode() + order)
        self.glance()

    def glance(self) -> None:
        """Fetch the answers that are there, and hand out what waits; never blocks."""
        self._collect(0)
        self._hand_out()

    def answered(self) -> list[int]:
        """The slots whose orders are carried out and not fetched yet."""
        self.glance()
        return list(self._answers)

    def descriptors(self) -> list[int]:
        """What a selector has to watch to learn of answers."""
        return list(self._by_descriptor)

    def answer(self, slot: int) -> bytes:
        """The answer to the slot's order, a line of JSON; waits for it."""
        while slot not in self._answers:
            self._hand_out()
            if not self._collect(ANSWER_SECONDS):
                raise TrainerError(f"waited {ANSWER_SECONDS:g} s for a worker to answer: the machine is overloaded")
        return self._answers.pop(slot)

    def processes(self) -> list[int]:
        """The ids of the worker processes."""
        return [hand.process for hand in self._hands]

    def close(self) -> None:
        """End the workers."""
        for hand in self._hands:
            hand.connection.close()
        for hand in self._hands:
            os.kill(hand.process, signal.SIGTERM)
            os.waitpid(hand.process, 0)

    def _hand_out(self) -> None:
        while self._waiting:
            hand = min(self._hands, key=lambda hand: hand.ahead)
            if hand.ahead >= MOST_AHEAD:
                return
            hand.connection.sendall(self._waiting.popleft())
            hand.ahead += 1

    def _collect(self, seconds: float) -> bool:
        """Read what workers say; whether anything came in this time."""
        ready = self._poll.poll(round(1000 * seconds))
        for descriptor, _ in ready:
            self._read(self._by_descriptor[descriptor])
        return bool(ready)

    def _read(self, hand: _Hand) -> None:
        data = hand.connection.recv(READ_BYTES)
        if not data:
            raise TrainerError(f"worker {hand.process} of the emulated fleet has ended: see its last lines above")
        *lines, hand.rest = (hand.rest + data).split(b"\n")
        for line in lines:
            slot, answer = line.split(b" ", 1)
            self._answers[int(slot)] = bytes(answer)
            hand.ahead -= 1
            self.client_rounds += 1

    def _hire(self) -> _Hand:
        ours, theirs = socket.socketpair()
        process = os.fork()
        if process:
            theirs.close()
            return _Hand(process, ours)
        for hand in self._hands:  # or a worker would not notice that we are gone
            hand.connection.close()
        ours.close()
        return _work(theirs)


def _work(connection: socket.socket) -> NoReturn:
    """Be a worker until the fleet has gone; leaves the process in any case."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fleet ends its workers itself
    code = 1
    try:
        serve(connection)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
