import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_client.doctor import board
from edge_client.doctor.finding import Mark
from edge_client.gate import GateLimits, Reading

GIGABYTES = 1_000_000  # in the kernel's unit of 1024 bytes, near enough
DAY_SECONDS = 86_400.0
NOW = 1_800_000_000.0


def proc(folder: Path, available_kb: int = GIGABYTES, total_kb: int = 4 * GIGABYTES, swaps: str = "") -> Path:
    (folder / "meminfo").write_text(f"MemTotal: {total_kb} kB\nMemAvailable: {available_kb} kB\n")
    (folder / "swaps").write_text(f"Filename Type Size Used Priority\n{swaps}")
    return folder


@pytest.mark.parametrize(("available_kb", "mark"), [(90_000, "fail"), (150_000, "warn"), (250_000, "ok")])
def test_memory_is_judged_by_what_agent_and_trainer_need(tmp_path: Path, available_kb: int, mark: str) -> None:
    (found,) = board.memory(proc(tmp_path, available_kb, total_kb=500_000))
    assert found.mark == mark
    assert f"{available_kb * 1024 // 1_000_000} MB of 512 MB" in found.text


def test_kernel_without_a_memory_report_is_a_finding_and_no_crash(tmp_path: Path) -> None:
    assert [found.mark for found in (*board.memory(tmp_path), *board.swap(tmp_path))] == [Mark.FAIL, Mark.FAIL]


@pytest.mark.parametrize(
    ("swaps", "total_kb", "mark", "words"),
    [
        ("/dev/zram0 partition 255996 0 100\n", 500_000, "ok", "/dev/zram0"),
        ("/var/swap file 102396 0 -2\n", 500_000, "warn", "/var/swap"),
        ("/dev/zram0 partition 9 0 100\n/dev/mmcblk0p3 partition 9 0 -2\n", 500_000, "warn", "/dev/mmcblk0p3"),
        ("", 500_000, "warn", "zram"),
        ("", 4 * GIGABYTES, "ok", "none"),
    ],
)
def test_swap_on_a_card_and_none_on_a_small_board_are_warned_of(
    tmp_path: Path, swaps: str, total_kb: int, mark: str, words: str
) -> None:
    (found,) = board.swap(proc(tmp_path, total_kb=total_kb, swaps=swaps))
    assert found.mark == mark
    assert words in f"{found.text} {found.remedy}"


def test_kernel_that_does_not_count_memory_of_services_is_warned_of(tmp_path: Path) -> None:
    controllers = tmp_path / "cgroup.controllers"
    controllers.write_text("cpuset cpu io pids\n")
    assert "cgroup_enable=memory" in board.memory_limit(tmp_path)[0].remedy
    controllers.write_text("cpuset cpu io memory pids\n")
    assert [found.mark for found in board.memory_limit(tmp_path)] == [Mark.OK]
    controllers.unlink()
    assert board.memory_limit(tmp_path) == []


def test_clock_before_a_file_was_written_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.touch()
    os.utime(file, (NOW, NOW))
    (found,) = board.clock(NOW - DAY_SECONDS, [tmp_path / "absent", file], tmp_path / "no-timesync")
    assert found.mark is Mark.FAIL
    assert str(file) in found.text
    assert [f.mark for f in board.clock(NOW - 60, [file], tmp_path / "no-timesync")] == [Mark.OK], (
        "a minute is no matter"
    )


def test_clock_that_the_network_has_not_set_is_warned_of(tmp_path: Path) -> None:
    assert [found.mark for found in board.clock(NOW, [], tmp_path)] == [Mark.WARN]
    (tmp_path / "synchronized").touch()
    assert [found.mark for found in board.clock(NOW, [], tmp_path)] == [Mark.OK]


def test_board_that_its_gate_would_keep_from_working_is_told(tmp_path: Path) -> None:
    hot = Reading(celsius=85.0)
    (found,) = board.gate(hot, GateLimits(hottest_celsius=70.0))
    assert found.mark is Mark.WARN
    assert "85" in found.text
    (found,) = board.gate(hot, GateLimits())
    assert (found.mark, "85 °C" in found.text) == (Mark.OK, True)


def test_disk_is_probed_and_left_as_it_was(tmp_path: Path) -> None:
    found = board.disk(tmp_path / "state" / "not" / "made")
    assert found[0].check == "disk"
    assert str(tmp_path) in found[0].text
    assert list(tmp_path.iterdir()) == []


def test_slow_disk_is_warned_of(tmp_path: Path) -> None:
    ticks = iter([0.0, 8.0])
    (found, *_) = board.disk(tmp_path, timer=lambda: next(ticks))
    assert (found.mark, "0.5 MB/s" in found.text) == (Mark.WARN, True)


class Room(NamedTuple):
    """What `os.statvfs` tells that matters here."""

    f_bavail: int
    f_frsize: int


@pytest.mark.parametrize(("free_mb", "mark"), [(10, "fail"), (100, "warn"), (300, "ok")])
def test_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mb: int, mark: str) -> None:
    monkeypatch.setattr(os, "statvfs", lambda place: Room(f_bavail=free_mb * 1000, f_frsize=1000))
    (found, *_) = board.disk(tmp_path)
    assert found.mark == mark


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_this_user_cannot_write_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (found,) = board.disk(tmp_path)
    assert found.mark is Mark.FAIL


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_root_is_told_that_it_cannot_judge_the_rights_of_another_user(tmp_path: Path) -> None:
    shutil.chown(tmp_path, 12345)
    assert board.disk(tmp_path)[-1].mark is Mark.WARN
