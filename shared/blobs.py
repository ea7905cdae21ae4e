"""Published objects: cut into chunks for their topics, and assembled again by whoever needs them."""

import hashlib

from shared.errors import DigestMismatch, FrameError
from shared.messages import BlobRef

WINDOW_CHUNKS = 8
MOST_CHUNKS = 1_000_000
"""What fits the six digits of a chunk's topic."""


def chunks_of(content: bytes, chunk_bytes: int) -> list[bytes]:
    """`content` in chunks of `chunk_bytes`, the last one shorter if need be."""
    return [content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes)]


class BlobAssembly:
    """Collects the chunks of one published object, in any order; memory grows with what arrives.

    Raises `FrameError` when `ref` announces more chunks than topics can name.
    """

    def __init__(self, ref: BlobRef, chunk_bytes: int) -> None:
        self.ref = ref
        self.num_chunks = -(-ref.size // chunk_bytes)
        if self.num_chunks > MOST_CHUNKS:
            raise FrameError(f"blob {ref.digest[:16]}: {self.num_chunks} chunks, at most {MOST_CHUNKS} are accepted")
        self._chunk_bytes = chunk_bytes
        self._chunks: dict[int, bytes] = {}
        self._window_start = 0

    def add(self, index: int, content: bytes) -> None:
        """Keep one chunk; raises `FrameError` when none of this index and length is due.

        A chunk that is there already is ignored, and so is an empty one: that is how a retained topic is cleared.
        """
        if not content or index in self._chunks:
            return
        due_bytes = min(self._chunk_bytes, self.ref.size - index * self._chunk_bytes)
        if not 0 <= index < self.num_chunks or len(content) != due_bytes:
            raise FrameError(f"blob {self.ref.digest[:16]}: chunk {index} of {len(content)} bytes is not due")
        self._chunks[index] = content

    def missing(self) -> list[int]:
        """Indexes of all chunks still wanted, rising."""
        return [index for index in range(self.num_chunks) if index not in self._chunks]

    def window(self) -> list[int]:
        """Indexes of the next chunks to subscribe to, rising, at most 8; empty when all are there."""
        while self._window_start in self._chunks:
            self._window_start += 1
        wanted: list[int] = []
        for index in range(self._window_start, self.num_chunks):
            if len(wanted) == WINDOW_CHUNKS:
                break
            if index not in self._chunks:
                wanted.append(index)
        return wanted

    def content(self) -> bytes:
        """The whole object; raises `DigestMismatch` and forgets all chunks when it is not the announced one.

        Only to be called when nothing is missing.
        """
        content = b"".join(self._chunks[index] for index in range(self.num_chunks))
        if hashlib.sha256(content).hexdigest() != self.ref.digest:
            self._chunks.clear()
            self._window_start = 0
            raise DigestMismatch(f"blob {self.ref.digest[:16]}: the published bytes have another digest: fetch again")
        return content
