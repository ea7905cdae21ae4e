import pytest

from shared.frame import Frame, FrameKind, unpack_frame
from shared.sender import CHUNK_OVERHEAD_BYTES, Sender
from shared.transfer import Chunk, Open, Status, id_of
from shared.verdicts import Ruling, Verdict

CONTENT = bytes(range(200))
PAYLOAD_BYTES = CHUNK_OVERHEAD_BYTES + 10


def small_sender() -> Sender:
    return Sender(b"small", 100, lambda: 0.0)


def chunked_sender() -> Sender:
    sender = Sender(CONTENT, PAYLOAD_BYTES, lambda: 0.0)
    sender.start(0.0)
    return sender


def pending(held: set[int], credit: int = 8) -> Status:
    return Status(id_of(CONTENT), Verdict.PENDING, credit, held=frozenset(held))


def indexes(frames: list[bytes]) -> list[int]:
    return [Chunk.unpack(unpack_frame(frame).body).index for frame in frames]


def kinds(frames: list[bytes]) -> list[FrameKind]:
    return [unpack_frame(frame).kind for frame in frames]


def wake_of(sender: Sender) -> float:
    wake = sender.next_wake()
    assert wake is not None
    return wake


def test_object_that_fits_travels_whole() -> None:
    assert [unpack_frame(frame) for frame in small_sender().start(0.0)] == [Frame(FrameKind.WHOLE, b"small")]


def test_larger_object_is_offered_first() -> None:
    (frame,) = Sender(CONTENT, PAYLOAD_BYTES, lambda: 0.0).start(0.0)
    assert Open.unpack(unpack_frame(frame).body) == Open.of(CONTENT, 10)


def test_payload_too_small_for_any_chunk_is_a_caller_error() -> None:
    with pytest.raises(ValueError, match="holds no chunk"):
        Sender(CONTENT, CHUNK_OVERHEAD_BYTES, lambda: 0.0)


def test_nothing_is_due_before_the_start() -> None:
    sender = small_sender()
    assert sender.next_wake() is None
    assert sender.on_tick(1e6) == []


def test_chunks_stay_within_credit() -> None:
    sender = chunked_sender()
    assert indexes(sender.on_status(pending(set()), 0.1)) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert indexes(sender.on_status(pending({0, 1, 2, 3}), 0.2)) == [8, 9, 10, 11]
    assert indexes(sender.on_status(pending({0, 1, 2, 3, 4, 5}, credit=3), 0.3)) == []


def test_resumed_transfer_sends_only_what_is_missing() -> None:
    sender = chunked_sender()
    assert indexes(sender.on_status(pending(set(range(20)) - {3, 19}), 0.1)) == [3, 19]


def test_silence_repeats_the_offer_less_and_less_often() -> None:
    sender = chunked_sender()
    waits, now = [], 0.0
    for _ in range(7):
        wake = wake_of(sender)
        waits.append(round(wake - now))
        assert sender.on_tick(wake - 0.001) == []
        now = wake
        assert kinds(sender.on_tick(now)) == [FrameKind.OPEN]
    assert waits == [3, 6, 12, 24, 48, 60, 60]


def test_jitter_stretches_the_wait_by_up_to_half() -> None:
    sender = Sender(b"small", 100, lambda: 1.0)
    sender.start(0.0)
    assert 4.5 <= wake_of(sender) < 4.6


def test_large_whole_object_gets_time_to_arrive() -> None:
    sender = Sender(bytes(60_000), 65_536, lambda: 0.0)
    sender.start(0.0)
    assert wake_of(sender) > 10


def test_lost_chunks_are_sent_again_after_the_repeated_offer_is_answered() -> None:
    sender = chunked_sender()
    sender.on_status(pending(set()), 0.1)
    assert indexes(sender.on_status(pending({0, 1, 2, 3}), 0.2)) == [8, 9, 10, 11]
    assert kinds(sender.on_tick(4.0)) == [FrameKind.OPEN]
    assert indexes(sender.on_status(pending({0, 1, 2, 3}), 4.1)) == [4, 5, 6, 7, 8, 9, 10, 11]


def test_slow_chunks_are_not_sent_again() -> None:
    sender = chunked_sender()
    sender.on_status(pending(set()), 0.1)
    assert kinds(sender.on_tick(4.0)) == [FrameKind.OPEN]
    assert indexes(sender.on_status(pending({0, 1, 2, 3}), 5.0)) == [8, 9, 10, 11]
    assert indexes(sender.on_status(pending({0, 1, 2, 3, 4, 5, 6, 7}), 6.0)) == [12, 13, 14, 15]


def test_repeated_status_changes_nothing() -> None:
    sender = chunked_sender()
    sender.on_status(pending({0, 1}), 0.1)
    wake = sender.next_wake()
    assert sender.on_status(pending({0, 1}), 0.2) == []
    assert sender.on_status(pending({0}), 0.3) == []
    assert sender.next_wake() == wake


def test_receiver_that_lost_everything_gets_everything() -> None:
    sender = chunked_sender()
    sender.on_status(pending(set(range(18))), 0.1)
    sender.on_tick(4.0)
    assert indexes(sender.on_status(pending(set()), 4.1)) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_new_link_offers_at_once_and_forgets_what_was_under_way() -> None:
    sender = chunked_sender()
    sender.on_status(pending(set()), 0.1)
    assert kinds(sender.reopen(0.5)) == [FrameKind.OPEN]
    assert indexes(sender.on_status(pending({0, 1}), 0.6)) == [2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict.is_final])
def test_final_verdict_ends_it(verdict: Verdict) -> None:
    sender = chunked_sender()
    assert sender.on_status(Status(id_of(CONTENT), verdict, reason="because"), 0.1) == []
    assert sender.ruling == Ruling(verdict, "because")
    assert sender.next_wake() is None
    assert sender.on_tick(1e6) == sender.reopen(1e6) == sender.on_status(pending(set()), 1e6) == []
    sender.on_status(Status(id_of(CONTENT), Verdict.REFUSED), 1e6)
    assert sender.ruling == Ruling(verdict, "because")


def test_retry_after_waits_as_long_as_told() -> None:
    sender = chunked_sender()
    sender.on_status(pending(set()), 0.1)
    assert sender.on_status(Status(id_of(CONTENT), Verdict.RETRY_AFTER, retry_seconds=300), 1.0) == []
    assert sender.ruling is None
    assert sender.on_tick(300.9) == []
    assert kinds(sender.on_tick(301.0)) == [FrameKind.OPEN]
    assert indexes(sender.on_status(pending({2}), 301.1)) == [0, 1, 3, 4, 5, 6, 7, 8]


def test_retry_without_a_time_waits_a_minute() -> None:
    sender = small_sender()
    sender.start(0.0)
    sender.on_status(Status(id_of(b"small"), Verdict.RETRY_AFTER), 1.0)
    assert sender.next_wake() == 61.0


def test_bad_digest_restarts_with_growing_pauses() -> None:
    sender = chunked_sender()
    now, pauses = 0.0, []
    for _ in range(3):
        assert sender.on_status(Status(id_of(CONTENT), Verdict.BAD_DIGEST), now) == []
        pauses.append(wake_of(sender) - now)
        now = wake_of(sender)
        assert kinds(sender.on_tick(now)) == [FrameKind.OPEN]
        assert indexes(sender.on_status(pending(set()), now)) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert pauses == [3.0, 6.0, 12.0]


def test_status_of_another_transfer_is_ignored() -> None:
    sender = chunked_sender()
    wake = sender.next_wake()
    assert sender.on_status(Status(bytes(8), Verdict.DONE), 1.0) == []
    assert sender.ruling is None
    assert sender.next_wake() == wake


def test_whole_object_ignores_pending() -> None:
    sender = small_sender()
    sender.start(0.0)
    assert sender.on_status(Status(id_of(b"small"), Verdict.PENDING, 8), 1.0) == []
    assert kinds(sender.on_tick(4.0)) == [FrameKind.WHOLE]
