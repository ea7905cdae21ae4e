"""What admission has decoded already, kept until the round's sum: no frame is decoded twice, unless memory is short."""

from shared.compression.codec import SparseUpdate

MOST_BYTES = 64 << 20


class DecodedUpdates:
    """The decoded updates of the open round by device, of `most_bytes` in all; further ones are decoded again.

    A frame counts as known only where it is the very one that was decoded, under the round's own plan and histories:
    `clear` has to be called before either changes.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._room_bytes = self._most_bytes = most_bytes
        self._kept: dict[str, tuple[bytes, SparseUpdate]] = {}

    def keep(self, device: str, frame: bytes, update: SparseUpdate) -> None:
        """Keep what a device's frame delivers, while there is room."""
        size_bytes = len(frame) + update.indices.nbytes + update.values.nbytes
        if device not in self._kept and size_bytes <= self._room_bytes:
            self._kept[device] = frame, update
            self._room_bytes -= size_bytes

    def of(self, device: str, frame: bytes) -> SparseUpdate | None:
        """What a device's frame delivers, where this very frame is known."""
        known, update = self._kept.get(device, (b"", None))
        return update if known == frame else None

    def clear(self) -> None:
        """Forget all: another round begins."""
        self._kept, self._room_bytes = {}, self._most_bytes
