import hashlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delta_chain import Link, Step, pack_chain, pack_history, since, unpack_chain, unpack_history
from shared.errors import FrameError
from shared.messages import BlobRef
from shared.varint import write_varint

LINKS = st.lists(st.builds(Link, st.binary(min_size=4, max_size=4), st.binary(max_size=200)), max_size=20)


def steps_of(links: list[Link]) -> list[Step]:
    return [
        Step(link.base, BlobRef(digest=hashlib.sha256(link.frame).hexdigest(), size=len(link.frame) or 1))
        for link in links
    ]


@given(LINKS)
def test_chain_and_history_survive_their_bytes(links: list[Link]) -> None:
    assert list(unpack_chain(pack_chain(links))) == links
    assert list(unpack_history(pack_history(steps_of(links)))) == steps_of(links)


def test_history_keeps_its_bytes() -> None:
    step = Step(bytes.fromhex("cccccccc"), BlobRef(digest="d" * 64, size=900))
    assert pack_history([step]).hex() == "01" + "cc" * 4 + "dd" * 32 + "8407"


def test_chain_keeps_its_bytes() -> None:
    assert pack_chain([Link(b"\1\2\3\4", b"frame"), Link(b"\5\6\7\10", b"x" * 200)]).hex() == (
        "01020304" + "05" + b"frame".hex() + "05060708" + "c801" + "78" * 200
    )


@given(st.binary(max_size=300))
def test_any_bytes_are_a_chain_or_a_frame_error(content: bytes) -> None:
    for unpack in (unpack_chain, unpack_history):
        try:
            unpack(content)
        except FrameError:
            continue


@given(LINKS, st.integers(1, 30))
def test_cut_history_is_refused_unless_whole_rows_are_missing(links: list[Link], cut: int) -> None:
    content = pack_history(steps_of(links))
    try:
        left = unpack_history(content[:-cut])
    except FrameError:
        return
    assert pack_history(left) == content[:-cut]


def test_announced_length_allocates_nothing() -> None:
    hostile = b"\0" * 4 + write_varint(1 << 31) + b"short"
    tracemalloc.start()
    with pytest.raises(FrameError, match="5 left"):
        unpack_chain(hostile)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "version"),
        (b"\x02", "version 2 is not spoken"),
        (b"\x01" + b"\0" * 36 + write_varint((1 << 31) + 1), "above"),
        (b"\x01" + b"\0" * 36 + write_varint(0), "empty"),
        (b"\x01" + (b"\0" * 36 + b"\x01") * 513, "more than 512"),
    ],
)
def test_bad_history_is_refused_by_what_is_wrong(content: bytes, fault: str) -> None:
    with pytest.raises(FrameError, match=fault):
        unpack_history(content)


def test_chain_begins_at_the_last_place_where_its_model_is_the_base() -> None:
    digests = [letter * 64 for letter in "abcab"]
    links = [Link(bytes.fromhex(digest)[:4], bytes([index])) for index, digest in enumerate(digests)]
    assert since(links, "a" * 64) == tuple(links[3:])
    assert since(links, "c" * 64) == tuple(links[2:])
    assert since(links, "d" * 64) == ()
    assert since([], "a" * 64) == ()
