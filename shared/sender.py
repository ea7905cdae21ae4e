"""The sending half of a transfer: a state machine that turns statuses and time into frames to publish."""

from collections.abc import Callable

from shared.frame import MOST_OVERHEAD_BYTES, FrameKind, pack_frame
from shared.transfer import ID_BYTES, Chunk, Open, Status, id_of
from shared.verdicts import Ruling, Verdict

SILENCE_SECONDS = 3.0
LONGEST_SILENCE_SECONDS = 60.0
SLOW_LINK_BYTES_PER_SECOND = 8192
CHUNK_OVERHEAD_BYTES = MOST_OVERHEAD_BYTES + ID_BYTES + 4


class Sender:
    """Sends `content` until the receiver has ruled on it: whole if it fits a payload, else in chunks within credit.

    Every method takes monotonic seconds and returns the frames to publish now, in order. `jitter` gives fractions
    in [0, 1) that spread the waits. `ruling` is None until a final verdict came. Statuses of other transfers are
    ignored, so one may be passed to every sender of a link.
    """

    def __init__(self, content: bytes, largest_payload_bytes: int, jitter: Callable[[], float]) -> None:
        if largest_payload_bytes <= CHUNK_OVERHEAD_BYTES:
            raise ValueError(f"a payload of {largest_payload_bytes} bytes holds no chunk")
        self.transfer_id = id_of(content)
        self.ruling: Ruling | None = None
        self._content = content
        self._jitter = jitter
        self._wake: float | None = None
        self._repeats = 0
        self._restarts = 0
        self._held: frozenset[int] | None = None
        self._under_way: set[int] = set()
        self._before_offer: set[int] = set()
        self._asked = False
        self._plan: Open | None = None
        if len(content) + MOST_OVERHEAD_BYTES > largest_payload_bytes:
            self._plan = Open.of(content, largest_payload_bytes - CHUNK_OVERHEAD_BYTES)

    def start(self, now: float) -> list[bytes]:
        """Offer the object."""
        return self.reopen(now)

    def reopen(self, now: float) -> list[bytes]:
        """Offer the object anew, because the link is new and whatever was under way is lost."""
        if self.ruling is not None:
            return []
        self._held = None
        self._under_way.clear()
        self._repeats = 0
        return self._offer(now)

    def on_status(self, status: Status, now: float) -> list[bytes]:
        """Send what the receiver still lacks, wait, begin again, or end with `ruling`."""
        if status.transfer_id != self.transfer_id or self.ruling is not None:
            return []
        if status.verdict.is_final:
            self.ruling = Ruling(status.verdict, status.reason)
            self._wake = None
            return []
        if status.verdict is Verdict.PENDING:
            return self._advance(status, now)
        self._held = None
        self._under_way.clear()
        self._repeats = 0
        self._wait(now, self._pause_seconds(status))
        return []

    def on_tick(self, now: float) -> list[bytes]:
        """Repeat the offer when the receiver has been silent for too long, or its wait is over."""
        if self._wake is None or now < self._wake:
            return []
        self._repeats += 1
        return self._offer(now)

    def next_wake(self) -> float | None:
        """When `on_tick` has something to do; None once ruled on, or before the start."""
        return self._wake

    def _offer(self, now: float) -> list[bytes]:
        self._before_offer = set(self._under_way)
        self._asked = True
        frame = self._plan.pack() if self._plan else pack_frame(FrameKind.WHOLE, self._content)
        self._wait(now, _backed_off_seconds(self._repeats) + len(frame) / SLOW_LINK_BYTES_PER_SECOND)
        return [frame]

    def _advance(self, status: Status, now: float) -> list[bytes]:
        if self._plan is None or not self._learn(status.held):
            return []
        self._wait(now, _backed_off_seconds(self._repeats))
        self._under_way -= self._held or frozenset()
        return self._next_chunks(self._plan, status.credit)

    def _learn(self, held: frozenset[int]) -> bool:
        """Take in what the receiver holds; False when that is an old story."""
        if self._held is None:
            self._asked = False
            self._held = held
            self._repeats = 0
        elif not held <= self._held:
            self._held |= held
            self._repeats = 0
        elif self._asked:
            # Frames keep their order, so a status without news answers the repeated offer: what it does not name of
            # the chunks sent before that offer is lost, and so is what a restarted receiver no longer has.
            self._asked = False
            self._held = held
            self._under_way -= self._before_offer
        else:
            return False
        return True

    def _next_chunks(self, plan: Open, credit: int) -> list[bytes]:
        skip = self._under_way | (self._held or frozenset())
        frames: list[bytes] = []
        for index in range(plan.num_chunks):
            if len(self._under_way) >= credit:
                break
            if index not in skip:
                self._under_way.add(index)
                start = index * plan.chunk_bytes
                frames.append(Chunk(self.transfer_id, index, self._content[start : start + plan.chunk_bytes]).pack())
        return frames

    def _pause_seconds(self, status: Status) -> float:
        if status.verdict is Verdict.BAD_DIGEST:
            self._restarts += 1
            return _backed_off_seconds(self._restarts - 1)
        return float(status.retry_seconds or LONGEST_SILENCE_SECONDS)

    def _wait(self, now: float, seconds: float) -> None:
        self._wake = now + seconds * (1 + self._jitter() / 2)


def _backed_off_seconds(failures: int) -> float:
    return min(LONGEST_SILENCE_SECONDS, SILENCE_SECONDS * 2.0 ** min(failures, 10))
