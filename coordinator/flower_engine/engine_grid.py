"""Sieved rounds over a Grid of Flower's own: the round goes out in ordinary messages, and updates come in replies."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from coordinator.flower_compat import FlowerRun, node_id_of
from coordinator.flower_engine.exchange import Exchange
from coordinator.flower_engine.roll import MOST_REASON, Roll
from coordinator.intake import Intake
from coordinator.offer_record import config_record, manifest_from_record
from coordinator.replies import ERROR_LATE, ERROR_REFUSED, ERROR_TROUBLE, evaluation, failure
from coordinator.round_grid import RoundGrid
from shared.errors import MessageError, RemoteError, RunError
from shared.flower_records import CLIENT, ROUND, UPDATE
from shared.messages import DEVICE_EVENT, EvaluateCommand, Evaluated, RoundManifest, TrainCommand, dump, one_line, parse
from shared.verdicts import Verdict

LONGEST_WAIT_SECONDS = 3600.0
LINGER_SECONDS = 60.0
UNAVAILABLE = (3, 4)
"""Flower's codes for a message, or the reply to it, that is not there any more: its time was up."""


class EngineGrid(RoundGrid):
    """Shows a strategy the clients of a job by their names, over the nodes of `grid`.

    An update goes through the intake as it comes, and so is in the journal before the round ends. There are no verdicts
    on this way: the next message to a client says which of its rounds was the last to count. The model goes down whole.
    """

    def __init__(
        self,
        grid: Grid,
        intake: Intake,
        signer: str,
        accepted: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grid, self._intake, self._signer = grid, intake, signer
        self._accepted = dict(accepted)
        self._exchange = Exchange(grid, clock, pause)
        self.roll = Roll(grid, clock)
        self._cohort: list[str] | None = None
        self.received_bytes: dict[str, int] = {}
        """Of update objects and scores, by client; what Flower puts around them is not counted."""
        self.sent_bytes = 0
        """Of manifests, attachments, bundles and models."""

    @property
    def run(self) -> FlowerRun:
        """Flower's record of the run."""
        return self._grid.run

    def set_run(self, run: FlowerRun) -> None:
        """Take another run record."""
        self._grid.set_run(run)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to one node."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Refused: a round is asked and answered by `send_and_receive` alone."""
        raise RunError("sieved rounds go through send_and_receive: call that")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Refused, as `push_messages` is."""
        raise RunError("sieved rounds go through send_and_receive: call that")

    def get_node_ids(self) -> Iterable[int]:
        """Gradsieve's ids of the clients, in order of name."""
        return [node_id_of(device) for device in self.devices()]

    def devices(self) -> list[str]:
        """The clients on the nodes that are there, or the cohort that is asked."""
        return sorted(self.roll.nodes) if self._cohort is None else list(self._cohort)

    def restrict(self, cohort: list[str] | None) -> None:
        """Show strategies only these clients."""
        self._cohort = cohort

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send the round to its clients, and wait until every one answered, at most `timeout` seconds."""
        seconds = min(timeout or LONGEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        names = {node_id_of(device): device for device in self.devices()}
        asked = {_client(names, message): message for message in messages}
        unanswered = [device for device, message in asked.items() if not self._answered(device, message)]

        def find(devices: list[str], remaining: float) -> dict[str, Message]:
            self.roll.look()
            here = [device for device in devices if device in self.roll.nodes]
            return {device: self._addressed(device, asked[device], remaining) for device in here}

        replies = {
            device: self._taken(device, asked[device], reply)
            for device, reply in self._exchange.replies(unanswered, find, seconds)
        }
        if any(map(_trains, asked.values())):
            return self._updates(asked, replies)
        return [replies.get(device) or _late(device, message) for device, message in asked.items()]

    def _updates(self, asked: dict[str, Message], replies: dict[str, Message]) -> Iterator[Message]:
        """Accepted updates straight from the journal, then the errors of the others."""
        self._intake.freeze()
        for device, content in self._intake.contents():
            message = asked.pop(device)
            self._accepted[device] = _manifest(message).server_round
            yield Message(RecordDict({UPDATE: ConfigRecord({"device": device, "content": content})}), reply_to=message)
        for device, message in asked.items():
            yield replies.get(device) or _late(device, message)

    def _addressed(self, device: str, message: Message, seconds: float) -> Message:
        """The message as its client gets it: with its own command, and of the offer's files bundle and model alone.

        It outlives its round a little, so that a client whose time is up can still say so.
        """
        manifest, record = _manifest(message), cast(ConfigRecord, message.content[ROUND])
        objects = {digest: record[digest] for digest in (manifest.bundle.digest, manifest.model.digest)}
        whole = ConfigRecord({"manifest": record["manifest"], "attachment": record["attachment"], **objects})
        history = (config_record(message.content, CLIENT) or ConfigRecord({})).get("history")
        kind = TrainCommand if _trains(message) else EvaluateCommand
        command = kind(run=manifest.run, server_round=manifest.server_round, seconds=seconds)
        if isinstance(command, TrainCommand) and history is not None:
            command = command.model_copy(update={"history": str(history)})
        own = ConfigRecord(
            {"command": dump(command), "accepted": self._accepted.get(device, 0), "signer": self._signer}
        )
        self.sent_bytes += sum(len(content) for content in whole.values() if isinstance(content, bytes))
        return Message(
            RecordDict({ROUND: whole, CLIENT: own}),
            self.roll.nodes[device],
            message.metadata.message_type,
            ttl=seconds + LINGER_SECONDS,
        )

    def _taken(self, device: str, message: Message, reply: Message) -> Message:
        """What a client's answer comes to; updates go into the intake."""
        if reply.has_error():
            code = ERROR_LATE if reply.error.code in UNAVAILABLE else ERROR_TROUBLE
            return self._failed(device, message, code, reply.error.reason or "it gives no reason")
        try:
            content = _answer(reply)
            self.received_bytes[device] = self.received_bytes.get(device, 0) + len(content)
            if not _trains(message):
                return evaluation(device, message, _score(content, _manifest(message)))
        except RemoteError as error:
            return self._failed(device, message, ERROR_REFUSED, str(error))
        ruling = self._intake.take(device, content)
        if ruling.verdict is Verdict.RETRY_AFTER:
            return self._failed(device, message, ERROR_TROUBLE, ruling.reason)
        return reply if ruling.verdict is Verdict.DONE else failure(device, message, ERROR_REFUSED, ruling.reason)

    def _failed(self, device: str, message: Message, code: int, reason: str) -> Message:
        """An error for the strategy, and a line for the operator; refused updates have their own in the journal."""
        said = one_line(reason[:MOST_REASON])
        self._intake.note_trouble(f"{device}: {said}")
        return failure(device, message, code, said)

    def _answered(self, device: str, message: Message) -> bool:
        return _trains(message) and (self._intake.frozen or self._intake.has(device))


def _client(names: Mapping[int, str], message: Message) -> str:
    try:
        return names[message.metadata.dst_node_id]
    except KeyError as error:
        raise RunError(f"a message to node {error}, which get_node_ids() does not give: ask those it gives") from None


def _trains(message: Message) -> bool:
    return message.metadata.message_type.split(".")[0] == "train"


def _manifest(message: Message) -> RoundManifest:
    manifest = manifest_from_record(message.content)
    if manifest is None:
        raise RunError("this grid carries rounds of a SieveStrategy alone: run other strategies on Flower's own grid")
    return manifest


def _answer(reply: Message) -> bytes:
    """The object in a reply; raises `MessageError` where there is none."""
    record = config_record(reply.content, UPDATE)
    content = None if record is None else record.get("content", record.get("event"))
    if not isinstance(content, bytes):
        raise MessageError("the reply has neither an update nor a score")
    return content


def _score(content: bytes, manifest: RoundManifest) -> Evaluated:
    """The score in an answer; raises `MessageError` for anything else, or one of another round."""
    event = parse(DEVICE_EVENT, content)
    if not isinstance(event, Evaluated):
        raise MessageError(f"a {event.kind} is no score")
    if (event.run, event.server_round) != (manifest.run, manifest.server_round):
        raise MessageError(f"a score of round {event.server_round} of run {event.run}")
    return event


def _late(device: str, message: Message) -> Message:
    return failure(device, message, ERROR_LATE, "no answer before the deadline, or its node is gone")
