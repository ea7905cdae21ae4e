"""What the broker lets this device do: connect, send packets of the size needed, speak and hear under its name."""

import fcntl
import time
from collections.abc import Sequence
from pathlib import Path

from paho.mqtt.reasoncodes import ReasonCode

from edge_client.doctor.conversation import Conversation
from edge_client.doctor.finding import Finding
from edge_client.inbox import Inbox, opened_round
from edge_client.presence import Identity
from edge_client.settings import EdgeSettings
from shared.errors import DeadlineExceeded, RemoteError, SettingsError, TransportError
from shared.folder_lock import LOCK_FILE
from shared.messages import CoordinatorState, Heartbeat, dump
from shared.paho_link import PACKET_ALLOWANCE_BYTES, SMALLEST_PAYLOAD_BYTES
from shared.topics import Topics
from shared.transport import Received

STEP_SECONDS = 10.0
STATE_SECONDS, ANSWER_SECONDS = 2.0, 5.0
MANIFEST_BYTES = 48 * 1024
"""A round's manifest travels in one packet, with up to 24 KiB of the model's delta, its plan and its text."""
NOBODY_LISTENS = 0x10
EXAMINED = ("MQTT", "packet size", "access", "round trip")


def mqtt(settings: EdgeSettings) -> Sequence[Finding]:
    """Connect as this device and try what it has to do; not while its client runs, whose place we would take."""
    holder = running_client(settings.state_dir)
    if holder:
        text = f"the client runs (process {holder}) and would be disconnected: stop it first"
        return [Finding.skip(check, text) for check in EXAMINED]
    began = time.monotonic()
    try:
        with Conversation(settings.broker, settings.name, STEP_SECONDS) as talk:
            text = f"accepted as {settings.name} after {1000 * (time.monotonic() - began):.0f} ms"
            found = [Finding.ok("MQTT", text), *packet_size(settings, talk.packet_limit_bytes)]
            return [*found, *_Rights(settings, talk).examine()]
    except (TransportError, DeadlineExceeded, SettingsError) as error:
        return [Finding.of_error("MQTT", error)]


def running_client(state_dir: Path) -> str:
    """The process that works in a state folder; empty for none. It leaves no trace there, whoever asks."""
    try:
        with open(state_dir / LOCK_FILE, encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(20).strip() or "unknown"
    except OSError:
        pass
    return ""


def packet_size(settings: EdgeSettings, limit_bytes: int) -> Sequence[Finding]:
    """The broker's limit against what one message of ours, and of the coordinator, may need."""
    found, remedy = f"the broker takes packets of {limit_bytes} bytes", "raise its max_packet_size to 262144"
    chunk = settings.broker.max_chunk_bytes + PACKET_ALLOWANCE_BYTES
    if limit_bytes < SMALLEST_PAYLOAD_BYTES + PACKET_ALLOWANCE_BYTES:
        needed = SMALLEST_PAYLOAD_BYTES + PACKET_ALLOWANCE_BYTES
        return [Finding.fail("packet size", f"{found}, and the client needs {needed}", remedy)]
    if limit_bytes < MANIFEST_BYTES:
        text = f"{found}, and a round's manifest may have {MANIFEST_BYTES}"
        return [Finding.warn("packet size", text, remedy)]
    if limit_bytes < chunk:
        text = f"{found}: uploads are cut smaller than max_chunk_bytes, {settings.broker.max_chunk_bytes}"
        return [Finding.ok("packet size", text)]
    return [Finding.ok("packet size", found)]


class _Rights:
    """What may be published and subscribed, and whether it arrives.

    A broker may grant a subscription and deliver nothing, so only a message that came proves the right to read. A
    running coordinator answers the heartbeat of a device it does not know to be online by a signed command: that is
    the whole way there and back.
    """

    def __init__(self, settings: EdgeSettings, talk: Conversation) -> None:
        self._settings, self._talk = settings, talk
        self._topics = Topics(settings.topic_root)
        self._inbox = Inbox(settings.name, self._topics, settings.signer_keys(), opened_round)

    def examine(self) -> Sequence[Finding]:
        """Subscribe, speak, and hear."""
        name, topics = self._settings.name, self._topics
        filters = Identity(name, topics, 0, "").standing_filters()
        denied = [topic for topic, code in self._talk.subscribe(*filters).items() if code.is_failure]
        if denied:
            return [self._refused("subscribe to", denied[0])]
        began = time.monotonic()
        code = self._talk.publish(topics.heartbeat(name), dump(_heartbeat()))
        if code.is_failure:
            return [self._refused("publish on", topics.heartbeat(name), code)]
        sent = f"may publish and subscribe under {name}, acknowledged after {1000 * (time.monotonic() - began):.0f} ms"
        return [Finding.ok("access", sent), *self._foreign(), self._round_trip(code, began)]

    def _refused(self, action: str, topic: str, code: ReasonCode | None = None) -> Finding:
        text = f"the broker lets {self._settings.name} not {action} {topic}{f' ({code})' if code else ''}"
        return Finding.fail("access", text, "check its access rules: the rights go by user name or certificate")

    def _foreign(self) -> Sequence[Finding]:
        """An empty message on a topic that only the coordinator should write: nobody but we ourselves gets it."""
        topic = self._topics.download(self._settings.name)
        if self._talk.publish(topic, b"").is_failure:
            return []
        text = f"this board may publish on {topic}, which is the coordinator's: the broker has no access rules"
        return [Finding.warn("access", text, "install deploy/mosquitto/acl: else any board can speak for any other")]

    def _round_trip(self, code: ReasonCode, began: float) -> Finding:
        state_topic = self._topics.coordinator_state()
        held = self._talk.message(lambda message: message.topic == state_topic, STATE_SECONDS)
        if held is None and code.value == NOBODY_LISTENS:
            return Finding.skip("round trip", "no coordinator is connected, so that nothing came back")
        if held is None:
            text = f"somebody hears this board, but nothing came on {state_topic}"
            return Finding.warn("round trip", text, "check the right to read it, and that a coordinator runs")
        try:
            state = self._inbox.open(held.topic, held.payload)
        except RemoteError as error:
            return Finding.of_error("round trip", f"state of the coordinator: {error}")
        if not isinstance(state, CoordinatorState) or not state.online:
            return Finding.skip("round trip", "the coordinator is away; its signed last word came")
        return self._answer(began)

    def _answer(self, began: float) -> Finding:
        topic = self._topics.command(self._settings.name)
        answer = self._talk.message(lambda message: message.topic == topic, ANSWER_SECONDS)
        if answer is None:
            text = f"a coordinator is online, but its answer on {topic} did not come within {ANSWER_SECONDS:g} s"
            remedy = "check the right to read it; if the client ran until now, wait for 90 s and try again"
            return Finding.fail("round trip", text, remedy)
        return self._signed(answer, began)

    def _signed(self, answer: Received, began: float) -> Finding:
        try:
            self._inbox.open(answer.topic, answer.payload)
        except RemoteError as error:
            return Finding.of_error("round trip", f"answer of the coordinator: {error}")
        milliseconds = 1000 * (time.monotonic() - began)
        return Finding.ok("round trip", f"the coordinator's signed answer came within {milliseconds:.0f} ms")


def _heartbeat() -> Heartbeat:
    return Heartbeat(phase="examined by doctor", sent_bytes=0, received_bytes=0)
