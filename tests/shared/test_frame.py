import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FrameError
from shared.frame import MOST_OVERHEAD_BYTES, VERSION, Frame, FrameKind, pack_frame, unpack_frame

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "frames.json").read_text())


def with_checksum(head_and_body: bytes) -> bytes:
    return head_and_body + zlib.crc32(head_and_body).to_bytes(4, "little")


@given(st.sampled_from(FrameKind), st.binary(max_size=400))
def test_frame_comes_back(kind: FrameKind, body: bytes) -> None:
    data = pack_frame(kind, body)
    assert unpack_frame(data) == Frame(kind, body)
    assert len(data) - len(body) <= MOST_OVERHEAD_BYTES


def test_small_frame_adds_eight_bytes() -> None:
    assert len(pack_frame(FrameKind.WHOLE, bytes(127))) == 127 + 8


def test_golden_frame_keeps_its_bytes() -> None:
    assert pack_frame(FrameKind.WHOLE, b"an update").hex() == GOLDEN["whole"]
    assert unpack_frame(bytes.fromhex(GOLDEN["whole"])) == Frame(FrameKind.WHOLE, b"an update")


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_truncation_at_every_offset_is_refused(name: str) -> None:
    data = bytes.fromhex(GOLDEN[name])
    for length in range(len(data)):
        with pytest.raises(FrameError):
            unpack_frame(data[:length])


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_every_flipped_bit_is_refused(name: str) -> None:
    data = bytes.fromhex(GOLDEN[name])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError):
            unpack_frame(bytes(flipped))


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_a_frame_or_a_frame_error(data: bytes, plausible: bool) -> None:
    data = with_checksum(b"gs" + data) if plausible else data
    try:
        frame = unpack_frame(data)
    except FrameError:
        return
    assert pack_frame(frame.kind, frame.body) == data


def test_foreign_magic_is_named() -> None:
    with pytest.raises(FrameError, match="magic"):
        unpack_frame(with_checksum(b"GS\x13\x00"))


def test_other_version_is_named() -> None:
    with pytest.raises(FrameError, match="version 2"):
        unpack_frame(with_checksum(b"gs\x23\x00"))


@pytest.mark.parametrize("kind", [0, 6, 15])
def test_unknown_kind_is_named(kind: int) -> None:
    with pytest.raises(FrameError, match=f"kind {kind}"):
        unpack_frame(with_checksum(bytes((*b"gs", VERSION << 4 | kind, 0))))


def test_length_beyond_the_data_is_named() -> None:
    with pytest.raises(FrameError, match="length"):
        unpack_frame(with_checksum(b"gs\x13\x7fabc"))


def test_bytes_after_the_frame_are_refused() -> None:
    with pytest.raises(FrameError, match="too many"):
        unpack_frame(pack_frame(FrameKind.WHOLE, b"abc") + b"\0")


def test_wrong_checksum_is_named() -> None:
    with pytest.raises(FrameError, match="checksum"):
        unpack_frame(pack_frame(FrameKind.WHOLE, b"abc")[:-1] + b"\0")
