"""One MQTT 5 connection whose every step waits for the broker's own answer, which the transport does not pass on."""

import ssl
import time
from collections.abc import Callable
from typing import Self

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from shared import paho_reasons as reasons
from shared.errors import BrokerUnreachable, DeadlineExceeded
from shared.paho_link import MALFORMED, PROTOCOL_LIMIT_BYTES
from shared.paho_transport import tls_context
from shared.settings import BrokerSettings
from shared.transport import Received

LOOP_SECONDS = 0.05
MOST_MESSAGES = 1000


class Conversation:
    """Connects when entered, as `client_id`; raises `BrokerUnreachable` with the reason, then and when the link ends.

    `packet_limit_bytes` is the longest packet that the broker takes. No step takes longer than `patience_seconds`;
    then `DeadlineExceeded` says what was waited for.
    """

    def __init__(self, broker: BrokerSettings, client_id: str, patience_seconds: float) -> None:
        self.packet_limit_bytes = PROTOCOL_LIMIT_BYTES
        self.received: list[Received] = []
        self._broker, self._patience_seconds = broker.with_password(), patience_seconds
        self._connected = False
        self._end = ""
        self._answers: dict[int, list[ReasonCode]] = {}
        self._client = self._new_client(client_id, tls_context(broker.tls) if broker.tls else None)

    def _new_client(self, client_id: str, tls: ssl.SSLContext | None) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        client.connect_timeout = self._broker.connect_timeout_seconds
        if tls is not None:
            client.tls_set_context(tls)
        if self._broker.username is not None:
            password = self._broker.password
            client.username_pw_set(self._broker.username, password.get_secret_value() if password else None)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message = self._on_message
        client.on_publish, client.on_subscribe = self._on_publish, self._on_subscribe
        return client

    def __enter__(self) -> Self:
        try:
            self._client.connect(self._broker.host, self._broker.port, self._broker.keepalive_seconds, clean_start=True)
            self._wait(lambda: self._connected, "answer CONNECT")
        except OSError as error:
            raise BrokerUnreachable(reasons.unreachable(self._broker, error)) from None
        except DeadlineExceeded:
            self.__exit__()
            raise BrokerUnreachable(reasons.silent(self._broker)) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop(LOOP_SECONDS)

    def subscribe(self, *filters: str) -> dict[str, ReasonCode]:
        """What the broker says to each filter."""
        _, mid = self._client.subscribe([(name, SubscribeOptions(qos=1)) for name in filters])
        return dict(zip(filters, self._answer(mid, f"grant {', '.join(filters)}"), strict=False))

    def publish(self, topic: str, payload: bytes) -> ReasonCode:
        """What the broker says to a message of QoS 1 that is not retained."""
        (code,) = self._answer(self._client.publish(topic, payload, qos=1).mid, f"acknowledge {topic}")
        return code

    def message(self, wanted: Callable[[Received], bool], seconds: float) -> Received | None:
        """The first message of a kind, of those that came and those that come within `seconds`."""
        try:
            self._wait(lambda: any(map(wanted, self.received)), "send it", seconds)
        except DeadlineExceeded:
            return None
        return next(filter(wanted, self.received))

    def _answer(self, mid: int | None, action: str) -> list[ReasonCode]:
        if mid is None:
            raise BrokerUnreachable(self._reason())
        self._wait(lambda: mid in self._answers, action)
        return self._answers.pop(mid)

    def _wait(self, done: Callable[[], bool], action: str, seconds: float | None = None) -> None:
        patience = self._patience_seconds if seconds is None else seconds
        deadline = time.monotonic() + patience
        while not done():
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(f"{self._broker.address} did not {action} within {patience:g} s: try again")
            try:
                alive = self._client.loop(LOOP_SECONDS) == MQTTErrorCode.MQTT_ERR_SUCCESS
            except MALFORMED as error:
                raise BrokerUnreachable(reasons.foreign(self._broker, error)) from None
            if not alive and not done():
                raise BrokerUnreachable(self._reason())

    def _reason(self) -> str:
        return self._end or f"{self._broker.address} closed the connection: try again"

    def _on_connect(
        self, client: Client, _: object, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._end = reasons.rejected(self._broker, code)
            return
        self.packet_limit_bytes = getattr(properties, "MaximumPacketSize", PROTOCOL_LIMIT_BYTES)
        self._connected = True

    def _on_disconnect(
        self, client: Client, _: object, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        by_broker = flags.is_disconnect_packet_from_server
        self._end = self._end or reasons.lost(self._broker, code, by_broker, self._connected)

    def _on_message(self, client: Client, _: object, message: MQTTMessage) -> None:
        if len(self.received) < MOST_MESSAGES:
            self.received.append(Received(message.topic, bytes(message.payload), message.retain))

    def _on_publish(self, client: Client, _: object, mid: int, code: ReasonCode, properties: Properties | None) -> None:
        self._answers[mid] = [code]

    def _on_subscribe(
        self, client: Client, _: object, mid: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._answers[mid] = codes
