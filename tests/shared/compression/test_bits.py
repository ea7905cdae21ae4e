import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.bits import CHUNK, BitReader, BitWriter
from shared.errors import DecodeError


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40).flatmap(lambda width: st.tuples(st.integers(0, (1 << width) - 1), st.just(width)))))
def test_integers_of_any_width_come_back(fields: list[tuple[int, int]]) -> None:
    writer = BitWriter()
    for value, width in fields:
        writer.put(value, width)
    assert writer.length == sum(width for _, width in fields)
    reader = BitReader(writer.to_bytes())
    assert [reader.take(width) for _, width in fields] == [value for value, _ in fields]
    reader.finish()


def test_bits_are_packed_most_significant_first() -> None:
    writer = BitWriter()
    writer.put(0b101, 3)
    writer.put_bits(np.array([1, 1], np.uint8))
    assert writer.to_bytes() == bytes([0b10111000])


def test_reading_past_the_end_is_refused() -> None:
    reader = BitReader(b"\xff")
    reader.take(5)
    with pytest.raises(DecodeError, match="truncated"):
        reader.take(4)


@pytest.mark.parametrize("data", [b"\x80\x00", b"\x81"])
def test_a_spare_byte_or_a_one_in_the_padding_is_refused(data: bytes) -> None:
    reader = BitReader(data)
    reader.take(1)
    with pytest.raises(DecodeError, match="follow the last symbol"):
        reader.finish()


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=30), st.integers(0, 56), st.data())
def test_integers_anywhere_are_those_that_taking_them_gives(data: bytes, width: int, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, 8 * len(data)))
    padded = BitReader(data + bytes(8))
    padded.skip(start)
    wanted = padded.take(width)
    reader = BitReader(data)
    assert reader.peek_each(np.array([start]), width).tolist() == [wanted]
    assert reader.peek(start, width).tolist() == [int(bit) for bit in reader.digits[start : start + width].decode()]
    assert reader.at == 0


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=60), st.integers(1, 56), st.data())
def test_many_integers_at_once_are_those_taken_one_by_one(data: bytes, width: int, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, 8 * len(data)))
    count = (8 * len(data) - start) // width
    one_by_one, at_once, in_bytes = BitReader(data), BitReader(data), BitReader(data)
    for reader in (one_by_one, at_once, in_bytes):
        reader.skip(start)
    assert at_once.take_each(count, width).tolist() == [one_by_one.take(width) for _ in range(count)]
    assert at_once.at == one_by_one.at
    whole = (8 * len(data) - start) // 8
    np.testing.assert_array_equal(in_bytes.take_bytes(whole), np.packbits(BitReader(data).peek(start, 8 * whole)))
    with pytest.raises(DecodeError, match="truncated"):
        at_once.take_each(1, width)
    with pytest.raises(DecodeError, match="truncated"):
        in_bytes.take_bytes(1)


def test_integers_come_back_across_the_bounds_of_a_chunk() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 11, CHUNK + 100)
    writer = BitWriter()
    writer.put(1, 3)
    writer.put_bits((values[:, np.newaxis] >> np.arange(11)[::-1] & 1).astype(np.uint8).reshape(-1))
    reader = BitReader(writer.to_bytes())
    assert len(writer.to_bytes()) > CHUNK
    assert reader.take(3) == 1
    np.testing.assert_array_equal(reader.take_each(len(values), 11), values)
    reader.finish()


def test_reading_a_frame_holds_its_digits_once() -> None:
    data = bytes(300_000)
    tracemalloc.start()
    try:
        reader = BitReader(data)
        reader.skip(4 * len(data))
        with pytest.raises(DecodeError):
            reader.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(data)
