import hashlib

import pytest

from shared.errors import FrameError
from shared.frame import Frame, FrameKind, unpack_frame
from shared.receiver import MOST_CONCLUSIONS_A_PEER, MOST_PARTIALS_A_PEER, Completed, Outcome, Receiver, Reply
from shared.spool import MemoryPartial, MemorySpool, Spool
from shared.transfer import Chunk, Open, Status, id_of
from shared.verdicts import Ruling, Verdict

CONTENT = bytes(range(200))
ID = id_of(CONTENT)
OFFER = Open.of(CONTENT, 10)
PEER = "watch-03"


def receiver(largest: int = 1000, quota: int = 5000, spool: Spool | None = None) -> Receiver:
    return Receiver(largest, quota, spool or MemorySpool(), keep_seconds=60.0)


def chunk(index: int, content: bytes = CONTENT) -> Frame:
    return unpack_frame(Chunk(id_of(content), index, content[10 * index : 10 * index + 10]).pack())


def offer(content: bytes = CONTENT, chunk_bytes: int = 10) -> Frame:
    return unpack_frame(Open.of(content, chunk_bytes).pack())


def whole(content: bytes) -> Frame:
    return Frame(FrameKind.WHOLE, content)


def status(outcomes: list[Outcome] | list[Reply]) -> Status:
    (reply,) = outcomes
    assert isinstance(reply, Reply)
    return Status.unpack(unpack_frame(reply.payload).body)


def send_all(ours: Receiver, content: bytes = CONTENT, peer: str = PEER) -> list[Outcome]:
    ours.on_frame(peer, offer(content), 0.0)
    return [out for index in range(-(-len(content) // 10)) for out in ours.on_frame(peer, chunk(index, content), 0.0)]


class FullDisk(MemorySpool):
    def __init__(self, room: int) -> None:
        self.room = room

    def begin(self, peer: str, offer: Open) -> MemoryPartial:
        if not self.room:
            raise OSError("no space left")
        return FullPartial(offer)


class FullPartial(MemoryPartial):
    def write(self, index: int, content: bytes) -> None:
        raise OSError("no space left")


def test_whole_object_completes_at_once_and_only_once() -> None:
    ours = receiver()
    assert ours.on_frame(PEER, whole(b"x"), 0.0) == [Completed(PEER, id_of(b"x"), b"x")]
    assert ours.on_frame(PEER, whole(b"x"), 1.0) == []
    final = ours.conclude(PEER, id_of(b"x"), Ruling(Verdict.DONE))
    assert ours.on_frame(PEER, whole(b"x"), 2.0) == [final]


def test_same_object_of_two_peers_completes_for_each() -> None:
    ours = receiver()
    assert len(ours.on_frame("a", whole(b"x"), 0.0) + ours.on_frame("b", whole(b"x"), 0.0)) == 2
    ours.conclude("a", id_of(b"x"), Ruling(Verdict.DONE))
    assert ours.on_frame("b", whole(b"x"), 1.0) == []


def test_offer_is_answered_with_credit() -> None:
    assert status(receiver().on_frame(PEER, offer(), 0.0)) == Status(ID, Verdict.PENDING, 8)


def test_status_comes_every_fourth_chunk() -> None:
    ours = receiver()
    ours.on_frame(PEER, offer(), 0.0)
    assert [ours.on_frame(PEER, chunk(index), 0.0) for index in (5, 1, 2)] == [[], [], []]
    assert status(ours.on_frame(PEER, chunk(9), 0.0)).held == {1, 2, 5, 9}


def test_status_comes_a_second_after_an_unreported_chunk() -> None:
    ours = receiver()
    ours.on_frame(PEER, offer(), 0.0)
    assert ours.next_wake() is None
    ours.on_frame(PEER, chunk(5), 10.0)
    assert ours.next_wake() == 11.0
    assert ours.on_tick(10.9) == []
    assert status(ours.on_tick(11.0)).held == {5}
    assert ours.on_tick(20.0) == []
    assert ours.next_wake() is None


def test_doubled_chunk_changes_nothing() -> None:
    ours = receiver()
    ours.on_frame(PEER, offer(), 0.0)
    for _ in range(20):
        assert ours.on_frame(PEER, chunk(5), 0.0) == []


def test_last_chunk_completes() -> None:
    assert send_all(receiver())[-1] == Completed(PEER, ID, CONTENT)


def test_completed_object_is_silent_until_concluded_then_always_answered() -> None:
    ours = receiver()
    send_all(ours)
    assert ours.on_frame(PEER, offer(), 1.0) == ours.on_frame(PEER, chunk(3), 1.0) == []
    final = ours.conclude(PEER, ID, Ruling(Verdict.REFUSED, "too old"))
    assert ours.on_frame(PEER, offer(), 2.0) == [final]
    assert ours.on_frame(PEER, chunk(3), 2.0) == []
    assert status([final]) == Status(ID, Verdict.REFUSED, reason="too old")


def test_object_to_retry_is_kept_and_completes_again_without_its_chunks() -> None:
    ours = receiver()
    send_all(ours)
    assert status([ours.conclude(PEER, ID, Ruling(Verdict.RETRY_AFTER), 7)]).retry_seconds == 7
    assert ours.on_frame(PEER, offer(), 8.0) == [Completed(PEER, ID, CONTENT)]


def test_altered_content_is_a_bad_digest_and_starts_over() -> None:
    ours = receiver()
    ours.on_frame(PEER, offer(), 0.0)
    for index in range(19):
        ours.on_frame(PEER, chunk(index), 0.0)
    forged = unpack_frame(Chunk(ID, 19, bytes(10)).pack())
    assert status(ours.on_frame(PEER, forged, 0.0)).verdict is Verdict.BAD_DIGEST
    assert send_all(ours)[-1] == Completed(PEER, ID, CONTENT)


@pytest.mark.parametrize(("index", "content"), [(20, b"0123456789"), (0, b"short"), (19, b"0123456789x"), (0, b"")])
def test_chunk_that_was_not_offered_is_refused(index: int, content: bytes) -> None:
    ours = receiver()
    ours.on_frame(PEER, offer(), 0.0)
    with pytest.raises(FrameError, match="not offered"):
        ours.on_frame(PEER, unpack_frame(Chunk(ID, index, content).pack()), 0.0)


def test_chunk_of_an_unknown_transfer_is_ignored() -> None:
    assert receiver().on_frame(PEER, chunk(0), 0.0) == []


@pytest.mark.parametrize("kind", [FrameKind.STATUS, FrameKind.SEALED])
def test_frame_without_an_object_is_refused(kind: FrameKind) -> None:
    with pytest.raises(FrameError, match=kind.name):
        receiver().on_frame(PEER, Frame(kind, b""), 0.0)


def test_object_above_the_limit_is_refused_for_good() -> None:
    ours = receiver(largest=199)
    for frame in (offer(), offer(), whole(CONTENT)):
        assert status(ours.on_frame(PEER, frame, 0.0)).verdict is Verdict.TOO_LARGE
    assert receiver(largest=200).on_frame(PEER, whole(CONTENT), 0.0) == [Completed(PEER, ID, CONTENT)]


def test_offer_beyond_the_quota_waits_until_there_is_room() -> None:
    ours = receiver(quota=300)
    ours.on_frame("a", offer(), 0.0)
    assert status(ours.on_frame("b", offer(), 0.0)).verdict is Verdict.RETRY_AFTER
    send_all(ours, peer="a")
    ours.conclude("a", ID, Ruling(Verdict.DONE))
    assert status(ours.on_frame("b", offer(), 30.0)).verdict is Verdict.PENDING


def test_one_peer_never_holds_more_than_its_share() -> None:
    ours = receiver()
    contents = [bytes([number]) * 30 for number in range(MOST_PARTIALS_A_PEER + 1)]
    for content in contents:
        ours.on_frame(PEER, offer(content), 0.0)
        ours.on_frame(PEER, chunk(0, content), 0.0)
    assert status(ours.on_frame(PEER, offer(contents[-1]), 0.0)).held == {0}
    assert status(ours.on_frame(PEER, offer(contents[1]), 0.0)).held == {0}
    assert status(ours.on_frame(PEER, offer(contents[0]), 0.0)).held == set()


def test_offer_in_other_chunks_starts_over() -> None:
    ours = receiver()
    ours.on_frame(PEER, offer(), 0.0)
    ours.on_frame(PEER, chunk(0), 0.0)
    assert status(ours.on_frame(PEER, offer(chunk_bytes=20), 0.0)).held == set()


@pytest.mark.parametrize("room", [0, 1])
def test_full_disk_asks_to_retry_later(room: int) -> None:
    ours = receiver(spool=FullDisk(room))
    first = ours.on_frame(PEER, offer(), 0.0)
    if room:
        first = ours.on_frame(PEER, chunk(0), 0.0)
    assert status(first).verdict is Verdict.RETRY_AFTER


def test_partial_object_expires_when_nothing_more_comes() -> None:
    ours = receiver()
    ours.on_frame(PEER, offer(), 0.0)
    ours.on_frame(PEER, chunk(0), 30.0)
    ours.expire(89.0)
    assert status(ours.on_frame(PEER, offer(), 89.0)).held == {0}
    ours.expire(149.0)
    assert status(ours.on_frame(PEER, offer(), 149.0)).held == set()


def test_object_never_concluded_completes_again_after_a_while() -> None:
    ours = receiver()
    ours.on_frame(PEER, whole(b"x"), 0.0)
    ours.expire(59.0)
    assert ours.on_frame(PEER, whole(b"x"), 59.0) == []
    ours.expire(60.0)
    assert ours.on_frame(PEER, whole(b"x"), 60.0) == [Completed(PEER, id_of(b"x"), b"x")]


def test_oldest_conclusions_are_forgotten() -> None:
    ours = receiver()
    contents = [hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(MOST_CONCLUSIONS_A_PEER + 1)]
    for content in contents:
        ours.on_frame(PEER, whole(content), 0.0)
        ours.conclude(PEER, id_of(content), Ruling(Verdict.DONE))
    assert isinstance(ours.on_frame(PEER, whole(contents[1]), 0.0)[0], Reply)
    assert isinstance(ours.on_frame(PEER, whole(contents[0]), 0.0)[0], Completed)
