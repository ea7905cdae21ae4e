"""For which page sizes the shared objects of a root are built: a Raspberry Pi 5 has pages of 16 KiB."""

import struct
from collections.abc import Iterator
from pathlib import Path

LARGEST_PAGE_BYTES = 1 << 14
LOAD = 1
AARCH64 = 183
MACHINE_OFFSET, TABLE_OFFSET, ENTRY_OFFSET = 18, 32, 54
ALIGNMENT_OFFSET = 48


def shared_objects(folder: Path) -> list[Path]:
    """Every shared object below `folder`."""
    return sorted(path for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink())


def machine(content: bytes) -> int:
    """The machine of a 64-bit little-endian ELF file, as its header numbers it; 0 where it is none."""
    if content[:6] != b"\x7fELF\x02\x01":
        return 0
    (number,) = struct.unpack_from("<H", content, MACHINE_OFFSET)
    return int(number)


def page_bytes(content: bytes) -> int:
    """The largest page with which a 64-bit little-endian ELF file can be loaded."""
    return min(_alignments(content))


def _alignments(content: bytes) -> Iterator[int]:
    (table,) = struct.unpack_from("<Q", content, TABLE_OFFSET)
    entry_bytes, entries = struct.unpack_from("<HH", content, ENTRY_OFFSET)
    for start in range(table, table + entries * entry_bytes, entry_bytes):
        (kind,) = struct.unpack_from("<I", content, start)
        if kind == LOAD:
            (alignment,) = struct.unpack_from("<Q", content, start + ALIGNMENT_OFFSET)
            yield alignment
