"""The transport to an emulated fleet: its broker lives in the fleet's process, and so does time."""

import json

from shared.errors import RunError, TransportError
from shared.traffic import count_received, count_sent
from shared.transport import (
    Connected,
    Publication,
    Received,
    Refused,
    Subscribed,
    Traffic,
    TransportEvent,
)
from shared.virtual_link import Packet, PacketKind, PacketStream


class FleetTransport:
    """`Transport` to the devices of an emulated fleet.

    `receive` lets at most so many virtual seconds pass, and returns as soon as something came. Raises `RunError` where
    the fleet has ended or does not answer.
    """

    def __init__(self, stream: PacketStream) -> None:
        self.traffic = Traffic()
        self.now = 0.0
        """Virtual seconds since the emulation began."""
        self._stream = stream

    def clock(self) -> float:
        """The virtual time, in seconds."""
        return self.now

    def begin(self, brief: str) -> None:
        """Give the fleet its brief, as JSON, and wait until every device is switched on."""
        self._stream.write(Packet(PacketKind.BRIEF, payload=brief.encode()))
        self._expect(PacketKind.READY)

    def figures(self) -> dict[str, object]:
        """What the fleet has cost so far."""
        self._stream.write(Packet(PacketKind.FIGURES))
        found: dict[str, object] = json.loads(self._expect(PacketKind.FIGURES).payload)
        return found

    def connect(self, will: Publication | None) -> None:
        """Connect to the emulated broker."""
        topic, payload = ("", b"") if will is None else (will.topic, will.payload)
        self._stream.write(Packet(PacketKind.CONNECT, topic=topic, payload=payload))

    def publish(self, publication: Publication) -> None:
        """Send one message."""
        count_sent(self.traffic, publication)
        kind = PacketKind.RETAIN if publication.retain else PacketKind.PUBLISH
        self._stream.write(Packet(kind, topic=publication.topic, payload=publication.payload))

    def subscribe(self, *filters: str) -> None:
        """Ask for topics."""
        for name in filters:
            self._stream.write(Packet(PacketKind.SUBSCRIBE, topic=name))

    def unsubscribe(self, *filters: str) -> None:
        """Stop asking for topics."""
        for name in filters:
            self._stream.write(Packet(PacketKind.UNSUBSCRIBE, topic=name))

    def receive(self, timeout_seconds: float) -> TransportEvent | None:
        """The next event, or None once `timeout_seconds` of virtual time passed without one."""
        self._stream.write(Packet(PacketKind.ADVANCE, self.now + max(0.0, timeout_seconds)))
        packet = self._answer()
        self.now = max(self.now, packet.seconds)
        match packet.kind:
            case PacketKind.IDLE:
                return None
            case PacketKind.RECEIVED | PacketKind.STORED:
                count_received(self.traffic, packet.topic, len(packet.payload), qos=1)
                return Received(packet.topic, packet.payload, retained=packet.kind is PacketKind.STORED)
            case PacketKind.CONNECTED:
                return Connected(int(packet.payload))
            case PacketKind.GRANTED:
                return Subscribed(tuple(packet.payload.decode().split("\n")))
            case _:
                return Refused(packet.topic, TransportError(packet.payload.decode(errors="replace")))

    def wake(self) -> None:
        """Nobody waits in another thread."""

    def close(self) -> None:
        """End the fleet."""
        try:
            self._stream.write(Packet(PacketKind.CLOSE))
            self._stream.flush()
        except OSError:
            pass  # it has ended already
        self._stream.close()

    def _expect(self, kind: PacketKind) -> Packet:
        packet = self._answer()
        if packet.kind is not kind:
            raise RunError(f"the emulated fleet says {packet.kind.name} and not {kind.name}: report it")
        return packet

    def _answer(self) -> Packet:
        try:
            self._stream.flush()
            packet = self._stream.receive()
        except TimeoutError:
            raise RunError("the emulated fleet does not answer: the machine is overloaded, or it hangs") from None
        except (EOFError, OSError) as error:
            raise RunError(f"the emulated fleet has ended ({error}): see its last lines in fleet.log") from None
        if packet.kind is PacketKind.FAULT and not packet.topic:
            raise RunError(f"the emulated fleet cannot go on: {packet.payload.decode(errors='replace')}")
        return packet
