"""The trainer of an emulated device: workers do its work, and it answers when the device would have."""

from typing import Protocol

from edge_client.fleet.keeper import MemberKeeper
from edge_client.fleet.workforce import Workforce
from edge_client.orders import ANSWER, Answer, Order, TrainOrder, to_line
from edge_client.trainer import Trainer
from shared.messages import parse

REACH_MODEL_SECONDS = 0.05
"""What it takes to find out that a model cannot be reached."""


class Worked(Protocol):
    """The device whose time its orders take."""

    def seconds_a_step(self, order: Order) -> float:
        """How long it takes for one step of an order."""

    def work(self, seconds: float, life: int) -> None:
        """Be busy with an order for so long."""


class MemberTrainer(Trainer):
    """Hands orders to the workers at once, and their answers to the agent when the device would have been ready."""

    def __init__(self, slot: int, keeper: MemberKeeper, workforce: Workforce, member: Worked) -> None:
        self._slot, self._keeper, self._workforce, self._member = slot, keeper, workforce, member
        self._life = 0
        self._due: list[Answer] = []
        self._submitted = False

    def submit(self, order: Order) -> None:
        """Begin to work on an order; a member that is to die during it never answers."""
        kept = {
            name: self._keeper.shared(path)
            for name in ("plan", "model", "chain")
            if (path := getattr(order, name, None)) is not None
        }
        step_seconds = self._member.seconds_a_step(order)
        self._workforce.submit(self._slot, step_seconds, to_line(order.model_copy(update=kept)))
        self._submitted = True
        self._member.work(self._seconds(order, step_seconds), self._life)

    @property
    def life(self) -> int:
        """How often the device has started again."""
        return self._life

    def finish(self) -> bool:
        """Fetch the answer of the order under way; false where there is none."""
        if not self._submitted:
            return False
        self._submitted = False
        self._due.append(parse(ANSWER, self._workforce.answer(self._slot)))
        return True

    def begin_anew(self) -> None:
        """The device starts again: what it worked on is lost."""
        self.finish()
        self._life += 1
        self._due.clear()

    def poll(self) -> list[Answer]:
        """The answers that are due."""
        due, self._due = self._due, []
        return due

    def peak_rss_bytes(self) -> int:
        """0: an emulated device has no memory of its own to measure."""
        return 0

    def resident_bytes(self) -> int:
        """0: as above."""
        return 0

    def close(self) -> None:
        """Nothing is held."""

    def _seconds(self, order: Order, step_seconds: float) -> float:
        if not isinstance(order, TrainOrder):
            return REACH_MODEL_SECONDS
        held = self._keeper.held()
        if held not in (None, order.target) and order.model is None and order.chain is None:
            return REACH_MODEL_SECONDS
        return min(order.work.steps * step_seconds, order.seconds)
