import hashlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.blobs import MOST_CHUNKS, BlobAssembly, chunks_of
from shared.errors import DigestMismatch, FrameError
from shared.messages import BlobRef


def ref_of(content: bytes) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))


@given(st.binary(min_size=1, max_size=300), st.integers(1, 320), st.randoms(use_true_random=False))
def test_chunks_in_any_order_give_the_content(content: bytes, chunk_bytes: int, random: Random) -> None:
    chunks = list(enumerate(chunks_of(content, chunk_bytes)))
    assert all(len(chunk) == chunk_bytes for _, chunk in chunks[:-1])
    random.shuffle(chunks)
    assembly = BlobAssembly(ref_of(content), chunk_bytes)
    for done, (index, chunk) in enumerate(chunks):
        assert index in assembly.missing()
        assert len(assembly.missing()) == len(chunks) - done
        assembly.add(index, chunk)
        assembly.add(index, chunk)
    assert assembly.missing() == assembly.window() == []
    assert assembly.content() == content


def test_window_names_the_next_eight_chunks() -> None:
    assembly = BlobAssembly(ref_of(bytes(20)), 1)
    assert assembly.window() == [0, 1, 2, 3, 4, 5, 6, 7]
    for index in (0, 1, 3):
        assembly.add(index, b"\0")
    assert assembly.window() == [2, 4, 5, 6, 7, 8, 9, 10]
    assert assembly.missing() == [2, *range(4, 20)]


def test_wrong_digest_starts_over() -> None:
    assembly = BlobAssembly(ref_of(b"abcdef"), 3)
    assembly.add(0, b"abc")
    assembly.add(1, b"dex")
    with pytest.raises(DigestMismatch):
        assembly.content()
    assert assembly.window() == [0, 1]
    assembly.add(1, b"def")
    assembly.add(0, b"abc")
    assert assembly.content() == b"abcdef"


@pytest.mark.parametrize(
    ("index", "chunk"), [(-1, b"abc"), (2, b"abc"), (0, b"ab"), (1, b"abc"), (0, b"abcd"), (9, b"a")]
)
def test_chunk_that_is_not_due_is_refused(index: int, chunk: bytes) -> None:
    assembly = BlobAssembly(ref_of(b"abcd"), 3)
    with pytest.raises(FrameError, match="not due"):
        assembly.add(index, chunk)
    assert assembly.missing() == [0, 1]


def test_cleared_topic_is_no_chunk() -> None:
    assembly = BlobAssembly(ref_of(b"abcd"), 3)
    assembly.add(0, b"")
    assert assembly.missing() == [0, 1]


def test_more_chunks_than_topics_can_name_are_refused() -> None:
    ref = BlobRef(digest="0" * 64, size=MOST_CHUNKS + 1)
    with pytest.raises(FrameError, match="chunks"):
        BlobAssembly(ref, 1)
    BlobAssembly(ref, 2)
