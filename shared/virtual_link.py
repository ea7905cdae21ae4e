"""What a coordinator and an emulated fleet say to each other over a local socket, and the clock that they share.

    packet    u8 kind | f64 seconds | u16 topic length | u32 payload length | topic | payload, all little-endian

Time stands still until the coordinator grants some: `ADVANCE` lets the fleet live until `seconds`, and the fleet
answers with the first thing that concerns the coordinator and when it came, or with `IDLE` at the granted time.
"""

import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

from shared.errors import MessageError

HEADER = struct.Struct("<BdHI")
LARGEST_PAYLOAD_BYTES = 1 << 30


class PacketKind(IntEnum):
    """What a packet says; the first eight go to the fleet, the others come from it."""

    BRIEF = 0
    CONNECT = 1
    PUBLISH = 2
    RETAIN = 3
    SUBSCRIBE = 4
    UNSUBSCRIBE = 5
    ADVANCE = 6
    CLOSE = 7
    READY = 16
    CONNECTED = 17
    GRANTED = 18
    RECEIVED = 19
    STORED = 20
    IDLE = 21
    FAULT = 22
    FIGURES = 23


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet; `seconds` are virtual ones since the emulation began, 0 where time says nothing."""

    kind: PacketKind
    seconds: float = 0.0
    topic: str = ""
    payload: bytes = b""

    def pack(self) -> bytes:
        """The packet's bytes."""
        topic = self.topic.encode()
        return HEADER.pack(self.kind, self.seconds, len(topic), len(self.payload)) + topic + self.payload


class PacketStream:
    """Packets over a connected socket. What is written waits for `flush`.

    `receive` raises `EOFError` when the other end has gone, `TimeoutError` where the socket has a timeout that passed,
    and `MessageError` for what is no packet.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._incoming = connection.makefile("rb", buffering=1 << 16)
        self._outgoing = bytearray()

    def write(self, packet: Packet) -> None:
        """Put a packet behind those that wait to be sent."""
        self._outgoing += packet.pack()

    def flush(self) -> None:
        """Send what was written."""
        if self._outgoing:
            self._socket.sendall(self._outgoing)
            self._outgoing.clear()

    def receive(self) -> Packet:
        """The next packet."""
        kind, seconds, topic_bytes, payload_bytes = HEADER.unpack(self._take(HEADER.size))
        if payload_bytes > LARGEST_PAYLOAD_BYTES:
            raise MessageError(f"a packet of {payload_bytes} bytes from the other end of the emulation: too large")
        topic, payload = self._take(topic_bytes), self._take(payload_bytes)
        try:
            return Packet(PacketKind(kind), seconds, topic.decode(), payload)
        except ValueError as error:
            raise MessageError(f"the other end of the emulation says what is no packet: {error}") from None

    def close(self) -> None:
        """Close the socket."""
        self._incoming.close()
        self._socket.close()

    def _take(self, size: int) -> bytes:
        data = self._incoming.read(size) if size else b""
        if len(data) < size:
            raise EOFError("the other end of the emulation has gone")
        return data
