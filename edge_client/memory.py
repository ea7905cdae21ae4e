"""What the kernel says about memory: this process's peak, and what a new object may take."""

from pathlib import Path

from edge_client.cgroup import available_in_groups
from shared.errors import DataError

KERNEL = Path("/proc")

SHARED_WITH_AGENT_BYTES = 14_000_000
"""Resident pages of a trainer that its agent has mapped as well: interpreter, C library, OpenSSL, pydantic's core."""


def peak_rss_bytes(proc: Path = KERNEL) -> int:
    """The largest resident memory this process ever had."""
    return field_bytes((proc / "self" / "status").read_text(), "VmHWM")


def rss_bytes(process: int | str = "self", proc: Path = KERNEL) -> int:
    """The resident memory of a process now; raises `OSError` where there is no such process."""
    return field_bytes((proc / str(process) / "status").read_text(), "VmRSS")


def available_bytes(proc: Path = KERNEL) -> int:
    """What can be allocated now without swapping, and without passing the limit of a control group."""
    on_machine = field_bytes((proc / "meminfo").read_text(), "MemAvailable")
    in_groups = available_in_groups(proc)
    return on_machine if in_groups is None else min(on_machine, in_groups)


def field_bytes(text: str, name: str) -> int:
    """The field `name`, in bytes, of the kernel's `Name:  123 kB` lines; raises `DataError` when it is not there."""
    for line in text.splitlines():
        label, _, value = line.partition(":")
        if label == name:
            return int(value.split()[0]) * 1024
    raise DataError(f"the kernel's memory report has no field {name}: is this Linux?")
