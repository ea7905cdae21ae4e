"""Where half-received objects wait: in memory, or in files that survive a restart."""

import contextlib
import os
from pathlib import Path
from typing import Protocol

from shared.errors import FrameError
from shared.frame import FrameKind, unpack_frame
from shared.topics import DEVICE_NAME, check_device_name
from shared.transfer import Open
from shared.varint import Reader

PARTIAL_SUFFIX = ".partial"
UNFINISHED_SUFFIX = ".tmp"
HEADER_BYTES = 128
"""The head of a partial file: u8 length, the offer's frame, zeros."""


class Partial(Protocol):
    """One object on its way in; `held` is the set of chunks that were written."""

    offer: Open
    held: set[int]

    def write(self, index: int, content: bytes) -> None:
        """Keep one chunk; its length was checked. Raises `OSError` when there is no room."""

    def content(self) -> bytes:
        """All bytes, once every chunk is held; their digest is the caller's to check. Raises `OSError`."""

    def drop(self) -> None:
        """Forget it all."""


class Spool(Protocol):
    """Keeps partial objects of many peers."""

    def begin(self, peer: str, offer: Open) -> Partial:
        """An empty partial object, in place of any earlier one of the same id. Raises `OSError` when it cannot."""

    def recover(self) -> list[tuple[str, Partial]]:
        """The partial objects, with their peers, that a previous process left; called once at the start."""


class MemoryPartial:
    """A partial object in memory; memory grows with what arrives, not with what was offered."""

    def __init__(self, offer: Open) -> None:
        self.offer = offer
        self.held: set[int] = set()
        self._chunks: dict[int, bytes] = {}

    def write(self, index: int, content: bytes) -> None:
        """Keep one chunk."""
        self._chunks[index] = content
        self.held.add(index)

    def content(self) -> bytes:
        """All bytes."""
        return b"".join(self._chunks[index] for index in range(self.offer.num_chunks))

    def drop(self) -> None:
        """Forget it all."""
        self._chunks.clear()
        self.held.clear()


class MemorySpool:
    """A spool that a restart empties."""

    def begin(self, peer: str, offer: Open) -> MemoryPartial:
        """An empty partial object."""
        return MemoryPartial(offer)

    def recover(self) -> list[tuple[str, Partial]]:
        """Nothing: memory does not survive."""
        return []


class FilePartial:
    """A partial object in one sparse file: header, bitmap, content.

    Content is written before its bit, and neither is synced: after a power cut a bit may be ahead of its content.
    The digest finds that, and the object is sent again.
    """

    def __init__(self, path: Path, offer: Open, held: set[int]) -> None:
        self.offer = offer
        self.held = held
        self._path = path
        self._content_offset = HEADER_BYTES + -(-offer.num_chunks // 8)

    def write(self, index: int, content: bytes) -> None:
        """Keep one chunk."""
        place, start = index // 8, self._content_offset + index * self.offer.chunk_bytes
        bits = sum(1 << bit for bit in range(8) if 8 * place + bit in self.held or 8 * place + bit == index)
        with open(self._path, "r+b") as file:
            file.seek(start)
            file.write(content)
            file.flush()
            file.seek(HEADER_BYTES + place)
            file.write(bytes((bits,)))
        self.held.add(index)

    def content(self) -> bytes:
        """All bytes."""
        with open(self._path, "rb") as file:
            file.seek(self._content_offset)
            return file.read(self.offer.size)

    def drop(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
        self.held.clear()

    @classmethod
    def create(cls, path: Path, offer: Open) -> "FilePartial":
        """A new file of full length, put in place at once."""
        partial = cls(path, offer, set())
        unfinished = path.with_suffix(UNFINISHED_SUFFIX)
        with open(unfinished, "wb") as file:
            header = offer.pack()
            file.write((bytes((len(header),)) + header).ljust(HEADER_BYTES, b"\0"))
            file.truncate(partial._content_offset + offer.size)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        return partial

    @classmethod
    def load(cls, path: Path) -> "FilePartial":
        """What a file holds; raises `FrameError` when its header is not ours."""
        with open(path, "rb") as file:
            header = Reader(file.read(HEADER_BYTES), path.name)
            frame = unpack_frame(header.take(header.u8()))
            if frame.kind is not FrameKind.OPEN:
                raise FrameError(f"{path.name}: its header is a {frame.kind.name} frame, not an offer")
            offer = Open.unpack(frame.body)
            bitmap = file.read(-(-offer.num_chunks // 8))
        held = {i for i in range(offer.num_chunks) if i // 8 < len(bitmap) and bitmap[i // 8] >> i % 8 & 1}
        return cls(path, offer, held)


class FileSpool:
    """A spool in one directory, one file `{peer}.{id}.partial` an object; created if absent."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def begin(self, peer: str, offer: Open) -> FilePartial:
        """An empty partial object; raises `MessageError` when `peer` cannot be part of a file's name."""
        name = f"{check_device_name(peer)}.{offer.transfer_id.hex()}"
        return FilePartial.create(self._directory / f"{name}{PARTIAL_SUFFIX}", offer)

    def recover(self) -> list[tuple[str, Partial]]:
        """What was left behind; unfinished `.tmp` files are deleted and nothing else."""
        for unfinished in self._directory.glob(f"*{UNFINISHED_SUFFIX}"):
            unfinished.unlink()
        found: list[tuple[str, Partial]] = []
        for path in sorted(self._directory.glob(f"*{PARTIAL_SUFFIX}")):
            peer = path.name.partition(".")[0]
            with contextlib.suppress(FrameError):
                if DEVICE_NAME.fullmatch(peer):
                    found.append((peer, FilePartial.load(path)))
        return found
