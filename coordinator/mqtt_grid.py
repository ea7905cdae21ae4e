"""A Flower Grid over MQTT: any Strategy sends its messages to devices and gets their replies before a deadline."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from uuid import uuid4

from flwr.app import ConfigRecord, Message, RecordDict

from coordinator.flower_compat import (
    FlowerRun,
    adopt_identity,
    empty_run,
    message_from_bytes,
    message_to_bytes,
    node_id_of,
    set_message_id,
)
from coordinator.intake import Intake
from coordinator.link import Link
from coordinator.offer_record import config_record, manifest_from_record, offer_from_record
from coordinator.replies import ERROR_LATE, ERROR_LOST, ERROR_REFUSED, ERROR_TROUBLE, evaluation, failure
from coordinator.round_grid import RoundGrid
from shared.errors import BrokerUnreachable, MessageError, RunError
from shared.flower_records import CLIENT, UPDATE
from shared.messages import EvaluateCommand, Evaluated, RoundManifest, TrainCommand, Trouble
from shared.verdicts import Ruling, Verdict

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 3600.0
MOST_NAMES = 8
ASK_AGAIN_SECONDS = 15.0
"""Time after which devices that have not answered are asked for their evaluation once more."""


@dataclass
class Pending:
    """One message that waits for its reply; `expires` is on the grid's monotonic clock."""

    id: str
    device: str
    message: Message
    expires: float
    manifest: RoundManifest | None
    reply: Message | None = None

    @property
    def category(self) -> str:
        """Flower's first word of the message type: train, evaluate or query."""
        return self.message.metadata.message_type.split(".")[0]


class MqttGrid(RoundGrid):
    """Speaks two profiles: `sieve` devices get the round's signed manifest and a command; `flower` devices the message.

    A sieve train reply carries the update object in ConfigRecord "update" under "content", read from the journal one
    at a time and in order of device name. A device that went away for `grace_seconds`, refused, or could not train
    replies with a Flower Error.
    """

    def __init__(
        self,
        link: Link,
        run_id: int = 1,
        intake: Intake | None = None,
        grace_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        adopt_identity(run_id)
        self._run = empty_run(run_id)
        self._link = link
        self._intake = intake
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._pending: dict[str, Pending] = {}
        self._ask_again = math.inf
        self._open: dict[str, dict[str, Pending]] = {}
        self._announced: tuple[str, int] | None = None
        self._cohort: list[str] | None = None
        self._names: dict[int, str] = {}

    @property
    def run(self) -> FlowerRun:
        """Flower's record of the run."""
        return self._run

    def set_run(self, run: FlowerRun) -> None:
        """Take another run record."""
        self._run = run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to one node; Flower prefers `Message(...)` itself by now."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def restrict(self, cohort: list[str] | None) -> None:
        """Show strategies only these devices: a resumed round must ask the very devices it asked before."""
        self._cohort = cohort
        with self._link.changed:
            for device in cohort or ():
                self._link.fleet.expect(device, self._clock())

    def get_node_ids(self) -> Iterable[int]:
        """Flower's ids of the devices that can be given work, in order of device name."""
        return [node_id_of(device) for device in self.devices()]

    def devices(self) -> list[str]:
        """Names of the devices that can be given work."""
        if self._cohort is not None:
            return list(self._cohort)
        profile = "flower" if self._intake is None else "sieve"
        with self._link.changed:
            fleet = self._link.fleet
            return [name for name in fleet.ready() if fleet.devices[name].profile == profile]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages and return their ids; replies come with `pull_messages`."""
        return [self._push(message, self._clock() + LONGEST_WAIT_SECONDS) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that have come to these messages; each is handed out once."""
        with self._link.changed:
            self._collect()
            ready = [key for key in message_ids if key in self._pending and self._pending[key].reply is not None]
            taken = [self._pending.pop(key).reply for key in ready]
        return [reply for reply in taken if reply is not None]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send, wait until every device answered or is lost, at most `timeout` seconds (never more than an hour).

        Raises `BrokerUnreachable` when the time passed while the broker was away: its silence is no answer.
        """
        seconds = min(timeout or LONGEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        ids = [self._push(message, self._clock() + seconds) for message in messages]
        waiting, self._ask_again = list(ids), self._clock() + ASK_AGAIN_SECONDS
        if not self._link.wait_until(lambda: self._all_answered(waiting), seconds):
            late = _some([self._pending[key].device for key in ids if self._is_open(key)])
            if self._link.connected is None:
                away = f"while the broker was away ({self._link.last_disconnect})"
                raise BrokerUnreachable(f"waited {seconds:.0f} s for {late} {away}: resume the run when it is back")
            log.warning("deadline of %.0f s passed: no answer from %s", seconds, late)
        with self._link.changed:
            for key in ids:
                self._close(key)
            pending = sorted((self._pending.pop(key) for key in ids), key=lambda p: p.device)
            for unanswered in pending:
                if unanswered.reply is None or unanswered.reply.has_error():
                    self._link.forget_objects(unanswered.device)
        if pending and self._takes_updates(pending[0]):
            return self._updates(pending)
        return [p.reply or failure(p.device, p.message, ERROR_LATE, "no answer before the deadline") for p in pending]

    def on_upload(self, device: str, content: bytes) -> Ruling:
        """An object came from a device: a Flower reply, or an update for the intake."""
        if self._link.fleet.devices[device].profile == "flower":
            return self._on_flower_reply(device, content)
        if self._intake is None:
            return Ruling(Verdict.UNSUPPORTED, "this coordinator runs Flower apps only")
        ruling = self._intake.take(device, content)
        refusal = self._intake.refusal(device)
        for pending in self._open_of(device):
            if self._answered(pending):
                self._close(pending.id)
            elif refusal and self._takes_updates(pending):
                self._reply(pending, failure(pending.device, pending.message, ERROR_REFUSED, refusal))
        return ruling

    def on_birth(self, device: str) -> None:
        """Repeat the command of a device that still owes an answer: its connection may have lost it."""
        for pending in self._open_of(device):
            self._command(pending)

    def on_event(self, device: str, event: Evaluated | Trouble) -> None:
        """An evaluation result answers its message; a trouble ends the wait for that device."""
        for pending in self._open_of(device):
            if pending.manifest is None:
                continue
            run, server_round = pending.manifest.run, pending.manifest.server_round
            if event.run not in (None, run) or event.server_round not in (None, server_round):
                continue
            if isinstance(event, Evaluated):
                if pending.category == "evaluate":
                    self._reply(pending, evaluation(pending.device, pending.message, event))
            elif event.code != "wrong_message":
                reason = f"{event.code}: {event.text}"
                self._reply(pending, failure(pending.device, pending.message, ERROR_TROUBLE, reason))

    def on_complaint(self, text: str) -> None:
        """Into the run's journal, for `status` and report."""
        if self._intake is not None:
            self._intake.note_trouble(text)

    def _push(self, message: Message, expires: float) -> str:
        message_id = uuid4().hex
        set_message_id(message, message_id)
        with self._link.changed:
            device = self._device_of(message.metadata.dst_node_id)
            manifest = manifest_from_record(message.content)
            pending = Pending(message_id, device, message, expires, manifest)
            self._pending[message_id] = pending
            self._open.setdefault(device, {})[message_id] = pending
            if manifest is None:
                self._link.send_object(device, message_to_bytes(message))
            else:
                self._announce(manifest, message.content)
                if self._answered(pending):
                    self._close(message_id)
                else:
                    self._command(pending)
        return message_id

    def _announce(self, manifest: RoundManifest, content: RecordDict) -> None:
        """Publish a round's offer, with the first of its messages."""
        if self._announced != (manifest.run, manifest.server_round) and (offer := offer_from_record(content)):
            self._link.publisher.announce(offer)
            self._announced = (manifest.run, manifest.server_round)

    def _command(self, pending: Pending) -> None:
        manifest, seconds = pending.manifest, pending.expires - self._clock()
        if manifest is None or seconds <= 0:
            return
        kind = TrainCommand if pending.category == "train" else EvaluateCommand
        command = kind(run=manifest.run, server_round=manifest.server_round, seconds=round(seconds, 1))
        own = config_record(pending.message.content, CLIENT)
        if isinstance(command, TrainCommand) and own is not None:
            command = command.model_copy(update={"history": str(own["history"])})
        self._link.command(pending.device, command)

    def _device_of(self, node_id: int) -> str:
        if node_id not in self._names:
            self._names = {node_id_of(device): device for device in self._link.fleet.devices}
        if node_id in self._names:
            return self._names[node_id]
        raise RunError(f"no device has Flower node id {node_id}: get the ids from get_node_ids()")

    def _all_answered(self, waiting: list[str]) -> bool:
        """True once none of `waiting` is open; those found answered leave the list and are not looked at again."""
        self._collect()
        while waiting and not self._is_open(waiting[-1]):
            waiting.pop()
        return not waiting

    def _collect(self) -> None:
        """Turn the silence of devices that are away into Error replies."""
        if self._link.connected is None:
            return
        now, fleet = self._clock(), self._link.fleet
        if now >= self._ask_again:
            self._ask_again = now + ASK_AGAIN_SECONDS
            self._repeat_questions()
        for device in fleet.away(self._open.keys()):
            if fleet.gone_for(device, now) > self._grace_seconds:
                for pending in self._open_of(device):
                    self._reply(pending, failure(pending.device, pending.message, ERROR_LOST, "went offline"))

    def _repeat_questions(self) -> None:
        """Events travel once, so a question or an answer may be lost; updates are offered until they are ruled on."""
        for device in self._open:
            for pending in self._open_of(device):
                if pending.category == "evaluate":
                    self._command(pending)

    def _open_of(self, device: str) -> list[Pending]:
        """The messages to a device that wait for its answer."""
        return list(self._open.get(device, {}).values())

    def _is_open(self, message_id: str) -> bool:
        return message_id in self._open.get(self._pending[message_id].device, {})

    def _reply(self, pending: Pending, reply: Message) -> None:
        pending.reply = reply
        self._close(pending.id)

    def _close(self, message_id: str) -> None:
        """Wait for this answer no more."""
        device = self._pending[message_id].device
        if of_device := self._open.get(device):
            of_device.pop(message_id, None)
            if not of_device:
                del self._open[device]

    def _takes_updates(self, pending: Pending) -> bool:
        return pending.manifest is not None and pending.category == "train"

    def _answered(self, pending: Pending) -> bool:
        if self._intake is None or not self._takes_updates(pending):
            return False
        return self._intake.frozen or self._intake.has(pending.device)

    def _updates(self, pending: list[Pending]) -> Iterator[Message]:
        """Accepted updates straight from the journal, then the errors of the others."""
        if self._intake is None:
            raise RunError("sieve devices were asked to train, but this grid has no intake for updates")
        with self._link.changed:
            self._intake.freeze()
        by_device = {p.device: p for p in pending}
        for device, content in self._intake.contents():
            record = RecordDict({UPDATE: ConfigRecord({"device": device, "content": content})})
            yield Message(record, reply_to=by_device.pop(device).message)
        for missing in by_device.values():
            yield missing.reply or failure(missing.device, missing.message, ERROR_LATE, "no update before the deadline")

    def _on_flower_reply(self, device: str, content: bytes) -> Ruling:
        try:
            reply = message_from_bytes(content)
        except MessageError as error:
            return Ruling(Verdict.REFUSED, str(error))
        pending = self._pending.get(reply.metadata.reply_to_message_id)
        if pending is None:
            return Ruling(Verdict.STALE_ROUND, "nothing waits for this reply")
        if pending.device != device or reply.metadata.src_node_id != node_id_of(device):
            return Ruling(Verdict.REFUSED, "the reply names another node than its topic")
        if pending.reply is not None:
            return Ruling(Verdict.DUPLICATE, "already replied")
        self._reply(pending, reply)
        return Ruling(Verdict.DONE)


def _some(names: list[str]) -> str:
    """The names, of many only the first."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
