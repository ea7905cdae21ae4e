"""The receiving half of transfers, for any number of peers: a state machine from frames and time to replies."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from shared.errors import FrameError
from shared.frame import Frame, FrameKind
from shared.spool import Partial, Spool
from shared.transfer import Chunk, Open, Status, id_of
from shared.verdicts import Ruling, Verdict

CREDIT_CHUNKS = 8
STATUS_EVERY_CHUNKS = 4
STATUS_EVERY_SECONDS = 1.0
NO_ROOM_RETRY_SECONDS = 30
KEEP_SECONDS = 3600.0
MOST_CONCLUSIONS_A_PEER = 256
MOST_PARTIALS_A_PEER = 4

Key = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """A STATUS frame to publish to `peer`."""

    peer: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Completed:
    """An object arrived and has its digest. It is not acknowledged before `Receiver.conclude` is called for it."""

    peer: str
    transfer_id: bytes
    content: bytes


Outcome = Reply | Completed


@dataclass(slots=True)
class _Assembly:
    partial: Partial
    touched: float | None = None
    unreported: int = 0
    unreported_since: float = 0.0


class Receiver:
    """Assembles objects of at most `largest_object_bytes`, with at most `quota_bytes` announced at a time.

    A single peer gets half of that, or one largest object, so that it cannot shut out the others: beyond it, or beyond
    four objects, its own oldest make way.

    `now` is monotonic seconds. An object is yielded as `Completed` once, and again only after its conclusion was
    not final, was forgotten (256 a peer are kept), or never came within `keep_seconds`. What `spool` kept from an
    earlier process goes on where it stopped.
    """

    def __init__(
        self, largest_object_bytes: int, quota_bytes: int, spool: Spool, keep_seconds: float = KEEP_SECONDS
    ) -> None:
        self._largest_object_bytes = largest_object_bytes
        self._quota_bytes = quota_bytes
        self._spool = spool
        self._keep_seconds = keep_seconds
        self._assemblies = {(peer, p.offer.transfer_id): _Assembly(p) for peer, p in spool.recover()}
        self._awaiting: dict[Key, float] = {}
        self._conclusions: dict[str, OrderedDict[bytes, Reply]] = {}

    def on_frame(self, peer: str, frame: Frame, now: float) -> list[Outcome]:
        """Take a WHOLE, OPEN or CHUNK frame; raises `FrameError` when it is malformed or of another kind."""
        match frame.kind:
            case FrameKind.WHOLE:
                return self._on_whole(peer, frame.body, now)
            case FrameKind.OPEN:
                return self._on_open(peer, Open.unpack(frame.body), now)
            case FrameKind.CHUNK:
                return self._on_chunk(peer, Chunk.unpack(frame.body), now)
            case _:
                raise FrameError(f"transfer of {peer}: a {frame.kind.name} frame carries no object")

    def conclude(self, peer: str, transfer_id: bytes, ruling: Ruling, retry_seconds: int = 0) -> Reply:
        """The status for a completed object; a final ruling is remembered and repeated whenever the peer asks again.

        After RETRY_AFTER the peer offers again, and an object that was kept is complete at once.
        """
        key = (peer, transfer_id)
        self._awaiting.pop(key, None)
        if ruling.verdict is not Verdict.RETRY_AFTER:
            self._drop(key)
        status = Status(transfer_id, ruling.verdict, retry_seconds=retry_seconds, reason=ruling.reason)
        reply = Reply(peer, status.pack())
        if ruling.verdict.is_final:
            conclusions = self._conclusions.setdefault(peer, OrderedDict())
            conclusions[transfer_id] = reply
            if len(conclusions) > MOST_CONCLUSIONS_A_PEER:
                conclusions.popitem(last=False)
        return reply

    def on_tick(self, now: float) -> list[Reply]:
        """Statuses for chunks that arrived a second ago and were not reported since."""
        return [
            self._report(peer, assembly)
            for (peer, _), assembly in self._assemblies.items()
            if assembly.unreported and now - assembly.unreported_since >= STATUS_EVERY_SECONDS
        ]

    def next_wake(self) -> float | None:
        """When `on_tick` has something to say, if nothing arrives before."""
        waiting = [a.unreported_since for a in self._assemblies.values() if a.unreported]
        return min(waiting) + STATUS_EVERY_SECONDS if waiting else None

    def expire(self, now: float) -> None:
        """Drop partial objects, and completed ones never concluded, of which nothing was heard for `keep_seconds`."""
        for key in [key for key, since in self._awaiting.items() if now - since >= self._keep_seconds]:
            del self._awaiting[key]
        for key, assembly in list(self._assemblies.items()):
            if assembly.touched is None:
                assembly.touched = now
            elif now - assembly.touched >= self._keep_seconds:
                self._drop(key)

    def _on_whole(self, peer: str, content: bytes, now: float) -> list[Outcome]:
        key = (peer, id_of(content))
        if key in self._awaiting:
            return []
        if reply := self._concluded(key):
            return [reply]
        if len(content) > self._largest_object_bytes:
            return [self._too_large(key, len(content))]
        return [self._complete(key, content, now)]

    def _on_open(self, peer: str, offer: Open, now: float) -> list[Outcome]:
        key = (peer, offer.transfer_id)
        if key in self._awaiting:
            return []
        if reply := self._concluded(key):
            return [reply]
        if offer.size > self._largest_object_bytes:
            return [self._too_large(key, offer.size)]
        assembly = self._assemblies.get(key)
        if assembly is None or assembly.partial.offer != offer:
            self._drop(key)
            assembly = self._begin(peer, offer)
            if assembly is None:
                return [self._no_room(key)]
        assembly.touched = now
        if len(assembly.partial.held) == offer.num_chunks:
            return [self._finish(key, assembly, now)]
        return [self._report(peer, assembly)]

    def _on_chunk(self, peer: str, chunk: Chunk, now: float) -> list[Outcome]:
        key = (peer, chunk.transfer_id)
        assembly = self._assemblies.get(key)
        if assembly is None or chunk.index in assembly.partial.held:
            return []
        offer = assembly.partial.offer
        if chunk.index >= offer.num_chunks or len(chunk.content) != offer.length_of(chunk.index):
            raise FrameError(f"transfer of {peer}: chunk {chunk.index} of {len(chunk.content)} bytes was not offered")
        try:
            assembly.partial.write(chunk.index, chunk.content)
        except OSError:
            self._drop(key)
            return [self._no_room(key)]
        assembly.touched = now
        if len(assembly.partial.held) == offer.num_chunks:
            return [self._finish(key, assembly, now)]
        if not assembly.unreported:
            assembly.unreported_since = now
        assembly.unreported += 1
        return [self._report(peer, assembly)] if assembly.unreported >= STATUS_EVERY_CHUNKS else []

    def _begin(self, peer: str, offer: Open) -> _Assembly | None:
        self._make_way(peer, offer.size)
        kept_bytes = sum(assembly.partial.offer.size for assembly in self._assemblies.values())
        if kept_bytes + offer.size > self._quota_bytes:
            return None
        try:
            assembly = _Assembly(self._spool.begin(peer, offer))
        except OSError:
            return None
        self._assemblies[peer, offer.transfer_id] = assembly
        return assembly

    def _make_way(self, peer: str, wanted_bytes: int) -> None:
        of_peer = [key for key in self._assemblies if key[0] == peer and key not in self._awaiting]
        room_bytes = max(self._largest_object_bytes, self._quota_bytes // 2) - wanted_bytes
        while of_peer and (
            len(of_peer) >= MOST_PARTIALS_A_PEER
            or sum(self._assemblies[key].partial.offer.size for key in of_peer) > room_bytes
        ):
            self._drop(of_peer.pop(0))

    def _finish(self, key: Key, assembly: _Assembly, now: float) -> Outcome:
        assembly.unreported = 0
        try:
            content = assembly.partial.content()
        except OSError:
            self._drop(key)
            return self._no_room(key)
        if hashlib.sha256(content).digest() == assembly.partial.offer.digest:
            return self._complete(key, content, now)
        self._drop(key)
        return Reply(key[0], Status(key[1], Verdict.BAD_DIGEST, reason="the assembled bytes differ").pack())

    def _complete(self, key: Key, content: bytes, now: float) -> Completed:
        self._awaiting[key] = now
        return Completed(*key, content)

    def _concluded(self, key: Key) -> Reply | None:
        conclusions = self._conclusions.get(key[0])
        return conclusions.get(key[1]) if conclusions else None

    def _report(self, peer: str, assembly: _Assembly) -> Reply:
        assembly.unreported = 0
        partial = assembly.partial
        held = frozenset(partial.held)
        return Reply(peer, Status(partial.offer.transfer_id, Verdict.PENDING, CREDIT_CHUNKS, held=held).pack())

    def _too_large(self, key: Key, size_bytes: int) -> Reply:
        reason = f"{size_bytes} bytes, at most {self._largest_object_bytes}"
        return self.conclude(*key, Ruling(Verdict.TOO_LARGE, reason))

    def _no_room(self, key: Key) -> Reply:
        status = Status(key[1], Verdict.RETRY_AFTER, retry_seconds=NO_ROOM_RETRY_SECONDS, reason="no room now")
        return Reply(key[0], status.pack())

    def _drop(self, key: Key) -> None:
        assembly = self._assemblies.pop(key, None)
        if assembly is not None:
            assembly.partial.drop()
