"""How much memory the control groups of this process leave it: a container or a service may have less than its machine.

Version 1 (`memory.limit_in_bytes`) and version 2 (`memory.max`) alike. A limit of any group above counts too.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED_BYTES = 1 << 60
"""Version 1 states "no limit" as a number above this, version 2 as the word `max`."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """The files of one version of the memory controller, and how it calls cached file pages that are easily dropped."""

    limit: str
    usage: str
    reclaimable: str


VERSION_1 = _Kind("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = _Kind("memory.max", "memory.current", "inactive_file")


def available_in_groups(proc: Path) -> int | None:
    """The least that any group leaves: its limit less what is used, apart from file pages that can be dropped.

    None where no group is limited. `proc` is the mount of procfs.
    """
    left = [_left(folder, kind) for folder, kind in _folders(proc)]
    return min((amount for amount in left if amount is not None), default=None)


def _left(folder: Path, kind: _Kind) -> int | None:
    try:
        limit = (folder / kind.limit).read_text().strip()
        if not limit.isdecimal() or int(limit) >= UNLIMITED_BYTES:
            return None
        used = int((folder / kind.usage).read_text())
        return max(0, int(limit) - used + _reclaimable(folder, kind))
    except (OSError, ValueError):  # the group above all others has no such files, and one may be out of sight
        return None


def _reclaimable(folder: Path, kind: _Kind) -> int:
    for line in (folder / "memory.stat").read_text().splitlines():
        name, _, amount = line.partition(" ")
        if name == kind.reclaimable:
            return int(amount)
    return 0


def _folders(proc: Path) -> Iterator[tuple[Path, _Kind]]:
    """This process's group and all above it, as far as they can be seen, for each mounted memory controller."""
    own = _own_groups(proc)
    with suppress(OSError):
        for line in (proc / "self" / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            root, mount = before.split()[3:5]
            kind = _kind_of(after)
            if kind in own:
                group = _below(own[kind], root)
                yield from ((Path(mount, folder), kind) for folder in (group, *group.parents))


def _own_groups(proc: Path) -> dict[_Kind, str]:
    """The group that /proc/self/cgroup names, for each version."""
    groups: dict[_Kind, str] = {}
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            number, controllers, group = line.split(":", 2)
            if "memory" in controllers.split(","):
                groups[VERSION_1] = group
            if number == "0" and not controllers:
                groups[VERSION_2] = group
    return groups


def _kind_of(mounted: str) -> _Kind | None:
    """What a mount is, by the end of its line in mountinfo: type, source, options."""
    filesystem, _, options = mounted.split()[:3] if len(mounted.split()) >= 3 else ("", "", "")
    if filesystem == "cgroup" and "memory" in options.split(","):
        return VERSION_1
    return VERSION_2 if filesystem == "cgroup2" else None


def _below(group: str, root: str) -> PurePosixPath:
    """A group as seen below the mount of `root`: in a container only its own part of the tree may be mounted."""
    path = PurePosixPath(group)
    return path.relative_to(root) if path.is_relative_to(root) else PurePosixPath(".")
