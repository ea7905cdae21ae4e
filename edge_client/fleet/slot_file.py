"""What all emulated devices keep between rounds, in one file: a slot each, read and written in place.

Positioned reads and writes instead of a memory map: the file's pages then never count as the memory of a process, and
ten thousand residuals cost the disk cache alone. The file is sparse, so what is never written takes no room.

    slot   header, 256 bytes | update object | plan | history | residual | history after; each part has fixed room
"""

import os
import struct
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Self

from edge_client.pending import PendingUpdate
from shared.errors import TrainerError
from shared.fleet_brief import FleetBrief, Sizes

HEADER_BYTES = 256
FIELDS = struct.Struct("<32s32s32sQIIIIIIBB")
NO_DIGEST = bytes(32)
PAGE_BYTES = 4096
SLOTS = "slots.bin"
RESIDUAL, AFTER = 3, 4
"""Numbers of a slot's parts behind the header, of which the first three are the update's."""

UNSETTLED, ACCEPTED, REFUSED = 0, 1, 2


class SlotHeader(NamedTuple):
    """What a slot says of itself: run, digests of the kept model and of the update's base (empty: none), lengths."""

    run: bytes = b""
    held: bytes = b""
    base: bytes = b""
    server_round: int = 0
    steps: int = 0
    object_bytes: int = 0
    plan_bytes: int = 0
    history_bytes: int = 0
    residual_bytes: int = 0
    after_bytes: int = 0
    verdict: int = UNSETTLED
    noised: int = 0

    def pack(self) -> bytes:
        """The header's bytes."""
        return FIELDS.pack(*self).ljust(HEADER_BYTES, b"\0")

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """The header in a slot's first bytes."""
        run, held, base, *numbers = FIELDS.unpack_from(data)
        return cls(run.rstrip(b"\0"), b"" if held == NO_DIGEST else held, b"" if base == NO_DIGEST else base, *numbers)


class SlotFile:
    """The file, open in this process; any process may open it again."""

    def __init__(self, path: Path, slots: int, sizes: Sizes) -> None:
        self.slots, self._rooms = slots, _rooms(sizes)
        *self._parts, capacity = accumulate(self._rooms, initial=HEADER_BYTES)
        self._slot_bytes = -(-capacity // PAGE_BYTES) * PAGE_BYTES
        self._last = bytes(HEADER_BYTES), SlotHeader()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._descriptor, slots * self._slot_bytes)

    def header(self, slot: int) -> SlotHeader:
        """A slot's header; that of a slot never written says nothing."""
        found = os.pread(self._descriptor, HEADER_BYTES, slot * self._slot_bytes)
        if found != self._last[0]:  # an order looks at one header many times
            self._last = found, SlotHeader.unpack(found)
        return self._last[1]

    def put_header(self, slot: int, header: SlotHeader) -> None:
        """Replace a slot's header."""
        self._last = header.pack(), header
        os.pwrite(self._descriptor, self._last[0], slot * self._slot_bytes)

    def commit(self, slot: int, update: PendingUpdate, residual: bytes | memoryview) -> None:
        """Replace the slot's update and raw float32 residual; it is unsettled from here on.

        Raises `TrainerError` where a part is larger than its room.
        """
        residual = memoryview(residual).cast("B")
        parts: tuple[bytes | memoryview, ...] = (update.object, update.plan, update.history, residual)
        for number, part in enumerate(parts):
            if len(part) > (room_bytes := self._rooms[number]):
                raise TrainerError(f"{len(part)} bytes to keep for an emulated device, there is room for {room_bytes}")
            os.pwrite(self._descriptor, part, self._start(slot, number))
        header = self.header(slot)._replace(
            run=update.run.encode(),
            base=bytes.fromhex(update.base),
            server_round=update.server_round,
            steps=update.steps,
            object_bytes=len(update.object),
            plan_bytes=len(update.plan),
            history_bytes=len(update.history),
            residual_bytes=len(residual),
            after_bytes=0,
            verdict=UNSETTLED,
            noised=int(update.noised),
        )
        self.put_header(slot, header)

    def update(self, slot: int) -> PendingUpdate | None:
        """The slot's last committed update, settled or not."""
        return self._update(slot, self.header(slot))

    def unsettled(self, slot: int) -> PendingUpdate | None:
        """The slot's last committed update, if no verdict on it was recorded."""
        header = self.header(slot)
        return self._update(slot, header) if header.verdict == UNSETTLED else None

    def _update(self, slot: int, header: SlotHeader) -> PendingUpdate | None:
        if not header.run or not header.base:
            return None
        lengths = (header.object_bytes, header.plan_bytes, header.history_bytes)
        sent, plan, history = (self._read(slot, number, length) for number, length in enumerate(lengths))
        return PendingUpdate(
            header.run.decode(),
            header.server_round,
            header.base.hex(),
            header.steps,
            sent,
            plan,
            history,
            bool(header.noised),
        )

    def residual(self, slot: int) -> bytes:
        """The raw float32 residual that goes with the slot's update."""
        return self._read(slot, RESIDUAL, self.header(slot).residual_bytes)

    def keep_history(self, slot: int, after: bytes) -> None:
        """Keep the sends as they are once the slot's update is accepted."""
        os.pwrite(self._descriptor, after, self._start(slot, AFTER))
        self.put_header(slot, self.header(slot)._replace(after_bytes=len(after)))

    def history(self, slot: int) -> bytes:
        """What `keep_history` kept since the last commit."""
        return self._read(slot, AFTER, self.header(slot).after_bytes)

    def clear(self, slot: int) -> None:
        """Forget what the slot holds."""
        self.put_header(slot, SlotHeader())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _start(self, slot: int, part: int) -> int:
        return slot * self._slot_bytes + self._parts[part]

    def _read(self, slot: int, part: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, self._start(slot, part)) if length else b""


def _rooms(sizes: Sizes) -> tuple[int, ...]:
    """The most bytes of each part of a slot."""
    return sizes.object_bytes, sizes.plan_bytes, sizes.history_bytes, sizes.residual_bytes, sizes.history_bytes


def slot_file(brief: FleetBrief) -> SlotFile:
    """The file of all devices' slots, made where it is missing."""
    brief.state.mkdir(parents=True, exist_ok=True)
    return SlotFile(brief.state / SLOTS, len(brief.slots), brief.sizes)
