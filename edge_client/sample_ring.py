"""A file of fixed size with the newest samples of a sensor: the agent writes, the trainer reads, neither waits.

Header: "gsr1", channels u32, capacity u32, samples written so far u64. Then `capacity` slots, each

    number u64 | recording u32 | label i32 | float32 for each channel | CRC-32 of all before

little-endian. Sample n, counted from 0, lies in slot n modulo capacity. A reader takes a slot only if number and
checksum fit, so that what is being written, or was half written when the power went, counts as not there. Nothing here
needs numpy.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from shared.errors import DataError

RING_FILE = "samples.ring"
"""The ring's name in the data folder."""
MAGIC = b"gsr1"
HEADER = struct.Struct("<4sIIQ")
LARGEST_CHANNELS = 4096
LARGEST_CAPACITY = 10_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sensor said at one time, what was going on, and which stretch without a gap it belongs to."""

    number: int
    recording: int
    label: int
    values: tuple[float, ...]


class SampleRing:
    """The writer's end of a ring; one that was begun with other channels or another capacity is begun anew."""

    def __init__(self, file: BinaryIO, channels: int, capacity: int, written: int, recording: int) -> None:
        self._file, self._channels, self._capacity = file, channels, capacity
        self._slot = _slot(channels)
        self.written, self.recording = written, recording

    @classmethod
    def open(cls, path: Path, channels: int, capacity: int) -> Self:
        """Go on in the file, in a new recording, for the agent may have been away; raises `OSError`."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        file = os.fdopen(descriptor, "r+b", buffering=0)
        found = _read_header(file)
        size_bytes = HEADER.size + capacity * (_slot(channels).size + 4)
        if found is None or found[:2] != (channels, capacity) or path.stat().st_size != size_bytes:
            file.truncate(0)
            file.truncate(size_bytes)
            ring = cls(file, channels, capacity, 0, 0)
            ring._write_header()
            return ring
        written = found[2]
        last = _read_slot(file, channels, capacity, written - 1) if written else None
        return cls(file, channels, capacity, written, last.recording + 1 if last else written)

    def append(self, samples: Sequence[Sequence[float]], label: int) -> None:
        """Add samples of one recording, each with a value a channel, over the oldest; raises `OSError`."""
        for values in samples:
            body = self._slot.pack(self.written, self.recording & 0xFFFFFFFF, label, *values)
            place = HEADER.size + (self.written % self._capacity) * (self._slot.size + 4)
            os.pwrite(self._file.fileno(), body + struct.pack("<I", zlib.crc32(body)), place)
            self.written += 1
        self._write_header()

    def begin_recording(self) -> None:
        """There is a gap between what was added and what comes."""
        self.recording += 1

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write_header(self) -> None:
        os.pwrite(self._file.fileno(), HEADER.pack(MAGIC, self._channels, self._capacity, self.written), 0)


def read_samples(path: Path, channels: int) -> Iterator[Sample]:
    """The samples in a ring, oldest first; raises `DataError` where there is no ring of so many channels."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): has the sensor sent anything yet?") from error
    with file:
        header = _read_header(file)
        if header is None or header[0] != channels or not 1 <= header[1] <= LARGEST_CAPACITY:
            raise DataError(f"{path}: no ring of samples with {channels} values: check data_source.columns")
        _, capacity, written = header
        for number in range(max(0, written - capacity), written):
            sample = _read_slot(file, channels, capacity, number)
            if sample is not None:
                yield sample


def written_so_far(path: Path) -> int:
    """How many samples were ever written to a ring; 0 where there is none."""
    try:
        with path.open("rb") as file:
            header = _read_header(file)
    except OSError:
        return 0
    return header[2] if header else 0


def _slot(channels: int) -> struct.Struct:
    return struct.Struct(f"<QIi{channels}f")


def _read_header(file: BinaryIO) -> tuple[int, int, int] | None:
    file.seek(0)
    header = file.read(HEADER.size)
    if len(header) != HEADER.size:
        return None
    magic, channels, capacity, written = HEADER.unpack(header)
    if magic != MAGIC or not 1 <= channels <= LARGEST_CHANNELS or not capacity:
        return None
    return channels, capacity, written


def _read_slot(file: BinaryIO, channels: int, capacity: int, number: int) -> Sample | None:
    slot = _slot(channels)
    file.seek(HEADER.size + (number % capacity) * (slot.size + 4))
    content = file.read(slot.size + 4)
    body, checksum = content[: slot.size], content[slot.size :]
    if len(content) != slot.size + 4 or struct.unpack("<I", checksum)[0] != zlib.crc32(body):
        return None
    found, recording, label, *values = slot.unpack(body)
    return Sample(found, recording, label, tuple(values)) if found == number else None
