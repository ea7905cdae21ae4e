"""The way from an earlier model of a run to a later one: deltas, in the order in which they are added.

    chain     for each delta, oldest first: base tag 4 | varint length | codec frame
    history   u8 1 | for each delta, oldest first: base tag 4 | SHA-256 of the frame 32 | varint length

A chain holds the deltas and never travels: it lies in checkpoints, and between agent and trainer. A history names them
as published objects, so that a device fetches those alone that it missed. The base tag is the first 4 bytes of the
digest of the model that a delta is added to; what a chain leads to is proven by the digest of the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from shared.errors import FrameError
from shared.messages import LARGEST_BLOB_BYTES, BlobRef
from shared.update import TAG_BYTES, base_tag
from shared.varint import Reader, write_varint

MOST_LINKS = 512
HISTORY_VERSION = 1
DIGEST_BYTES = 32
LARGEST_HISTORY_BYTES = 1 + MOST_LINKS * (TAG_BYTES + DIGEST_BYTES + 5)


@dataclass(frozen=True, slots=True)
class Link:
    """One delta: the tag of its base, and the codec frame."""

    base: bytes
    frame: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """One delta by name: the tag of its base, and where its codec frame is published."""

    base: bytes
    delta: BlobRef


L = TypeVar("L", Link, Step)


def since(chain: Sequence[L], digest: str) -> tuple[L, ...]:
    """The part of a chain that begins at the model `digest`; empty when that model is none of its bases."""
    tag = base_tag(digest)
    starts = [index for index, link in enumerate(chain) if link.base == tag]
    return tuple(chain[starts[-1] :]) if starts else ()


def pack_chain(links: Sequence[Link]) -> bytes:
    """The deltas themselves, one after another."""
    return b"".join(link.base + write_varint(len(link.frame)) + link.frame for link in links)


def unpack_chain(content: bytes) -> tuple[Link, ...]:
    """The deltas in `content`; raises `FrameError` when it is cut or holds more than 512."""
    reader, links = Reader(content, "delta chain"), list[Link]()
    while not reader.at_end:
        _check_room(len(links))
        base = reader.take(TAG_BYTES, "base tag")
        links.append(Link(base, reader.take(reader.varint(LARGEST_BLOB_BYTES, "length"), "codec frame")))
    return tuple(links)


def pack_history(steps: Sequence[Step]) -> bytes:
    """The published object that names the deltas."""
    rows = (step.base + bytes.fromhex(step.delta.digest) + write_varint(step.delta.size) for step in steps)
    return bytes([HISTORY_VERSION]) + b"".join(rows)


def unpack_history(content: bytes) -> tuple[Step, ...]:
    """The deltas that `content` names; raises `FrameError` for another version, a cut row or more than 512 deltas."""
    reader, steps = Reader(content, "delta history"), list[Step]()
    if (version := reader.u8("version")) != HISTORY_VERSION:
        raise FrameError(f"delta history: version {version} is not spoken here, only {HISTORY_VERSION}")
    while not reader.at_end:
        _check_room(len(steps))
        base, digest = reader.take(TAG_BYTES, "base tag"), reader.take(DIGEST_BYTES, "digest")
        size = reader.varint(LARGEST_BLOB_BYTES, "length")
        if size == 0:
            raise FrameError(f"delta history: delta {digest.hex()[:16]} is empty")
        steps.append(Step(base, BlobRef(digest=digest.hex(), size=size)))
    return tuple(steps)


def _check_room(count: int) -> None:
    if count == MOST_LINKS:
        raise FrameError(f"more than {MOST_LINKS} deltas in a row are not accepted: fetch the whole model")
