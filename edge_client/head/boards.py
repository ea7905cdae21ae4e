"""What a head asks its boards and hears from them: one question at a time, answered, lost or late."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from coordinator.intake import Intake
from coordinator.link import Link
from shared.messages import EvaluateCommand, Evaluated, TrainCommand, Trouble
from shared.verdicts import Ruling, Verdict

log = logging.getLogger(__name__)

NO_ROUND_SECONDS = 10


@dataclass
class Question:
    """A command to each of some boards, and who has answered; `intake` where the answers are updates."""

    commands: Mapping[str, TrainCommand | EvaluateCommand]
    intake: Intake | None = None
    scores: dict[str, Evaluated] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def is_open(self, board: str) -> bool:
        """Does this board still owe its answer."""
        if board not in self.commands or board in self.failed or board in self.scores:
            return False
        return self.intake is None or not (self.intake.frozen or self.intake.has(board))

    def open_boards(self) -> list[str]:
        """Who is still waited for."""
        return [board for board in self.commands if self.is_open(board)]


class Boards:
    """The link's handler. All methods but `ask` are called on the link's thread, with its lock held."""

    def __init__(self, link: Link, grace_seconds: float, clock: Callable[[], float]) -> None:
        self._link, self._grace_seconds, self._clock = link, grace_seconds, clock
        self._question: Question | None = None

    def ask(self, question: Question, seconds: float) -> None:
        """Send the commands, and wait until every board has answered or is lost, at most so long."""
        with self._link.changed:
            self._question = question
            for board in question.open_boards():
                self._link.command(board, question.commands[board])
        self._link.wait_until(self._is_answered, seconds)

    def ready(self) -> list[str]:
        """Names of the boards that can be given work."""
        with self._link.changed:
            return self._link.fleet.ready()

    def on_upload(self, device: str, content: bytes) -> Ruling:
        """An update of a board: into the journal before the verdict leaves."""
        intake = self._question.intake if self._question else None
        if intake is None:
            return Ruling(Verdict.RETRY_AFTER, "this head has no open round yet", NO_ROUND_SECONDS)
        ruling = intake.take(device, content)
        if self._question is not None and (refusal := intake.refusal(device)):
            self._question.failed[device] = refusal
        return ruling

    def on_birth(self, device: str) -> None:
        """Repeat what a board still owes."""
        if self._question is not None and self._question.is_open(device):
            self._link.command(device, self._question.commands[device])

    def on_event(self, device: str, event: Evaluated | Trouble) -> None:
        """A score, or a reason why there is none."""
        if self._question is None or not self._question.is_open(device):
            return
        command = self._question.commands[device]
        if event.run not in (None, command.run) or event.server_round not in (None, command.server_round):
            return
        if isinstance(event, Trouble):
            if event.code != "wrong_message":
                self._question.failed[device] = str(event)
        elif isinstance(command, EvaluateCommand):
            self._question.scores[device] = event

    def on_complaint(self, text: str) -> None:
        """For the log alone: the link has written it already."""

    def _is_answered(self) -> bool:
        if self._question is None:
            return True
        now, fleet = self._clock(), self._link.fleet
        waiting = self._question.open_boards()
        if self._link.connected is not None:
            for board in waiting:
                if fleet.gone_for(board, now) > self._grace_seconds:
                    self._question.failed[board] = "went offline"
        return not any(self._question.is_open(board) for board in waiting)
