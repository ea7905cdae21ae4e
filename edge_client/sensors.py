"""What Linux says of a board's heat, power, memory, disk and network. Whatever is not there is simply not known."""

import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from edge_client.gate import Reading
from edge_client.memory import available_bytes
from edge_client.quiet_hours import QuietHours
from shared.errors import DataError

PROCESSOR_ZONES = ("cpu", "soc", "pkg", "core", "acpitz")
"""Parts of the names of thermal zones that tell of the processor; others may be a modem's or a battery's."""
PLAUSIBLE_CELSIUS = (-40.0, 150.0)
THROTTLING = Path("sys/devices/platform/soc/soc:firmware/get_throttled")
"""What `vcgencmd get_throttled` says, as the Raspberry Pi's kernel offers it: bits in hexadecimal."""
THROTTLED_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
ROUTE_COLUMNS = 8
CHARGING = ("Charging", "Full", "Not charging")


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write to the file system of `folder`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


class Sensors:
    """Reads a board below `root`; `folder` is where space is needed, `metered` are patterns of interfaces.

    `quiet` gives the quiet hours that it is now, `free` the free bytes of a folder.
    """

    def __init__(
        self,
        folder: Path,
        metered: Sequence[str] = (),
        quiet: Callable[[], QuietHours | None] = lambda: None,
        *,
        root: Path = Path("/"),
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._folder, self._metered, self._quiet = folder, tuple(metered), quiet
        self._root, self._free = root, free

    def read(self) -> Reading:
        """All of it; never raises for what a kernel or a board lacks."""
        on_mains, battery_share = self._power()
        return Reading(
            celsius=celsius(self._root),
            throttled=self._throttled(),
            on_mains=on_mains,
            battery_share=battery_share,
            available_bytes=self._available(),
            free_disk_bytes=self._free_disk(),
            metered_by=self._metered_interface(),
            quiet=self._quiet(),
        )

    def _throttled(self) -> tuple[str, ...]:
        text = _text(self._root / THROTTLING)
        try:
            bits = int(text, 16) if text else 0
        except ValueError:
            return ()
        return tuple(name for bit, name in THROTTLED_NOW.items() if bits >> bit & 1)

    def _power(self) -> tuple[bool | None, float | None]:
        """Is the board fed from outside, and the charge of its own battery."""
        fed, shares = [], []
        for supply in _folders(self._root / "sys/class/power_supply"):
            if _text(supply / "scope") == "Device":  # of a mouse or headset
                continue
            if _text(supply / "type") == "Battery":
                fed.append(_text(supply / "status") in CHARGING)
                shares.append(_number(supply / "capacity"))
            elif (online := _number(supply / "online")) is not None:
                fed.append(online > 0)
        known = [share / 100 for share in shares if share is not None]
        return (any(fed) if fed else None), min(known, default=None)

    def _available(self) -> int | None:
        try:
            return available_bytes(self._root / "proc")
        except (OSError, DataError, ValueError, IndexError):
            return None

    def _free_disk(self) -> int | None:
        try:
            return self._free(self._folder)
        except OSError:
            return None

    def _metered_interface(self) -> str | None:
        """The interface of the default route of IPv4, if it is a metered one."""
        routes = []
        for line in _text(self._root / "proc/net/route").splitlines()[1:]:
            columns = line.split()
            if len(columns) >= ROUTE_COLUMNS and columns[1] == columns[7] == "00000000" and columns[6].isdigit():
                routes.append((int(columns[6]), columns[0]))
        if not routes:
            return None
        interface = min(routes)[1]
        return interface if any(fnmatchcase(interface, pattern) for pattern in self._metered) else None


def celsius(root: Path = Path("/")) -> float | None:
    """The hottest of the processor's thermal zones, of all zones where none is named for it; None without any."""
    named: list[float] = []
    others: list[float] = []
    for zone in _folders(root / "sys/class/thermal"):
        value = _number(zone / "temp")
        if value is None or not PLAUSIBLE_CELSIUS[0] <= value / 1000 <= PLAUSIBLE_CELSIUS[1]:
            continue
        kind = _text(zone / "type").lower()
        (named if any(part in kind for part in PROCESSOR_ZONES) else others).append(value / 1000)
    return max(named or others, default=None)


def _folders(parent: Path) -> Iterator[Path]:
    try:
        yield from sorted(parent.iterdir())
    except OSError:
        return


def _text(file: Path) -> str:
    """A kernel file's text; empty where it is not there or the driver gives nothing."""
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _text(file)
    try:
        return int(text)
    except ValueError:
        return None
