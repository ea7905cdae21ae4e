import struct

from tests.aarch64.shared_objects import AARCH64, machine, page_bytes


def elf(number: int, *alignments: int) -> bytes:
    """The header of an ELF file for a machine, and a table of segments to load after one of another kind."""
    head = b"\x7fELF\x02\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, number, 1, 0, 64, 0, 0, 64, 56, 1 + len(alignments), 0, 0, 0
    )
    segments = [struct.pack("<IIQQQQQQ", 6, 0, 0, 0, 0, 0, 0, 8)]
    segments += [struct.pack("<IIQQQQQQ", 1, 0, 0, 0, 0, 0, 0, alignment) for alignment in alignments]
    return head + b"".join(segments)


def test_the_page_is_as_large_as_the_least_aligned_segment_to_load() -> None:
    assert page_bytes(elf(AARCH64, 1 << 16, 1 << 12)) == 1 << 12
    assert page_bytes(elf(AARCH64, 1 << 16, 1 << 16)) == 1 << 16


def test_machines_are_told_apart_and_other_files_have_none() -> None:
    assert machine(elf(AARCH64)) == AARCH64
    assert machine(elf(62)) == 62
    assert machine(b"#!/bin/sh\n") == 0
