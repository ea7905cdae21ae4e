"""A worker of an emulated fleet: it carries out the orders of any device, one after another, with one set of sessions.

Lines come in as `slot seconds-a-step order` and go out as `slot answer`, order and answer as JSON.
"""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from edge_client.data import MemorySource, Recordings
from edge_client.fleet.examples import FleetExamples
from edge_client.fleet.model_shelf import ModelShelf
from edge_client.fleet.slot_file import slot_file
from edge_client.fleet.slot_room import SlotRoom
from edge_client.inline_trainer import InlineTrainer, score_locally
from edge_client.local_round import run_round
from edge_client.orders import ORDER, Order, to_line
from edge_client.room import UpdateStore
from edge_client.task import Task, read_archive
from shared.fleet_brief import FleetBrief
from shared.messages import parse

if TYPE_CHECKING:
    from edge_client.head.emulated_head import EmulatedHeads

NO_DATA = MemorySource(Recordings([], []))


class StepClock:
    """A clock that a trainer looks at once before it begins and once before each step: so long does a step take."""

    def __init__(self) -> None:
        self._step_seconds, self._looks = 0.0, 0

    def begin(self, step_seconds: float) -> None:
        """Another order is about to be submitted, of a device that takes so long for a step."""
        self._step_seconds, self._looks = step_seconds, 0

    def __call__(self) -> float:
        """Seconds since the order began."""
        self._looks += 1
        return max(0, self._looks - 2) * self._step_seconds


class Worker:
    """Carries out orders for the devices of a brief, all with one trainer: it is whichever device has the order."""

    def __init__(self, brief: FleetBrief) -> None:
        self._file = slot_file(brief)
        self._shelf = ModelShelf(brief.state / "models")
        self._examples = FleetExamples(brief.data, brief.data_kind, brief.names)
        self._tasks: dict[str, Task] = {}
        self._module = brief.torch_module
        self._slot, self._clock = 0, StepClock()
        self._first_head = len(brief.names)
        play = self._play(brief)
        self._trainer = InlineTrainer(
            brief.state,
            NO_DATA,
            self._clock,
            celsius=lambda: None,
            room=lambda run: SlotRoom(self._file, self._slot, self._shelf),
            load=self._task,
            work=run_round if play is None else play.work,
            score=score_locally if play is None else play.score,
        )

    def carry_out(self, slot: int, step_seconds: float, order: Order) -> bytes:
        """The answer's line."""
        self._slot = slot
        self._clock.begin(step_seconds)
        self._trainer.submit(order)
        return to_line(self._trainer.poll()[0])

    def _task(self, archive: Path) -> Task:
        digest = archive.stem
        if digest not in self._tasks:
            self._tasks = {digest: self._made(Task(read_archive(archive), NO_DATA))}
        is_head = self._slot >= self._first_head
        return self._tasks[digest] if is_head else self._examples.of(self._tasks[digest], digest, self._slot)

    def _board(self, slot: int) -> tuple[Task, UpdateStore]:
        """A board's data and what it keeps, for the task of the order under way."""
        digest, task = next(iter(self._tasks.items()))
        return self._examples.of(task, digest, slot), SlotRoom(self._file, slot, self._shelf).updates

    def _play(self, brief: FleetBrief) -> "EmulatedHeads | None":
        if not brief.clusters:
            return None
        from edge_client.head.emulated_head import EmulatedHeads  # noqa: PLC0415  only heads need what it loads

        return EmulatedHeads(brief, lambda: self._slot, self._board)

    def _made(self, task: Task) -> Task:
        if self._module is None:
            return task
        from edge_client.torch_runtime import TorchRuntime  # noqa: PLC0415  loads torch

        return task.with_runtime(TorchRuntime(self._module, task.layout))


def serve(connection: socket.socket) -> None:
    """Read the brief and then orders from a socket until it ends."""
    lines = connection.makefile("rb")
    first = lines.readline()
    if not first:
        return
    worker = Worker(FleetBrief.model_validate_json(first))
    for line in lines:
        slot, step_seconds, text = line.split(b" ", 2)
        answer = worker.carry_out(int(slot), float(step_seconds), parse(ORDER, text))
        connection.sendall(slot + b" " + answer)
