"""A control group of one's own, for a process that is to have no more memory and processor than a small board."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SettingsError

TREE = Path("/sys/fs/cgroup")
PERIOD_MICROSECONDS = 100_000
REMOVE_SECONDS = 10.0
JOIN = 'for group in $GROUPS_TO_JOIN; do echo $$ >"$group/cgroup.procs" || exit 125; done; exec "$@"'


@dataclass(frozen=True)
class ControlGroup:
    """Folders of the memory and the processor controller: of version 1 two, of version 2 the same one twice."""

    memory: Path
    processor: Path

    @property
    def launcher(self) -> list[str]:
        """What to put before a command so that it runs in the group from its first page on."""
        folders = " ".join(dict.fromkeys(map(str, (self.memory, self.processor))))
        return ["/usr/bin/env", f"GROUPS_TO_JOIN={folders}", "/bin/sh", "-c", JOIN, "launcher"]

    def peak_bytes(self) -> int | None:
        """The most memory that was ever charged to the group, cached files included; None where the kernel has none."""
        return _number(self.memory / "memory.max_usage_in_bytes") or _number(self.memory / "memory.peak")

    def used_bytes(self) -> int | None:
        """What is charged to the group now, without cached files that can be dropped."""
        used = _number(self.memory / "memory.usage_in_bytes") or _number(self.memory / "memory.current")
        cached = _field(self.memory / "memory.stat", "total_inactive_file", "inactive_file")
        return None if used is None else used - (cached or 0)

    def killed(self) -> int:
        """How many processes the kernel has killed because the group was full."""
        counts = [_field(self.memory / name, "oom_kill") for name in ("memory.oom_control", "memory.events")]
        return next((count for count in counts if count is not None), 0)


def why_missing(tree: Path = TREE) -> str | None:
    """Why no group with a memory limit can be made here; None where one can."""
    if os.geteuid() != 0:
        return "control groups need root"
    if _version_1(tree) or _version_2(tree):
        return None
    return f"no memory controller of control groups under {tree}"


@contextmanager
def limited(memory_bytes: int, cores: float | None = None, tree: Path = TREE) -> Iterator[ControlGroup]:
    """A new group of at most `memory_bytes` and `cores` of processor time, removed once its processes have ended.

    Raises `SettingsError` where there are no control groups: see `why_missing`.
    """
    reason = why_missing(tree)
    if reason is not None:
        raise SettingsError(f"{reason}: run as root on a machine that has them")
    name = f"gradsieve-{os.getpid()}-{time.monotonic_ns()}"
    group = _make_version_1(tree, name) if _version_1(tree) else _make_version_2(tree, name)
    try:
        _limit(group, memory_bytes, cores)
        yield group
    finally:
        for folder in dict.fromkeys((group.memory, group.processor)):
            _remove(folder)


def _version_1(tree: Path) -> bool:
    return (tree / "memory" / "memory.limit_in_bytes").exists()


def _version_2(tree: Path) -> bool:
    controllers = tree / "cgroup.controllers"
    return controllers.exists() and "memory" in controllers.read_text().split()


def _make_version_1(tree: Path, name: str) -> ControlGroup:
    group = ControlGroup(tree / "memory" / name, tree / "cpu" / name)
    for folder in (group.memory, group.processor):
        folder.mkdir()
    return group


def _make_version_2(tree: Path, name: str) -> ControlGroup:
    (tree / "cgroup.subtree_control").write_text("+memory +cpu")
    (tree / name).mkdir()
    return ControlGroup(tree / name, tree / name)


def _limit(group: ControlGroup, memory_bytes: int, cores: float | None) -> None:
    first = group.memory / "memory.limit_in_bytes"
    (first if first.exists() else group.memory / "memory.max").write_text(str(memory_bytes))
    with suppress(OSError):  # swap would hide what does not fit; a kernel may not account for it
        swap = group.memory / "memory.swap.max"
        (swap if swap.exists() else group.memory / "memory.swappiness").write_text("0")
    if cores is None:
        return
    quota = str(round(cores * PERIOD_MICROSECONDS))
    if (group.processor / "cpu.cfs_quota_us").exists():
        (group.processor / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
        (group.processor / "cpu.cfs_quota_us").write_text(quota)
    else:
        (group.processor / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")


def _remove(folder: Path) -> None:
    """A group can be removed as soon as the kernel has buried its last process; orphans of one it killed are ended."""
    for pid in (folder / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _wait_until(lambda: not (folder / "cgroup.procs").read_text().split(), REMOVE_SECONDS)
    folder.rmdir()


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _field(file: Path, *names: str) -> int | None:
    """The first of the fields `names` that a file of `name number` lines has."""
    with suppress(OSError):
        fields = dict(line.split() for line in file.read_text().splitlines() if len(line.split()) == 2)
        return next((int(fields[name]) for name in names if name in fields), None)
    return None
