"""Fetching published objects: one after another, eight chunk topics at a time, and asking for what stays away."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from edge_client.actions import Note, Subscribe, Unsubscribe
from edge_client.presence import Identity
from shared.blobs import BlobAssembly
from shared.errors import DigestMismatch, FrameError
from shared.messages import BlobRef, Want, dump
from shared.transport import Publication

PATIENCE_SECONDS = 5.0
"""Silence after which the coordinator is asked to publish an object; doubled up to the longest each time."""
LONGEST_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole object with the digest that was asked for."""

    digest: str
    content: bytes


FetchNews = Fetched | Subscribe | Unsubscribe | Publication | Note


class Fetcher:
    """Fetches the oldest wanted object first. Chunk 0 comes alone, for its length tells how the object was cut.

    What arrived is kept while the link is down. Methods return what to do, and `Fetched` once an object is whole.
    """

    def __init__(self, identity: Identity, jitter: Callable[[], float]) -> None:
        self._identity = identity
        self._jitter = jitter
        self._wanted: dict[str, BlobRef] = {}
        self._assembly: BlobAssembly | None = None
        self._asked: tuple[str, ...] = ()
        self._awaited: set[str] = set()
        self._is_up = False
        self._repeats = 0
        self._wake = math.inf

    @property
    def fetches(self) -> bool:
        """Whether anything is wanted."""
        return bool(self._wanted)

    def want(self, ref: BlobRef, now: float) -> list[FetchNews]:
        """Fetch an object, after those that were wanted before; asking again changes nothing."""
        if ref.digest in self._wanted:
            return []
        self._wanted[ref.digest] = ref
        return self._begin(now) if len(self._wanted) == 1 else []

    def retain(self, digests: set[str], now: float) -> list[FetchNews]:
        """Give up every object but these."""
        current = self._current()
        self._wanted = {digest: ref for digest, ref in self._wanted.items() if digest in digests}
        return [] if self._current() == current else self._begin(now)

    def link_up(self, now: float) -> list[FetchNews]:
        """A new link: ask for what is still missing."""
        self._is_up = True
        self._asked = ()
        return self._ask(now)

    def link_down(self) -> None:
        """Wait for a new link."""
        self._is_up = False
        self._awaited.clear()
        self._wake = math.inf

    def is_chunk(self, topic: str) -> bool:
        """True for the topic of any chunk, awaited or not."""
        return self._identity.topics.chunk_of(topic) is not None

    def receive(self, topic: str, content: bytes, now: float) -> list[FetchNews]:
        """Keep an awaited chunk; raises `FrameError` or `DigestMismatch` and starts over when it is not what is due."""
        ref = self._current()
        if ref is None or topic not in self._awaited or not content:
            return []
        try:
            whole = self._add(ref, self._identity.topics.parse_blob(topic)[1], content)
        except (FrameError, DigestMismatch):
            self._assembly = None
            self._awaited.clear()
            raise
        self._awaited.discard(topic)
        self._repeats = 0
        self._wake = self._next_wake(now)
        if whole is not None:
            del self._wanted[ref.digest]
            return [Fetched(ref.digest, whole), *self._begin(now)]
        return [] if self._awaited else self._ask(now)

    def tick(self, now: float) -> list[FetchNews]:
        """After too long a silence, have the coordinator publish the object, and subscribe anew."""
        ref = self._current()
        if ref is None or now < self._wake:
            return []
        self._repeats += 1
        topic = self._identity.topics.device_event(self._identity.device)
        note = Note(f"object {ref.digest[:16]} stays away: asking for it")
        return [note, Publication(topic, dump(Want(digest=ref.digest))), *self._ask(now)]

    def next_wake(self) -> float:
        """When `tick` has something to do; infinity for never."""
        return self._wake

    def _current(self) -> BlobRef | None:
        return next(iter(self._wanted.values()), None)

    def _begin(self, now: float) -> list[FetchNews]:
        self._assembly = None
        self._repeats = 0
        return self._ask(now)

    def _add(self, ref: BlobRef, index: int, content: bytes) -> bytes | None:
        if self._assembly is None:
            self._assembly = BlobAssembly(ref, len(content))
        self._assembly.add(index, content)
        return None if self._assembly.window() else self._assembly.content()

    def _ask(self, now: float) -> list[FetchNews]:
        """Subscribe to the next chunks, in place of those before."""
        ref, before = self._current(), self._asked
        self._asked = ()
        if ref is not None and self._is_up:
            indexes = self._assembly.window() if self._assembly else [0]
            self._asked = tuple(self._identity.topics.blob_chunk(ref.digest, index) for index in indexes)
        self._awaited = set(self._asked)
        self._wake = self._next_wake(now)
        leave: list[FetchNews] = [Unsubscribe(before)] if before else []
        return [*leave, Subscribe(self._asked)] if self._asked else leave

    def _next_wake(self, now: float) -> float:
        if not self._asked:
            return math.inf
        patience_seconds = min(LONGEST_PATIENCE_SECONDS, PATIENCE_SECONDS * 2.0 ** min(self._repeats, 10))
        return now + patience_seconds * (1 + self._jitter() / 2)
