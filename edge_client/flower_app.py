"""An unmodified Flower ClientApp as a device over MQTT: for big boards that have Flower, and for tests.

One of the two files here that may import Flower: the resident client never does.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto

from shared.errors import RemoteError
from shared.frame import FrameKind, unpack_frame
from shared.messages import Birth, Death, dump
from shared.receiver import Completed, Receiver
from shared.sender import Sender
from shared.spool import MemorySpool
from shared.topics import Topics
from shared.transfer import Status
from shared.transport import Connected, Publication, Received, Subscribed, Transport
from shared.verdicts import Ruling, Verdict

log = logging.getLogger(__name__)

APP_FAILED = 2001
TICK_SECONDS = 0.5


class FlowerNode:
    """Runs a ClientApp for every Message that comes, one at a time, with one Context for its whole life.

    The app runs on the thread that serves the transport: the transport's own thread keeps the connection alive.
    """

    def __init__(
        self,
        app: ClientApp,
        transport: Transport,
        name: str,
        jitter: Callable[[], float],
        topics: Topics = Topics(),  # noqa: B008  frozen
        largest_object_bytes: int = 1 << 30,
        chunk_bytes: int = 65536,
    ) -> None:
        self._app, self._transport, self._name, self._jitter, self._topics = app, transport, name, jitter, topics
        self._receiver = Receiver(largest_object_bytes, largest_object_bytes, MemorySpool())
        self._chunk_bytes = chunk_bytes
        self._senders: list[Sender] = []
        self._context: Context | None = None

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set."""
        death = dump(Death(connection=1))
        self._transport.connect(Publication(self._topics.device_state(self._name), death, retain=True))
        while not stop.is_set():
            match self._transport.receive(TICK_SECONDS):
                case Connected():
                    self._transport.subscribe(self._topics.download(self._name))
                case Subscribed():
                    birth = dump(Birth(connection=1, agent="flower", profile="flower"))
                    self._transport.publish(Publication(self._topics.device_state(self._name), birth, retain=True))
                    for sender in self._senders:
                        self._push(sender.reopen(time.monotonic()))
                case Received(_, payload, _):
                    self._on_frame(payload)
                case _:
                    for sender in self._senders:
                        self._push(sender.on_tick(time.monotonic()))
        self._transport.close()

    def _on_frame(self, payload: bytes) -> None:
        now = time.monotonic()
        try:
            frame = unpack_frame(payload)
            if frame.kind is FrameKind.STATUS:
                status = Status.unpack(frame.body)
                for sender in self._senders:
                    self._push(sender.on_status(status, now))
                self._senders = [sender for sender in self._senders if sender.ruling is None]
                return
            outcomes = self._receiver.on_frame(self._name, frame, now)
        except RemoteError as error:
            log.warning("%s: refused what the coordinator sent: %s", self._name, error)
            return
        for outcome in outcomes:
            if isinstance(outcome, Completed):
                done = self._receiver.conclude(self._name, outcome.transfer_id, Ruling(Verdict.DONE))
                self._push([done.payload])
                self._answer(outcome.content)
            else:
                self._push([outcome.payload])

    def _answer(self, content: bytes) -> None:
        reply = self._reply(message_from_proto(MessageProto.FromString(content)))
        sender = Sender(message_to_proto(reply).SerializeToString(), self._chunk_bytes, self._jitter)
        self._senders.append(sender)
        self._push(sender.start(time.monotonic()))

    def _reply(self, message: Message) -> Message:
        context = self._context or self._first_context(message)
        try:
            reply = self._app(message, context)
        except Exception as error:  # the app is a stranger's code: whatever it raises is an answer, not our end
            log.exception("%s: the ClientApp failed", self._name)
            reply = Message(Error(APP_FAILED, f"{type(error).__name__}: {error}"), reply_to=message)
        self._context = context
        digest = hashlib.sha256(f"{message.metadata.message_id}/{self._name}".encode()).hexdigest()
        reply.metadata.__dict__["_message_id"] = digest[:32]
        return reply

    def _first_context(self, message: Message) -> Context:
        metadata = message.metadata
        return Context(metadata.run_id, metadata.dst_node_id, node_config={}, state=RecordDict(), run_config={})

    def _push(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self._transport.publish(Publication(self._topics.upload(self._name), payload))
