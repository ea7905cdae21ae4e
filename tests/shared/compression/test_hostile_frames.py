import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.eden import EDEN_WIRE_ID
from shared.compression.frame_stats import describe
from shared.compression.history import SendHistory
from shared.compression.partition import PartitionCodec
from shared.compression.plan import MOST_BUDGET_BYTES, Plan
from shared.compression.prior import Prior
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


BASE = f"{0x3F80:015b}"
HEADS = {
    "partition": f"00{31:05b}000{BASE}",
    "stc": f"{10:05b}{BASE}",
    "topk": f"{10:05b}",
    "dgc": f"{10:05b}",
    "sidco": f"{10:05b}",
    "qsgd": f"{0x3F80_0000:032b}{1:016b}{10:05b}",
    "adacomp": f"{10:05b}" * 3,
    "terngrad": f"{10:05b}" * 3,
}
"""What comes before the positions of `LAYOUT`, each of which takes 10 bits and a one from here on."""


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("before", ["", f"1{3:010b}", f"1{3:010b}" * 100])
def test_a_position_beyond_the_last_value_is_refused(name: str, before: str) -> None:
    bits = HEADS[name] + before + f"1{1023:010b}" + "0" * 400
    frame = bytes([codec_by_name(name).wire_id]) + np.packbits(np.array(list(bits), np.uint8)).tobytes()
    with pytest.raises(DecodeError, match="beyond its group's end"):
        decode_frame(frame, LAYOUT, Plan(300))


def peak_bytes(frame: bytes, layout: Layout, plan: Plan) -> int:
    """The most memory that is held at once while a frame is decoded or refused, numpy's arrays included."""
    tracemalloc.start()
    try:
        decode_frame(frame, layout, plan)
    except DecodeError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("wire_id", WIRE_IDS)
@pytest.mark.parametrize("filling", [b"\x00", b"\xff", b"\xaa"])
def test_frames_longer_than_the_layout_allows_are_refused_unread(wire_id: int, filling: bytes) -> None:
    frame = bytes([wire_id]) + filling * 1_000_000
    with pytest.raises(DecodeError, match="layout"):
        decode_frame(frame, LAYOUT, Plan(300))
    assert peak_bytes(frame, LAYOUT, Plan(300)) < 100_000


WIDE = Layout.of([("wide.weight", (200, 300), "weight")])
MANY = Layout.of([(f"tensor{number}", (3, 10), "weight") for number in range(1_000)])


def worst_frames(wire_id: int, layout: Layout) -> Iterator[bytes]:
    """Bits of every density, behind every number that a head can begin with, up to more than any codec takes."""
    random, size = np.random.default_rng(wire_id), layout.size
    bodies = [np.packbits(random.random(48 * size) < share).tobytes() for share in (0.0, 0.01, 0.1, 0.5, 1.0)]
    eden_bytes = 7 + most_values(layout) // 2
    for length in (9, 200, size // 8, size, eden_bytes, 1 + 2 * size, 4 * size, 1 + 4 * size, 5 * size):
        for body in bodies:
            yield (bytes([wire_id]) + body)[:length]
    for number in range(0, 256, 4):
        for body in bodies[-2:]:
            yield bytes([wire_id, number]) + body[: size - 2]


def most_values(layout: Layout) -> int:
    """The values of a layout, up to a power of two as EDEN pads them."""
    return 1 << (layout.size - 1).bit_length()


@pytest.mark.parametrize("wire_id", WIRE_IDS)
@pytest.mark.parametrize("layout", [LAYOUT, WIDE, MANY], ids=["small", "wide", "many"])
def test_no_frame_takes_more_memory_than_its_bytes_and_the_layout_allow(wire_id: int, layout: Layout) -> None:
    values = most_values(layout) if wire_id == EDEN_WIRE_ID else layout.size
    check_memory(worst_frames(wire_id, layout), layout, Plan(MOST_BUDGET_BYTES), values)


@pytest.mark.parametrize("layout", [WIDE, MANY], ids=["wide", "many"])
@pytest.mark.parametrize("known", ["public", "client"])
def test_nor_does_one_that_gathers_values_by_what_both_ends_know(layout: Layout, known: str) -> None:
    random = np.random.default_rng(0)
    classes, steps = np.arange(layout.num_blocks) % 9, np.arange(layout.num_columns) % 15 - 7
    history = SendHistory.empty(layout).after(np.arange(0, layout.size, 5), layout)
    plan = Plan(layout.size // 200, classes.astype(np.uint8), steps.astype(np.int8))
    plan = plan.knowing(history) if known == "client" else plan
    prior = Prior.shared(plan, layout)
    assert prior is not None
    large = random.random(layout.size) < np.exp2(prior.classes - 9.0)
    update = np.where(large, 100, 1).astype(np.float32) * random.standard_normal(layout.size).astype(np.float32)
    frame = PartitionCodec().encode(update, layout, plan).frame
    assert describe(frame, layout, plan).prior == known
    bodies = [bytes([filling]) * (layout.size // share) for filling in (0, 0xAA, 0xFF) for share in (1, 8)]
    check_memory([frame, *(frame[:cut] + body for cut in range(4, 12) for body in bodies)], layout, plan, layout.size)


def check_memory(frames: Iterable[bytes], layout: Layout, plan: Plan, values: int) -> None:
    """10 bytes for each of the frame's, which are read as digits, 100 for each value of the layout, and 64 KiB."""
    decode_frame(bytes([1]), layout, Plan(1))
    for frame in frames:
        assert peak_bytes(frame, layout, plan) < (1 << 16) + 10 * len(frame) + 100 * values
