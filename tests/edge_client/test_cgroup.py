from pathlib import Path

import pytest

from edge_client.cgroup import available_in_groups
from edge_client.memory import available_bytes

MEGABYTE = 1 << 20
V1_UNLIMITED = "9223372036854771712"


class Kernel:
    """A made-up procfs, and the control groups that it tells of."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.tree = folder / "proc", folder / "tree"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "meminfo").write_text("MemTotal: 900000 kB\nMemAvailable:   512000 kB\n")

    def belongs_to(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("\n".join(lines) + "\n")

    def mounts(self, *ends: str, root: str = "/") -> None:
        lines = [f"3{number} 25 0:3{number} {root} {self.tree} rw,nosuid - {end}" for number, end in enumerate(ends)]
        (self.proc / "self" / "mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *lines]) + "\n")

    def group(self, version: int, name: str, limit: str, used: int, inactive: int = 0) -> None:
        folder = self.tree / name
        folder.mkdir(parents=True, exist_ok=True)
        files = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
        (folder / files[0]).write_text(limit + "\n")
        (folder / files[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(
            f"anon 5\ninactive_file {inactive}\ntotal_inactive_file {inactive if version == 1 else 0}\n"
        )


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_limit_of_version_1_less_what_is_used_is_available(kernel: Kernel) -> None:
    kernel.belongs_to("4:memory:/board", "0::/")
    kernel.mounts("cgroup cgroup rw,memory")
    kernel.group(1, "board", str(128 * MEGABYTE), 100 * MEGABYTE, inactive=20 * MEGABYTE)
    assert available_in_groups(kernel.proc) == 48 * MEGABYTE
    assert available_bytes(kernel.proc) == 48 * MEGABYTE


def test_limit_of_version_2_less_what_is_used_is_available(kernel: Kernel) -> None:
    kernel.belongs_to("0::/system.slice/edge.service")
    kernel.mounts("cgroup2 cgroup2 rw,nsdelegate")
    kernel.group(2, "system.slice/edge.service", str(256 * MEGABYTE), 56 * MEGABYTE)
    assert available_in_groups(kernel.proc) == 200 * MEGABYTE


@pytest.mark.parametrize(("version", "word"), [(1, V1_UNLIMITED), (2, "max")])
def test_limit_of_a_group_above_counts(kernel: Kernel, version: int, word: str) -> None:
    kernel.belongs_to("0::/outer/inner" if version == 2 else "7:cpu,memory:/outer/inner")
    kernel.mounts("cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,cpu,memory")
    kernel.group(version, "outer", str(64 * MEGABYTE), 60 * MEGABYTE)
    kernel.group(version, "outer/inner", word, MEGABYTE)
    assert available_in_groups(kernel.proc) == 4 * MEGABYTE


@pytest.mark.parametrize(("version", "word"), [(1, V1_UNLIMITED), (2, "max")])
def test_without_a_limit_the_machine_counts(kernel: Kernel, version: int, word: str) -> None:
    kernel.belongs_to("0::/" if version == 2 else "4:memory:/")
    kernel.mounts("cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory")
    kernel.group(version, ".", word, MEGABYTE)
    assert available_in_groups(kernel.proc) is None
    assert available_bytes(kernel.proc) == 512_000 * 1024


def test_part_of_the_tree_that_a_container_sees_is_found(kernel: Kernel) -> None:
    kernel.belongs_to("4:memory:/docker/0123/edge")
    kernel.mounts("cgroup cgroup rw,memory", root="/docker/0123")
    kernel.group(1, "edge", str(90 * MEGABYTE), 10 * MEGABYTE)
    assert available_in_groups(kernel.proc) == 80 * MEGABYTE


def test_group_out_of_sight_leaves_the_container_s_own(kernel: Kernel) -> None:
    kernel.belongs_to("4:memory:/docker/0123")
    kernel.mounts("cgroup cgroup rw,memory", root="/docker/4567")
    kernel.group(1, ".", str(70 * MEGABYTE), 10 * MEGABYTE)
    assert available_in_groups(kernel.proc) == 60 * MEGABYTE


def test_more_used_than_allowed_leaves_nothing(kernel: Kernel) -> None:
    kernel.belongs_to("0::/edge")
    kernel.mounts("cgroup2 cgroup2 rw")
    kernel.group(2, "edge", str(10 * MEGABYTE), 11 * MEGABYTE)
    assert available_in_groups(kernel.proc) == 0


def test_kernel_without_control_groups_has_no_limit(kernel: Kernel) -> None:
    assert available_in_groups(kernel.proc) is None
    kernel.belongs_to("4:memory:/gone", "0::/gone")
    kernel.mounts("cgroup cgroup rw,memory", "cgroup2 cgroup2 rw", "short")
    assert available_in_groups(kernel.proc) is None
