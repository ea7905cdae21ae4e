"""The device's unsettled updates, each offered until the coordinator gave its final verdict."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from edge_client.pending import PendingUpdate
from shared.errors import FrameError
from shared.frame import FrameKind, unpack_frame
from shared.sender import Sender
from shared.transfer import Status
from shared.verdicts import Ruling, Verdict


@dataclass(frozen=True, slots=True)
class Verdicted:
    """The final word on an update."""

    run: str
    server_round: int
    object_bytes: int
    ruling: Ruling


@dataclass
class _Upload:
    update: PendingUpdate
    sender: Sender | None = None


class Uploads:
    """At most one unsettled update a run. Methods return the frames to publish now; none while the link is down."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._uploads: dict[str, _Upload] = {}
        self._largest_payload_bytes: int | None = None

    def round_of(self, run: str) -> int | None:
        """The round of the run's unsettled update."""
        upload = self._uploads.get(run)
        return upload.update.server_round if upload else None

    def __bool__(self) -> bool:
        return bool(self._uploads)

    def link_up(self, largest_payload_bytes: int, now: float) -> list[bytes]:
        """Offer everything anew over a new link."""
        self._largest_payload_bytes = largest_payload_bytes
        return [frame for upload in self._uploads.values() for frame in self._start(upload, now)]

    def link_down(self) -> None:
        """Keep quiet until the next link."""
        self._largest_payload_bytes = None
        for upload in self._uploads.values():
            upload.sender = None

    def offer(self, update: PendingUpdate, now: float) -> list[bytes]:
        """Take over an update, in place of an older one of its run."""
        upload = self._uploads[update.run] = _Upload(update)
        return self._start(upload, now)

    def reopen(self, now: float) -> list[bytes]:
        """Offer everything anew over the link there is: the other end may have forgotten what it had."""
        senders = [upload.sender for upload in self._uploads.values() if upload.sender]
        return [frame for sender in senders for frame in sender.reopen(now)]

    def receive(self, payload: bytes, now: float) -> tuple[list[bytes], list[Verdicted]]:
        """Act on a status; raises `FrameError` for anything else.

        An update that is ruled on stays here, and is not sent, until `drop` or `ask_later`.
        """
        frame = unpack_frame(payload)
        if frame.kind is not FrameKind.STATUS:
            raise FrameError(f"download: a {frame.kind.name} frame where only a STATUS is expected")
        status = Status.unpack(frame.body)
        frames: list[bytes] = []
        verdicts: list[Verdicted] = []
        for run, upload in self._uploads.items():
            if upload.sender is None or upload.sender.ruling is not None:
                continue
            frames += upload.sender.on_status(status, now)
            if upload.sender.ruling is not None:
                update = upload.update
                verdicts.append(Verdicted(run, update.server_round, len(update.object), upload.sender.ruling))
        return frames, verdicts

    def drop(self, run: str) -> None:
        """Forget the update of a run: it is settled, or the run ended."""
        self._uploads.pop(run, None)

    def ask_later(self, run: str, now: float) -> None:
        """Forget only the verdict on a run's update: it is asked for after a minute, or over a new link."""
        upload = self._uploads[run]
        if upload.sender is not None and self._largest_payload_bytes is not None:
            upload.sender = Sender(upload.update.object, self._largest_payload_bytes, self._jitter)
            upload.sender.on_status(Status(upload.sender.transfer_id, Verdict.RETRY_AFTER), now)

    def tick(self, now: float) -> list[bytes]:
        """Repeat what was met with silence."""
        senders = [upload.sender for upload in self._uploads.values() if upload.sender]
        return [frame for sender in senders for frame in sender.on_tick(now)]

    def next_wake(self) -> float:
        """When `tick` has something to do; infinity for never."""
        if not self._uploads:
            return math.inf
        wakes = [upload.sender.next_wake() for upload in self._uploads.values() if upload.sender]
        return min((wake for wake in wakes if wake is not None), default=math.inf)

    def _start(self, upload: _Upload, now: float) -> list[bytes]:
        if self._largest_payload_bytes is None:
            return []
        upload.sender = Sender(upload.update.object, self._largest_payload_bytes, self._jitter)
        return upload.sender.start(now)
