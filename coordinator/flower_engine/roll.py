"""The roll: which client is on which of Flower's nodes, as each node says when it is asked."""

import logging
from collections.abc import Callable

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from coordinator.flower_engine.exchange import push
from coordinator.offer_record import config_record
from shared.errors import MessageError
from shared.flower_records import CLIENT
from shared.messages import one_line
from shared.topics import check_device_name

log = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0
"""So long a node's answer is waited for where there are clients enough; engines may start a process for it."""

PASSING = (1, 2, 3, 4, 5)
"""Flower's codes for an app that did not load or failed, and for a message, reply or node that was not there."""
MOST_REASON = 300


class Roll:
    """Asks each node once, again where Flower failed meanwhile, and never waits.

    Of nodes that give the same name the one that gave it first has it, until it is gone: a client that starts again is
    a node of its own to Flower, which knows the old one for a while yet.
    """

    def __init__(self, grid: Grid, clock: Callable[[], float]) -> None:
        self._grid, self._clock = grid, clock
        self._names: dict[int, str] = {}
        self._questions: dict[str, tuple[int, float]] = {}
        self._again: dict[int, float] = {}
        self.nodes: dict[str, int] = {}
        """The node of each client that is there."""

    @property
    def settled(self) -> bool:
        """No node was asked a moment ago that has not answered yet."""
        return all(self._clock() - asked >= SETTLE_SECONDS for _, asked in self._questions.values())

    def look(self) -> None:
        """See which nodes there are, ask those that are new, and take in what was answered."""
        present = set(self._grid.get_node_ids())
        resting = {node for node, begin in self._again.items() if self._clock() < begin}
        known = self._names.keys() | resting | {node for node, _ in self._questions.values()}
        strangers = sorted(present - known)
        questions = {node: Message(RecordDict({CLIENT: ConfigRecord({})}), node, "query") for node in strangers}
        now = self._clock()
        self._questions |= {message_id: (node, now) for message_id, node in push(self._grid, questions).items()}
        if self._questions:
            for reply in self._grid.pull_messages(list(self._questions)):
                self._hear(reply)
        self.nodes = {}
        for node, name in self._names.items():
            if name and node in present:
                self.nodes.setdefault(name, node)

    def _hear(self, reply: Message) -> None:
        """Note a node's client; one without a usable name is asked nothing."""
        node, _ = self._questions.pop(reply.metadata.reply_to_message_id, (None, 0.0))
        if node is None:
            return
        if reply.has_error() and reply.error.code in PASSING:
            self._again[node] = self._clock() + SETTLE_SECONDS
            return
        record = None if reply.has_error() else config_record(reply.content, CLIENT)
        name = record.get("device") if record else None
        try:
            self._names[node] = check_device_name(name if isinstance(name, str) else "")
        except MessageError as error:
            self._names[node] = ""
            said = (reply.error.reason or "")[:MOST_REASON] if reply.has_error() else str(error)
            log.warning("node %d is asked nothing: %s", node, one_line(said))
