import dataclasses
import hashlib
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FrameError
from shared.frame import FrameKind, pack_frame
from shared.transfer import Status
from shared.transport import publish_packet_bytes
from shared.update import LARGEST_HALF, UpdateHeader, UpdateObject, base_tag, run_tag
from shared.verdicts import Verdict

GOLDEN = (Path(__file__).parents[1] / "golden" / "update.bin").read_bytes()

HEADER = UpdateHeader(
    run_tag=run_tag("watch-gestures"),
    base_tag=base_tag(hashlib.sha256(b"model").hexdigest()),
    server_round=300,
    examples=2000,
    steps=200,
    loss=0.5,
    correct=700,
    tested=800,
    threshold=0.0009765625,
)
LOSS_OFFSET = 14
THRESHOLD_OFFSET = 20

halves = st.floats(-LARGEST_HALF, LARGEST_HALF, width=16)
headers = st.builds(
    UpdateHeader,
    run_tag=st.binary(min_size=4, max_size=4),
    base_tag=st.binary(min_size=4, max_size=4),
    server_round=st.integers(0, 1_000_000),
    examples=st.integers(0, 1 << 40),
    steps=st.integers(0, 1_000_000),
    loss=halves,
    correct=st.integers(0, 1000),
    tested=st.integers(1000, 1 << 40),
    threshold=halves.map(abs),
)


@given(headers, st.binary(max_size=100))
def test_update_comes_back(header: UpdateHeader, frame: bytes) -> None:
    update = UpdateObject(header, frame)
    assert UpdateObject.unpack(update.pack()) == update


def test_golden_update_keeps_its_bytes() -> None:
    update = UpdateObject(HEADER, b"codec frame")
    assert update.pack() == GOLDEN
    assert UpdateObject.unpack(GOLDEN) == update


def test_tags_begin_the_digests() -> None:
    assert run_tag("a") == hashlib.sha256(b"a").digest()[:4]
    assert base_tag("0123456789abcdef") == bytes.fromhex("01234567")


def test_truncated_header_is_refused_at_every_offset() -> None:
    for length in range(len(HEADER.pack())):
        with pytest.raises(FrameError, match="update: "):
            UpdateObject.unpack(GOLDEN[:length])


@given(st.binary(max_size=60))
def test_any_bytes_are_an_update_or_a_frame_error(data: bytes) -> None:
    try:
        update = UpdateObject.unpack(data)
    except FrameError:
        return
    assert update.header.loss is None or math.isfinite(update.header.loss)
    assert update.pack() == data


@pytest.mark.parametrize(
    ("value", "packed"), [(1e9, LARGEST_HALF), (-math.inf, -LARGEST_HALF), (math.nan, LARGEST_HALF)]
)
def test_loss_beyond_half_precision_is_packed_as_its_end(value: float, packed: float) -> None:
    update = UpdateObject(dataclasses.replace(HEADER, loss=value), b"")
    assert UpdateObject.unpack(update.pack()).header.loss == packed


def test_loss_that_is_not_told_comes_back_as_none_and_takes_no_bytes() -> None:
    untold = UpdateObject(dataclasses.replace(HEADER, loss=None), b"").pack()
    assert UpdateObject.unpack(untold).header.loss is None
    assert len(untold) == len(HEADER.pack())
    assert UpdateObject.unpack(UpdateObject(dataclasses.replace(HEADER, loss=-1e-9), b"").pack()).header.loss == 0


@pytest.mark.parametrize(("offset", "field"), [(LOSS_OFFSET, "loss"), (THRESHOLD_OFFSET, "threshold")])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_number_that_is_not_finite_is_refused_by_name(offset: int, field: str, value: float) -> None:
    data = bytearray(GOLDEN)
    data[offset : offset + 2] = struct.pack("<e", value)
    with pytest.raises(FrameError, match=field):
        UpdateObject.unpack(bytes(data))


def test_negative_threshold_is_refused() -> None:
    with pytest.raises(FrameError, match="threshold"):
        UpdateObject.unpack(dataclasses.replace(HEADER, threshold=-1.0).pack())


def test_more_correct_than_tested_is_refused() -> None:
    with pytest.raises(FrameError, match="801 correct of 800"):
        UpdateObject.unpack(dataclasses.replace(HEADER, correct=801).pack())


def test_round_above_its_bound_is_refused_by_name() -> None:
    with pytest.raises(FrameError, match="round"):
        UpdateObject.unpack(dataclasses.replace(HEADER, server_round=1_000_001).pack())


@pytest.mark.parametrize("codec_bytes", [100, 500, 2_000, 16_000, 60_000])
def test_whole_update_costs_at_most_64_bytes_over_its_codec_frame(codec_bytes: int) -> None:
    payload = pack_frame(FrameKind.WHOLE, UpdateObject(HEADER, bytes(codec_bytes)).pack())
    assert publish_packet_bytes("gs/v1/up/watch-03/x", len(payload), qos=1) - codec_bytes <= 64


@pytest.mark.parametrize("verdict", [Verdict.DONE, Verdict.DUPLICATE, Verdict.STALE_ROUND])
def test_verdict_costs_at_most_64_bytes(verdict: Verdict) -> None:
    payload = Status(bytes(8), verdict).pack()
    assert publish_packet_bytes("gs/v1/down/watch-03/x", len(payload), qos=1) <= 64
