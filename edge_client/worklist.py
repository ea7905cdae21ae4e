"""The commands that a device has under way, and the one order that its trainer has.

Each is taken as far as what is here allows:

    manifest of its round → bundle (fetched, checked) → plan, deltas or whole model → verdict on the last update
    → trainer

A run has at most one unsettled update, and nothing is trained for it before the final verdict came. Only one order is
with the trainer at a time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_client.actions import Action, ForgetRun, Note, SubmitOrder
from edge_client.assignment import Assignment, Stage
from edge_client.consent import Consent
from edge_client.gate import Decision, Readiness
from edge_client.inbox import OpenRound
from edge_client.orders import Answer, Failed, NeedModel, Order, Scored, Trained, TroubleCode
from edge_client.outbox import StatePaths
from edge_client.pending import PendingUpdate
from edge_client.policy import Objection
from edge_client.results import Results
from edge_client.shelf import Shelf
from edge_client.troubles import Troubles, round_title
from shared.messages import DeclineReason, EvaluateCommand, TrainCommand

MOST_ASSIGNMENTS = 16


@dataclass
class _Errand:
    """The order that the trainer has; `dropped` once its run was cancelled."""

    order: Order
    dropped: bool = False


class Worklist:
    """Turns commands into orders, and answers into results. Methods return what to do.

    `condition` is what hinders the board from working, as it was last read.
    """

    def __init__(
        self, device: str, paths: StatePaths, consent: Consent, troubles: Troubles, shelf: Shelf, results: Results
    ) -> None:
        self.condition = Decision()
        self._device, self._paths, self._consent, self._troubles = device, paths, consent, troubles
        self._shelf, self._results = shelf, results
        self._assignments: dict[tuple[str, str], Assignment] = {}
        self._errand: _Errand | None = None
        self._actions: list[Action] = []

    @property
    def stage(self) -> Stage | None:
        """What the oldest command under way waits for; None where there is none."""
        return next((assignment.stage for assignment in self._assignments.values()), None)

    @property
    def assignments(self) -> Sequence[Assignment]:
        """The commands under way, the oldest first."""
        return list(self._assignments.values())

    def assign(self, command: TrainCommand | EvaluateCommand, now: float) -> list[Action]:
        """A command came, for the first time or again."""
        if (again := self._results.repeated(command)) is not None:
            return again
        current = self._assignments.get((command.run, command.kind))
        if current is not None:
            if current.server_round == command.server_round:
                current.extend(command, now)
            if current.server_round >= command.server_round:
                return []
            self._drop(current, f"round {command.server_round} is asked for")
        if len(self._assignments) >= MOST_ASSIGNMENTS:
            self._trouble(command.run, command.server_round, "not_eligible", "too many other commands are under way")
            return self._taken()
        assignment = self._assignments[command.run, command.kind] = Assignment(command, now + command.seconds)
        self._note(f"{assignment.title}: {command.kind} within {command.seconds:g} s")
        return self._taken()

    def supersede(self, run: str, server_round: int) -> list[Action]:
        """A round is open: a command of an earlier one can no longer be carried out."""
        for assignment in self.assignments:
            if assignment.run == run and assignment.server_round < server_round:
                self._drop(assignment, f"round {server_round} is open")
        return self._taken()

    def cancel(self, run: str) -> list[Action]:
        """A run has ended."""
        for assignment in self.assignments:
            if assignment.run == run:
                self._drop(assignment, "the run ended")
        if self._errand is not None and self._errand.order.run == run:
            self._errand.dropped = True
        return self._taken()

    def answered(self, answer: Answer, update: PendingUpdate | None, now: float) -> list[Action]:
        """The trainer answered; `update` is the run's unsettled update as it lies on disk, where it matters."""
        errand = self._errand
        if errand is None or (errand.order.run, errand.order.server_round) != (answer.run, answer.server_round):
            return [Note(f"{round_title(answer.run, answer.server_round)}: an answer to no order: {answer.kind}")]
        self._errand = None
        if errand.dropped:
            return [ForgetRun(answer.run)]
        self._answered(errand.order, answer, update, now)
        return self._taken()

    def expire(self, now: float) -> list[Action]:
        """Drop what was not ready in time."""
        for assignment in self.assignments:
            if now >= assignment.deadline:
                self._expire(assignment)
        return self._taken()

    def advance(self, now: float) -> list[Action]:
        """Take each command as far as what is here allows."""
        for assignment in self.assignments:
            if assignment.stage not in (Stage.TRAINING, Stage.EVALUATING):
                self._advance(assignment, now)
        self._do(self._shelf.retain(self._assignments.values(), now))
        return self._taken()

    def next_wake(self) -> float:
        """When `expire` has something to do; infinity for never."""
        return min((assignment.deadline for assignment in self._assignments.values()), default=math.inf)

    def _expire(self, assignment: Assignment) -> None:
        self._drop(assignment, "its deadline passed")
        text = f"{assignment.command.seconds:g} s passed while {assignment.stage}"
        if assignment.stage is Stage.CONDITION:
            reasons = "; ".join(self.condition.reasons)
            self._decline(
                assignment.run, assignment.server_round, Objection(DeclineReason.CONDITION, f"{text}: {reasons}")
            )
        else:
            self._trouble(assignment.run, assignment.server_round, "not_eligible", text)

    def _drop(self, assignment: Assignment, reason: str) -> None:
        self._remove(assignment)
        self._note(f"{assignment.title}: {assignment.command.kind} dropped while {assignment.stage}: {reason}")

    def _advance(self, assignment: Assignment, now: float) -> None:
        """Take an assignment as far as what is here allows."""
        opened = self._shelf.opened(assignment)
        if opened is None:
            self._enter(assignment, Stage.MANIFEST)
            return
        work = opened.manifest.work if assignment.trains else None
        objection = self._consent.objection(assignment.run, opened.signer, work) or self._out_of_condition()
        if objection is None:
            self._proceed(assignment, opened, now)
            return
        self._remove(assignment)
        self._decline(assignment.run, assignment.server_round, objection)

    def _proceed(self, assignment: Assignment, opened: OpenRound, now: float) -> None:
        """Get what an assignment lacks, or wait, or hand it to the trainer."""
        missing = self._shelf.missing(assignment, opened)
        if refusal := self._shelf.refusal(missing, opened):
            self._remove(assignment)
            self._trouble(assignment.run, assignment.server_round, "bundle_refused", refusal)
        elif missing:
            self._enter(assignment, missing[0].stage)
            self._do(self._shelf.obtain(missing, opened, now))
        elif assignment.trains and self._results.owed_round(assignment.run) is not None:
            self._enter(assignment, Stage.VERDICT)
        elif self._errand is not None:
            self._enter(assignment, Stage.QUEUED)
        elif self.condition.readiness is Readiness.WAIT:
            self._enter(assignment, Stage.CONDITION)
        else:
            self._submit(assignment, opened, now)

    def _out_of_condition(self) -> Objection | None:
        """What stops the board for longer than anybody should wait."""
        if self.condition.readiness is not Readiness.STOP:
            return None
        return Objection(DeclineReason.CONDITION, "; ".join(self.condition.reasons))

    def _submit(self, assignment: Assignment, opened: OpenRound, now: float) -> None:
        files = self._shelf.take(assignment, opened)
        received = {name: self._paths.received(assignment.run, name) for name in files}
        bundle = self._paths.bundle(opened.manifest.bundle.digest)
        order = assignment.order(opened.manifest, received, self._device, bundle, now, self._consent.rules)
        self._errand = _Errand(order)
        self._enter(assignment, Stage.TRAINING if assignment.trains else Stage.EVALUATING)
        self._do([SubmitOrder(order, {received[name]: content for name, content in files.items()})])

    def _enter(self, assignment: Assignment, stage: Stage) -> None:
        if assignment.stage is not stage:
            assignment.stage = stage
            self._note(f"{assignment.title}: {stage}")

    def _answered(self, order: Order, answer: Answer, update: PendingUpdate | None, now: float) -> None:
        """Report an answer, and end its assignment, or send that one for the model where the trainer wants it."""
        self._report(order, answer, update, now)
        assignment = self._assignments.get((order.run, order.kind))
        if assignment is None or assignment.server_round != order.server_round:
            return
        if isinstance(answer, NeedModel) and order.model is None:
            opened = self._shelf.opened(assignment)
            self._enter(assignment, assignment.detour(answer.held, opened.manifest) if opened else Stage.MANIFEST)
        else:
            self._remove(assignment)

    def _report(self, order: Order, answer: Answer, update: PendingUpdate | None, now: float) -> None:
        if isinstance(answer, Trained | Scored):
            self._shelf.reached(answer.run, answer.model)
        match answer:
            case Trained():
                self._do(self._results.trained(answer, update, now))
            case Scored():
                self._do(self._results.scored(answer))
            case Failed():
                if answer.code == "bundle_refused":
                    self._shelf.unkeep(Path(order.bundle).stem)
                self._do(self._results.failed(order, answer, update, now))
            case NeedModel() if order.model is not None:
                text = "the trainer cannot get to the round's model from the model itself"
                self._trouble(order.run, order.server_round, "trainer_failed", text)

    def _remove(self, assignment: Assignment) -> None:
        del self._assignments[assignment.run, assignment.command.kind]

    def _decline(self, run: str, server_round: int, objection: Objection) -> None:
        self._do(self._troubles.decline(run, server_round, objection))

    def _trouble(self, run: str, server_round: int, code: TroubleCode, text: str) -> None:
        self._do(self._troubles.tell(run, server_round, code, text))

    def _do(self, actions: Sequence[Action]) -> None:
        self._actions += actions

    def _note(self, text: str) -> None:
        self._actions.append(Note(text))

    def _taken(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions
