"""What the kernel says about memory: this process's peak, and what a new object may take."""

from pathlib import Path

from shared.errors import DataError

KERNEL = Path("/proc")


def peak_rss_bytes(proc: Path = KERNEL) -> int:
    """The largest resident memory this process ever had."""
    return field_bytes((proc / "self" / "status").read_text(), "VmHWM")


def available_bytes(proc: Path = KERNEL) -> int:
    """What can be allocated now without swapping."""
    return field_bytes((proc / "meminfo").read_text(), "MemAvailable")


def field_bytes(text: str, name: str) -> int:
    """The field `name`, in bytes, of the kernel's `Name:  123 kB` lines; raises `DataError` when it is not there."""
    for line in text.splitlines():
        label, _, value = line.partition(":")
        if label == name:
            return int(value.split()[0]) * 1024
    raise DataError(f"the kernel's memory report has no field {name}: is this Linux?")
