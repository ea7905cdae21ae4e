import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MessageError
from shared.virtual_link import HEADER, LARGEST_PAYLOAD_BYTES, Packet, PacketKind, PacketStream

packets = st.builds(
    Packet, st.sampled_from(PacketKind), st.floats(0, 1e12), st.text(max_size=20), st.binary(max_size=200)
)


def pair() -> tuple[PacketStream, PacketStream, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)
    return PacketStream(ours), PacketStream(theirs), ours


@given(st.lists(packets, max_size=8))
def test_packets_arrive_as_they_were_sent(sent: list[Packet]) -> None:
    one, other, _ = pair()
    for packet in sent:
        one.write(packet)
    one.flush()
    assert [other.receive() for _ in sent] == sent
    one.close()
    with pytest.raises(EOFError):
        other.receive()
    other.close()


@pytest.mark.parametrize(
    "head", [HEADER.pack(200, 0.0, 0, 0), HEADER.pack(PacketKind.IDLE, 0.0, 0, LARGEST_PAYLOAD_BYTES + 1)]
)
def test_what_is_no_packet_is_refused(head: bytes) -> None:
    one, other, raw = pair()
    raw.sendall(head)
    with pytest.raises(MessageError):
        other.receive()
    one.close()
    other.close()
