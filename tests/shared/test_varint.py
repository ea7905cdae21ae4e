import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FrameError
from shared.varint import Reader, write_varint


@given(st.integers(0, 1 << 64))
def test_number_comes_back(value: int) -> None:
    reader = Reader(write_varint(value))
    assert reader.varint(1 << 64) == value
    reader.done()


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (1 << 14, "808001")]
)
def test_encoding_is_leb128(value: int, encoded: str) -> None:
    assert write_varint(value).hex() == encoded


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_limit_is_the_largest_number_accepted(value: int, limit: int) -> None:
    reader = Reader(write_varint(value), "thing")
    if value <= limit:
        assert reader.varint(limit, "size") == value
    else:
        with pytest.raises(FrameError, match=r"thing: size .*(above|longer)"):
            reader.varint(limit, "size")


@given(st.binary(max_size=40), st.integers(0, 1 << 64))
def test_any_bytes_give_a_bounded_number_or_a_frame_error(data: bytes, limit: int) -> None:
    try:
        value = Reader(data).varint(limit)
    except FrameError:
        return
    assert 0 <= value <= limit
    assert data.startswith(write_varint(value))


@pytest.mark.parametrize("overlong", [b"\x80\x00", b"\xff\x00", b"\x80\x80\x00"])
def test_overlong_number_is_refused(overlong: bytes) -> None:
    with pytest.raises(FrameError, match="shortest"):
        Reader(overlong).varint(1 << 30)


def test_endless_number_is_refused_early() -> None:
    with pytest.raises(FrameError, match="longer"):
        Reader(b"\x80" * 100_000).varint(1 << 20)


def test_negative_number_is_a_caller_error() -> None:
    with pytest.raises(ValueError, match="negative"):
        write_varint(-1)


def test_reading_past_the_end_names_field_and_offset() -> None:
    reader = Reader(b"abc", "status")
    assert reader.take(2) == b"ab"
    with pytest.raises(FrameError, match="status: id at byte 2: 8 bytes due, 1 left"):
        reader.take(8, "id")
    assert reader.rest() == b"c"


def test_negative_count_never_moves_the_cursor_back() -> None:
    reader = Reader(b"abc")
    reader.take(2)
    with pytest.raises(FrameError):
        reader.take(-1)


def test_bytes_after_the_end_are_refused() -> None:
    reader = Reader(b"ab")
    assert reader.u8() == ord("a")
    with pytest.raises(FrameError, match="1 bytes too many"):
        reader.done()
