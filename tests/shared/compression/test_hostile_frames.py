import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.plan import Plan
from shared.compression.registry import CODECS, codec_by_name, decode_frame
from shared.errors import DecodeError
from shared.layout import Layout

LAYOUT = Layout.of([("a.weight", (8, 64), "weight"), ("a.bias", (8,), "bias"), ("b.weight", (3, 130), "weight")])
NAMES = [codec.name for codec in CODECS]
WIRE_IDS = [codec.wire_id for codec in CODECS]


def plan_of(seed: int) -> Plan:
    random = np.random.default_rng(seed)
    return Plan(120, random.integers(0, 9, LAYOUT.num_blocks, np.uint8) if seed % 2 else None)


def frame_of(name: str, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    scales = np.repeat(np.exp(2 * random.normal(size=LAYOUT.num_blocks)), np.diff(LAYOUT.block_starts))
    update = (random.standard_normal(LAYOUT.size) * scales).astype(np.float32)
    return codec_by_name(name).encode(update, LAYOUT, plan_of(seed)).frame


def decode_or_refuse(frame: bytes, plan: Plan) -> None:
    """Whatever decodes is a proper sparse update; whatever does not raises `DecodeError` and nothing else."""
    try:
        update = decode_frame(frame, LAYOUT, plan)
    except DecodeError:
        return
    assert len(update.indices) == len(update.values) <= LAYOUT.size == update.size
    assert (np.diff(update.indices) > 0).all()
    assert not len(update.indices) or 0 <= update.indices[0] <= update.indices[-1] < LAYOUT.size
    assert update.values.dtype == np.float32
    assert np.isfinite(update.values).all()


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(NAMES), st.integers(0, 50), st.data())
def test_truncated_frames_are_refused(name: str, seed: int, data: st.DataObject) -> None:
    frame = frame_of(name, seed)
    cut = data.draw(st.integers(0, len(frame) - 1).filter(lambda cut: cut != 1))
    with pytest.raises(DecodeError):
        decode_frame(frame[:cut], LAYOUT, plan_of(seed))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(NAMES), st.integers(0, 50), st.binary(min_size=1, max_size=40))
def test_frames_with_something_behind_them_are_refused(name: str, seed: int, more: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_frame(frame_of(name, seed) + more, LAYOUT, plan_of(seed))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(NAMES), st.integers(0, 50), st.data())
def test_flipped_bits_are_refused_or_stay_within_bounds(name: str, seed: int, data: st.DataObject) -> None:
    frame = bytearray(frame_of(name, seed))
    for bit in data.draw(st.lists(st.integers(0, 8 * len(frame) - 1), min_size=1, max_size=3)):
        frame[bit // 8] ^= 128 >> bit % 8
    decode_or_refuse(bytes(frame), plan_of(seed))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, max(WIRE_IDS) + 1), st.binary(max_size=200), st.integers(0, 1))
def test_any_bytes_are_refused_or_stay_within_bounds(wire_id: int, body: bytes, seed: int) -> None:
    decode_or_refuse(bytes([wire_id]) + body, plan_of(seed))


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=10, max_size=200))
def test_any_bytes_that_name_the_plan_are_refused_or_stay_within_bounds(body: bytes) -> None:
    plan = plan_of(1)
    named = 0b11 << 70 | int.from_bytes(plan.digest[:2], "big") << 54 | int.from_bytes(body[:9], "big") >> 18
    decode_or_refuse(b"\x01" + named.to_bytes(9, "big") + body[9:], plan)


@pytest.mark.parametrize("wire_id", WIRE_IDS)
@pytest.mark.parametrize("filling", [b"\x00", b"\xff", b"\xaa"])
def test_frames_longer_than_the_layout_allows_are_refused_unread(wire_id: int, filling: bytes) -> None:
    with pytest.raises(DecodeError, match="layout"):
        decode_frame(bytes([wire_id]) + filling * 1_000_000, LAYOUT, Plan(300))
