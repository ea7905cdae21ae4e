"""How a device says that it cannot, or will not, do what it was asked: to its log, and to the coordinator."""

from dataclasses import dataclass

from edge_client.actions import Action, Note
from edge_client.orders import Failed, TroubleCode
from edge_client.policy import Objection
from edge_client.presence import LONGEST_TEXT, Presence
from shared.messages import DeclineReason, Trouble

TELLING = ("data_error", "trainer_failed")
"""Codes of failures whose text may tell something of the data."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """Methods return what to do. Where updates are noised, `is_private`, the coordinator is told no details."""

    presence: Presence
    is_private: bool

    def fail(self, answer: Failed) -> list[Action]:
        """The trainer failed, or declined."""
        if answer.reason is not None:
            return self.decline(answer.run, answer.server_round, Objection(answer.reason, answer.text))
        if not self.is_private or answer.code not in TELLING:
            return self.tell(answer.run, answer.server_round, answer.code, answer.text)
        note = Note(f"{round_title(answer.run, answer.server_round)}: {answer.text}")
        return [note, *self.tell(answer.run, answer.server_round, answer.code, "the device's own log says more")]

    def decline(self, run: str, server_round: int, objection: Objection) -> list[Action]:
        """The device could, but does not want to."""
        return self.tell(run, server_round, "not_eligible", objection.text, objection.reason)

    def tell(
        self, run: str, server_round: int, code: TroubleCode, text: str, reason: DeclineReason | None = None
    ) -> list[Action]:
        """Say it to both."""
        trouble = Trouble(
            code=code,
            text=text[:LONGEST_TEXT],
            run=run,
            server_round=server_round,
            reason=None if reason is None else reason.value,
        )
        said = f"declined, {reason}" if reason else code
        return [Note(f"{round_title(run, server_round)}: {said}: {text}"), *self.presence.report(trouble)]


def round_title(run: str, server_round: int) -> str:
    """What the log calls a round."""
    return f"run {run} round {server_round}"
