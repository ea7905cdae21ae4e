"""Any Flower strategy over sieved updates: a Grid around another one, which hands out whole arrays again."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from coordinator.flower_compat import FlowerRun
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.errors import RemoteError
from shared.flower_records import FRAME, SIEVED, float_arrays

log = logging.getLogger(__name__)

ERROR_UNREADABLE = 1005


@dataclass
class SieveTraffic:
    """What sieved replies have taken so far, and what the same would have been dense: four bytes a value."""

    updates: int = 0
    frame_bytes: int = 0
    dense_bytes: int = 0

    @property
    def ratio(self) -> float:
        """How many times shorter than dense; 1 before anything came."""
        return self.dense_bytes / self.frame_bytes if self.frame_bytes else 1.0


@dataclass
class SievedGrid(Grid):
    """Passes everything on to `grid`; a reply that `SieveMod` has sieved gets its arrays back on the way.

    They are the arrays of the message that it replies to, plus what its frame delivers. A frame that cannot be read
    makes the reply an Error, which strategies leave out.
    """

    grid: Grid
    traffic: SieveTraffic = field(default_factory=SieveTraffic)
    _sent: dict[str, ArrayRecord] = field(default_factory=dict)

    @property
    def run(self) -> FlowerRun:
        """Flower's record of the run."""
        return self.grid.run

    def set_run(self, run: FlowerRun) -> None:
        """Take another run record."""
        self.grid.set_run(run)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to one node."""
        return self.grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes there are."""
        return self.grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages and return their ids."""
        kept = list(messages)
        ids = list(self.grid.push_messages(kept))
        for message_id, message in zip(ids, kept, strict=True):
            self._remember(message_id, message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that have come to these messages."""
        return [self._whole(reply) for reply in self.grid.pull_messages(message_ids)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send, and wait for the replies as the grid inside does."""
        kept = list(messages)
        replies = list(self.grid.send_and_receive(kept, timeout=timeout))
        for message in kept:  # their ids are only theirs once they were sent
            self._remember(message.metadata.message_id, message)
        whole = [self._whole(reply) for reply in replies]
        for message in kept:
            self._sent.pop(message.metadata.message_id, None)
        return whole

    def _remember(self, message_id: str, message: Message) -> None:
        records = list(message.content.array_records.values()) if message.has_content() else []
        if len(records) == 1:
            self._sent[message_id] = records[0]

    def _whole(self, reply: Message) -> Message:
        if reply.has_error() or SIEVED not in reply.content.config_records:
            return reply
        sent = self._sent.get(reply.metadata.reply_to_message_id)
        records = reply.content.array_records
        try:
            if sent is None or len(records) != 1:
                raise RemoteError("it replies to no message that had arrays, or has several records of them")
            key, rest = next(iter(records.items()))
            reply.content[key] = self._arrays(sent, rest, reply)
            del reply.content[SIEVED]
        except RemoteError as error:
            log.warning("node %d: a sieved reply is left out: %s", reply.metadata.src_node_id, error)
            return Message(Error(ERROR_UNREADABLE, f"sieved reply: {error}"), reply_to=reply)
        return reply

    def _arrays(self, sent: ArrayRecord, rest: ArrayRecord, reply: Message) -> ArrayRecord:
        layout, before = float_arrays(sent)
        frame = reply.content.config_records[SIEVED].get(FRAME)
        if not isinstance(frame, bytes) or not frame or len(frame) > 4 * layout.size + layout.size:
            raise RemoteError("it has no frame, or one longer than a dense one")
        vector = layout.join(before).copy()
        decode_frame(frame, layout, Plan(budget_bytes=len(frame))).add_to(vector)
        self.traffic.updates += 1
        self.traffic.frame_bytes += len(frame)
        self.traffic.dense_bytes += 4 * layout.size
        delivered = layout.split(vector)
        return ArrayRecord({name: Array(delivered[name]) if name in delivered else rest[name] for name in sent})
