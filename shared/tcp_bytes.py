"""What the operating system says a TCP connection has carried."""

import socket
import struct
import sys
from typing import NamedTuple

INFO_BYTES = 136
ACKED_OFFSET = 120  # tcpi_bytes_acked, then tcpi_bytes_received, both u64: struct tcp_info, Linux 4.1 and later


class TcpBytes(NamedTuple):
    """Payload bytes of TCP: TLS and MQTT included, IP and TCP headers not."""

    acked_sent: int
    received: int


def tcp_bytes(sock: socket.socket) -> TcpBytes | None:
    """Bytes the peer has acknowledged and bytes received, or None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    except OSError:  # closed meanwhile
        return None
    return TcpBytes(*struct.unpack_from("=QQ", info, ACKED_OFFSET)) if len(info) >= INFO_BYTES else None
