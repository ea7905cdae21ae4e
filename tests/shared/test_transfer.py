import json
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from shared.errors import FrameError
from shared.frame import Frame, FrameKind, unpack_frame
from shared.receiver import CREDIT_CHUNKS, KEEP_SECONDS, Completed, Receiver
from shared.sender import CHUNK_OVERHEAD_BYTES, Sender
from shared.spool import FileSpool, MemorySpool
from shared.transfer import LONGEST_REASON_BYTES, MOST_CHUNKS, Chunk, Open, Status, id_of
from shared.verdicts import Ruling, Verdict

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "frames.json").read_text())
CONTENT = bytes(range(100))
ID = id_of(CONTENT)
PEER = "watch-03"

offers = st.builds(
    Open, size=st.integers(1, 1 << 16), chunk_bytes=st.integers(1, 1 << 20), digest=st.binary(min_size=32, max_size=32)
)
statuses = st.builds(
    Status,
    transfer_id=st.binary(min_size=8, max_size=8),
    verdict=st.sampled_from(Verdict),
    credit=st.integers(0, 255),
    retry_seconds=st.integers(0, 604_800),
    held=st.frozensets(st.integers(0, 2000), max_size=20),
    reason=st.text(max_size=50),
)


@given(offers)
def test_offer_comes_back(offer: Open) -> None:
    assert Open.unpack(unpack_frame(offer.pack()).body) == offer
    assert sum(offer.length_of(index) for index in range(offer.num_chunks)) == offer.size


@given(st.binary(min_size=8, max_size=8), st.integers(0, MOST_CHUNKS - 1), st.binary(max_size=50))
def test_chunk_comes_back(called: bytes, index: int, content: bytes) -> None:
    chunk = Chunk(called, index, content)
    assert Chunk.unpack(unpack_frame(chunk.pack()).body) == chunk


@given(statuses)
def test_status_comes_back(status: Status) -> None:
    assert Status.unpack(unpack_frame(status.pack()).body) == status


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("open", Open.of(CONTENT, 30).pack()),
        ("chunk", Chunk(ID, 3, CONTENT[90:]).pack()),
        ("status_pending", Status(ID, Verdict.PENDING, 8, held=frozenset({0, 3, 9})).pack()),
        ("status_done", Status(ID, Verdict.DONE).pack()),
        ("status_retry", Status(ID, Verdict.RETRY_AFTER, retry_seconds=300, reason="no room now").pack()),
    ],
)
def test_golden_transfer_frame_keeps_its_bytes(name: str, frame: bytes) -> None:
    assert frame.hex() == GOLDEN[name]


def test_verdict_fits_twenty_bytes() -> None:
    assert len(Status(ID, Verdict.DONE).pack()) <= 20


@given(st.binary(max_size=80))
def test_any_body_is_read_or_a_frame_error(body: bytes) -> None:
    for kind in (Open, Chunk, Status):
        try:
            read = kind.unpack(body)
        except FrameError:
            continue
        assert kind.unpack(unpack_frame(read.pack()).body) == read


@pytest.mark.parametrize("name", ["open", "status_pending", "status_retry"])
def test_truncated_head_of_a_body_is_a_frame_error(name: str) -> None:
    frame = unpack_frame(bytes.fromhex(GOLDEN[name]))
    fixed_bytes = len(frame.body) if name == "open" else 11
    for length in range(fixed_bytes):
        with pytest.raises(FrameError):
            (Open if name == "open" else Status).unpack(frame.body[:length])


@pytest.mark.parametrize(
    ("size", "chunk_bytes"), [(0, 10), (10, 0), (MOST_CHUNKS + 1, 1), ((1 << 31) + 1, 1 << 16), (1 << 31, 1 << 14)]
)
def test_offer_out_of_bounds_is_refused(size: int, chunk_bytes: int) -> None:
    with pytest.raises(FrameError, match="open: "):
        Open.unpack(unpack_frame(Open(size, chunk_bytes, bytes(32)).pack()).body)


def test_offer_whose_id_is_not_its_digest_is_refused() -> None:
    body = unpack_frame(Open.of(CONTENT, 30).pack()).body
    with pytest.raises(FrameError, match="digest"):
        Open.unpack(bytes(8) + body[8:])


def test_unknown_verdict_means_retry_later() -> None:
    body = bytearray(unpack_frame(Status(ID, Verdict.DONE).pack()).body)
    body[8] = 77
    assert Status.unpack(bytes(body)).verdict is Verdict.RETRY_AFTER


def test_long_reason_is_cut_between_characters() -> None:
    reason = Status.unpack(unpack_frame(Status(ID, Verdict.REFUSED, reason="x" + "é" * 150).pack()).body).reason
    assert reason == "x" + "é" * 99
    with pytest.raises(FrameError, match="reason"):
        Status.unpack(unpack_frame(Status(ID, Verdict.DONE).pack()).body + b"x" * (LONGEST_REASON_BYTES + 1))


class LossyLink(RuleBasedStateMachine):
    """One sender, one receiver with a file spool, and a channel that loses, doubles and reorders in both directions.

    The receiver's application rules on an object some time after it arrived, and keeps a journal across restarts.
    """

    @initialize(size=st.integers(0, 300), payload_bytes=st.integers(30, 60))
    def begin(self, size: int, payload_bytes: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.content = bytes(index * index % 251 for index in range(size))
        self.payload_bytes = payload_bytes
        self.num_chunks = -(-size // (payload_bytes - CHUNK_OVERHEAD_BYTES))
        self.now = 0.0
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.waiting: list[Completed] = []
        self.journal: list[bytes] = []
        self.chunks_sent = self.disturbances = self.receiver_lives = 0
        self.start_receiver()
        self.start_sender()

    @precondition(lambda self: self.up)
    @rule(place=st.integers(0, 30), again=st.booleans())
    def deliver_up(self, place: int, again: bool) -> None:
        place %= len(self.up)
        self.disturbances += again or place > 0
        self.receive(self.up[place] if again else self.up.pop(place))

    @precondition(lambda self: self.down)
    @rule(place=st.integers(0, 30), again=st.booleans())
    def deliver_down(self, place: int, again: bool) -> None:
        place %= len(self.down)
        self.disturbances += again or place > 0
        self.answer(self.down[place] if again else self.down.pop(place))

    @rule(frames=st.integers(1, 12))
    def deliver_in_order(self, frames: int) -> None:
        for _ in range(frames):
            if self.up:
                self.receive(self.up.pop(0))
            if self.down:
                self.answer(self.down.pop(0))

    @precondition(lambda self: self.up)
    @rule(place=st.integers(0, 30))
    def lose_up(self, place: int) -> None:
        self.disturbances += 1
        self.up.pop(place % len(self.up))

    @precondition(lambda self: self.down)
    @rule(place=st.integers(0, 30))
    def lose_down(self, place: int) -> None:
        self.disturbances += 1
        self.down.pop(place % len(self.down))

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 100.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.disturbances += 1
        self.now += seconds
        self.send(self.sender.on_tick(self.now))
        self.down += [reply.payload for reply in self.receiver.on_tick(self.now)]

    @rule(which=st.sampled_from(["sender", "receiver", "receiver without its spool"]))
    def restart(self, which: str) -> None:
        if which == "sender":
            self.start_sender()
            return
        if which == "receiver without its spool":
            for path in Path(self.directory.name).iterdir():
                path.unlink()
        self.start_receiver()

    def start_sender(self) -> None:
        self.disturbances += 1
        self.sender = Sender(self.content, self.payload_bytes, lambda: 0.5)
        self.send(self.sender.start(self.now))

    def start_receiver(self) -> None:
        self.receiver_lives += 1
        self.completions_allowed = 1
        self.waiting.clear()
        self.receiver = Receiver(1000, 5000, FileSpool(Path(self.directory.name)))

    @precondition(lambda self: self.waiting)
    @rule(postpone=st.booleans())
    def conclude(self, postpone: bool) -> None:
        completed = self.waiting.pop()
        self.completions_allowed += postpone
        if not postpone and completed.content not in self.journal:
            self.journal.append(completed.content)
        ruling = Ruling(Verdict.RETRY_AFTER if postpone else Verdict.DONE)
        self.down.append(self.receiver.conclude(PEER, completed.transfer_id, ruling, retry_seconds=5).payload)

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            try:
                self.check_waste()
                self.settle()
            finally:
                self.directory.cleanup()

    def check_waste(self) -> None:
        """A disturbance costs one window of chunks at most, a restart of the receiver one object."""
        assert self.chunks_sent <= self.num_chunks * self.receiver_lives + CREDIT_CHUNKS * self.disturbances

    def settle(self) -> None:
        """Everything under way is lost; from then on the link works, and silence alone must heal the transfer."""
        self.up.clear()
        self.down.clear()
        sent_before = self.chunks_sent
        for _ in range(8):
            self.let_time_pass(100.0)
            while self.up or self.down or self.waiting:
                self.deliver_in_order(1)
                if self.waiting:
                    self.conclude(postpone=False)
        assert self.sender.ruling == Ruling(Verdict.DONE)
        assert self.sender.next_wake() is None
        assert self.journal == [self.content]
        assert self.chunks_sent - sent_before <= self.num_chunks
        self.receiver.expire(self.now)  # an offer overtaken by its verdict may have begun a partial object again
        self.receiver.expire(self.now + KEEP_SECONDS)
        assert not list(Path(self.directory.name).iterdir())

    def send(self, frames: list[bytes]) -> None:
        kinds = [unpack_frame(frame).kind for frame in frames]
        assert kinds.count(FrameKind.CHUNK) <= CREDIT_CHUNKS
        self.chunks_sent += kinds.count(FrameKind.CHUNK)
        self.up += frames

    def receive(self, payload: bytes) -> None:
        for outcome in self.receiver.on_frame(PEER, unpack_frame(payload), self.now):
            if isinstance(outcome, Completed):
                assert outcome.content == self.content
                self.completions_allowed -= 1
                assert self.completions_allowed >= 0
                self.waiting.append(outcome)
            else:
                self.down.append(outcome.payload)

    def answer(self, payload: bytes) -> None:
        self.send(self.sender.on_status(Status.unpack(unpack_frame(payload).body), self.now))


TestLossyLink = LossyLink.TestCase
TestLossyLink.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


@given(st.binary(max_size=600), st.integers(25, 300))
def test_undisturbed_transfer_sends_every_byte_once(content: bytes, payload_bytes: int) -> None:
    receiver = Receiver(1000, 5000, MemorySpool())
    sender = Sender(content, payload_bytes, lambda: 0.0)
    up, sent, arrived = sender.start(0.0), list[Frame](), list[bytes]()
    while up:
        sent.append(unpack_frame(up.pop(0)))
        for outcome in receiver.on_frame(PEER, sent[-1], 0.0):
            if isinstance(outcome, Completed):
                arrived.append(outcome.content)
                outcome = receiver.conclude(PEER, outcome.transfer_id, Ruling(Verdict.DONE))
            up += sender.on_status(Status.unpack(unpack_frame(outcome.payload).body), 0.0)
    assert arrived == [content]
    assert sender.ruling == Ruling(Verdict.DONE)
    if sent != [Frame(FrameKind.WHOLE, content)]:
        assert [frame.kind for frame in sent].count(FrameKind.OPEN) == 1
        assert b"".join(Chunk.unpack(frame.body).content for frame in sent[1:]) == content
