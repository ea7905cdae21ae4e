"""What a process and all that it started take: memory, processor time, bytes written to disk; from procfs."""

import os
import signal
import subprocess
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RSS_SECONDS = 0.02
STOP_SECONDS = 20.0
"""For a process to leave by itself."""
RSS_PER_PSS = 10
STATE, PARENT, USER_TICKS, SYSTEM_TICKS, BURIED_USER_TICKS, BURIED_SYSTEM_TICKS, RSS_PAGES = 0, 1, 11, 12, 13, 14, 21
"""Places in /proc/PID/stat after the command's closing bracket."""


@dataclass(frozen=True)
class Usage:
    """Sums over a process tree at one moment; processor time includes children that have ended."""

    rss_bytes: int
    cpu_seconds: float


def usage(root: int) -> Usage:
    """What `root` and its descendants take now; zeros once they are gone."""
    rows = [fields for pid in tree(root) if (fields := _stat(pid)) is not None]
    ticks = sum(
        int(fields[place])
        for fields in rows
        for place in (USER_TICKS, SYSTEM_TICKS, BURIED_USER_TICKS, BURIED_SYSTEM_TICKS)
    )
    return Usage(sum(int(fields[RSS_PAGES]) for fields in rows) * PAGE_BYTES, ticks / TICKS)


def pss_bytes(root: int) -> int:
    """Proportional memory: a page that several processes map counts for each by its share."""
    return sum(_rollup(pid) for pid in tree(root))


def tree(root: int) -> list[int]:
    """`root` and its living descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))) is not None:
            children[int(fields[PARENT])].append(int(entry.name))
    found = [root] if (PROC / str(root)).exists() else []
    for pid in found:
        found.extend(children[pid])
    return found


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process, by force once it had time to leave by itself, and whatever of its descendants lives on."""
    pids = tree(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
    for pid in pids[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Watch:
    """Looks at a process tree all the time within its block, and remembers peaks and what ended processes wrote."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.peak_rss_bytes = self.peak_pss_bytes = 0
        self._written: dict[int, int] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch", daemon=True)

    @property
    def written_bytes(self) -> int:
        """What all processes ever seen have caused to be written to a disk, by their last reading."""
        return sum(self._written.values())

    def forget_peaks(self) -> None:
        """Begin anew with what is there now."""
        self.peak_rss_bytes = self.peak_pss_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _look_on(self) -> None:
        looks = 0
        while not self._end.wait(RSS_SECONDS):
            pids = tree(self.root)
            rows = [fields for pid in pids if (fields := _stat(pid)) is not None]
            self.peak_rss_bytes = max(self.peak_rss_bytes, sum(int(row[RSS_PAGES]) for row in rows) * PAGE_BYTES)
            for pid in pids:
                with suppress(OSError, ValueError):
                    self._written[pid] = _written_bytes(pid)
            if looks % RSS_PER_PSS == 0:
                self.peak_pss_bytes = max(self.peak_pss_bytes, sum(map(_rollup, pids)))
            looks += 1


def _stat(pid: int) -> list[str] | None:
    """The fields of a living process's stat line."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields if fields and fields[STATE] != "Z" else None


def _rollup(pid: int) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _written_bytes(pid: int) -> int:
    fields = dict(line.split(": ") for line in (PROC / str(pid) / "io").read_text().splitlines())
    return int(fields["write_bytes"]) - int(fields["cancelled_write_bytes"])
