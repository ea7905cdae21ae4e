"""The machine: its clock, memory, swap, disk, and what keeps them within bounds."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from edge_client.doctor.finding import Finding
from edge_client.gate import GateLimits, Reading, decide
from edge_client.memory import field_bytes
from shared.errors import DataError

MB = 1_000_000
TIGHT_MEMORY_BYTES, LEAST_MEMORY_BYTES = 200 * MB, 100 * MB
"""Agent and trainer of a LeNet-class model together have 143 MB resident at their peak."""
SMALL_BOARD_BYTES = 1100 * MB
TIGHT_DISK_BYTES, LEAST_DISK_BYTES = 256 * MB, 32 * MB
"""Four bundles, and of a few runs the model, its successor and the residual: some dozens of model sizes at most."""
PROBE_BYTES = 4 << 20
SLOW_BYTES_PER_SECOND = 2 * MB
CLOCK_SLACK_SECONDS = 3600.0


def memory(proc: Path) -> Sequence[Finding]:
    """What can be allocated now."""
    try:
        text = (proc / "meminfo").read_text()
        free, whole = field_bytes(text, "MemAvailable"), field_bytes(text, "MemTotal")
    except (OSError, DataError) as error:
        return [Finding.of_error("memory", error)]
    found = f"{free // MB} MB of {whole // MB} MB are available"
    if free < LEAST_MEMORY_BYTES:
        return [Finding.fail("memory", found, "end other programs, or use a larger board")]
    if free < TIGHT_MEMORY_BYTES:
        return [Finding.warn("memory", found, "small models alone will train: end other programs")]
    return [Finding.ok("memory", found)]


def swap(proc: Path) -> Sequence[Finding]:
    """Where pages go when memory is short: compressed memory is best, a card wears out, none ends the trainer."""
    try:
        places = [row.split()[0] for row in (proc / "swaps").read_text().splitlines()[1:] if row.strip()]
        whole = field_bytes((proc / "meminfo").read_text(), "MemTotal")
    except (OSError, DataError) as error:
        return [Finding.of_error("swap", error)]
    on_disk = [place for place in places if "zram" not in place]
    if on_disk:
        text = f"swap on {', '.join(on_disk)}, which wears an SD card out"
        return [Finding.warn("swap", text, "use zram instead: apt install zram-tools")]
    if not places and whole < SMALL_BOARD_BYTES:
        text = f"none, with {whole // MB} MB of memory"
        return [Finding.warn("swap", text, "apt install zram-tools gives the trainer some reserve")]
    return [Finding.ok("swap", ", ".join(places) or "none, and memory enough")]


def memory_limit(cgroup: Path) -> Sequence[Finding]:
    """Whether the kernel can hold the service within its memory; nothing where cgroups are of the older kind."""
    try:
        controllers = (cgroup / "cgroup.controllers").read_text().split()
    except OSError:
        return []
    if "memory" in controllers:
        return [Finding.ok("memory limit", "the kernel can keep a service to its MemoryMax")]
    text = "the kernel does not count the memory of services, so that MemoryMax has no effect"
    return [Finding.warn("memory limit", text, "add cgroup_enable=memory to /boot/firmware/cmdline.txt and reboot")]


def gate(reading: Reading, limits: GateLimits) -> Sequence[Finding]:
    """Whether the board would work now, by its owner's limits of heat, power, memory, disk, links and hours."""
    reasons = decide(reading, limits).reasons
    if reasons:
        return [Finding.warn("gate", f"would not work now: {'; '.join(reasons)}", "wait, or change [gate]")]
    heat = "" if reading.celsius is None else f", at {reading.celsius:.0f} °C"
    return [Finding.ok("gate", f"nothing keeps the board from working{heat}")]


def clock(now: float, witnesses: Sequence[Path], timesync: Path) -> Sequence[Finding]:
    """Whether `now`, seconds since 1970, can be: not before a file that is here was written, and better set by network.

    `timesync` is where systemd's time service keeps its state.
    """
    day = time.strftime("%F %R UTC", time.gmtime(now))
    written = {path: path.stat().st_mtime for path in witnesses if path.exists()}
    latest = max(written, key=lambda path: written[path], default=None)
    if latest is not None and written[latest] > now + CLOCK_SLACK_SECONDS:
        then = time.strftime("%F %R UTC", time.gmtime(written[latest]))
        text = f"says {day}, but {latest} was written on {then}"
        return [Finding.fail("clock", text, "set it by 'timedatectl set-ntp true' or 'date -s'")]
    if timesync.is_dir() and not (timesync / "synchronized").exists():
        text = f"says {day}, and was not set by the network since the start"
        return [Finding.warn("clock", text, "see 'timedatectl timesync-status': is UDP port 123 open?")]
    return [Finding.ok("clock", f"says {day}")]


def disk(folder: Path, timer: Callable[[], float] = time.monotonic) -> Sequence[Finding]:
    """Space and speed where the state is kept, measured by a temporary file of 4 MiB."""
    place = _nearest(folder)
    try:
        room = os.statvfs(place)
        seconds = _write(place, timer)
    except OSError as error:
        text = f"{place} cannot be written ({error.strerror}) by this user"
        return [Finding.fail("disk", text, f"run as the user of the service, or chown its folder {folder}")]
    free, speed = room.f_bavail * room.f_frsize, PROBE_BYTES / max(seconds, 1e-3)
    found = f"{place}: {free // MB} MB free, 4 MiB written and synced at {speed / MB:.1f} MB/s"
    if free < LEAST_DISK_BYTES:
        return [Finding.fail("disk", found, "make room, such as by 'apt clean' or 'journalctl --vacuum-size=20M'")]
    if free < TIGHT_DISK_BYTES:
        return [Finding.warn("disk", found, "make room, such as by 'apt clean' or 'journalctl --vacuum-size=20M'")]
    if speed < SLOW_BYTES_PER_SECOND:
        return [Finding.warn("disk", found, "a healthy SD card writes 10 MB/s: a worn one is about to fail")]
    return [Finding.ok("disk", found), *_other_owner(folder)]


def _other_owner(folder: Path) -> Sequence[Finding]:
    """Root may write everywhere, so what it finds says little of the service's user."""
    if os.geteuid() == 0 and folder.exists() and (owner := folder.stat().st_uid) != 0:
        text = f"{folder} belongs to user {owner}, and this is root: rights were not examined"
        return [Finding.warn("user", text, "run this as that user, by sudo -u")]
    return []


def _nearest(folder: Path) -> Path:
    """The folder, or what is there of the way to it."""
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    return place


def _write(place: Path, timer: Callable[[], float]) -> float:
    """Seconds that the probe took to be on the disk; incompressible, as some cards compress."""
    content = os.urandom(PROBE_BYTES)
    with TemporaryFile(dir=place) as file:
        began = timer()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        return timer() - began
