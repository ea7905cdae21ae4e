"""A made-up kernel tree stands for a board."""

import os
from pathlib import Path

import pytest

from edge_client.gate import Reading
from edge_client.quiet_hours import QuietHours
from edge_client.sensors import THROTTLING, Sensors, celsius, free_bytes

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wwan0\t00000000\t0101A8C0\t0003\t0\t0\t700\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


class Board:
    """Files below a folder, as the kernel would show them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, file: str | Path, text: str) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def zone(self, number: int, kind: str, millidegrees: str) -> None:
        self.write(f"sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
        self.write(f"sys/class/thermal/thermal_zone{number}/temp", f"{millidegrees}\n")

    def supply(self, name: str, **fields: str) -> None:
        for field, text in fields.items():
            self.write(f"sys/class/power_supply/{name}/{field}", f"{text}\n")

    def read(self, *metered: str) -> Reading:
        return Sensors(self.root, metered, root=self.root, free=lambda folder: 1 << 30).read()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_board_without_any_sensor_knows_nothing_but_its_disk(board: Board) -> None:
    assert board.read() == Reading(free_disk_bytes=1 << 30)


def test_hottest_zone_of_the_processor_counts(board: Board) -> None:
    board.zone(0, "cpu-thermal", "51540")
    board.zone(1, "gpu-soc-thermal", "63000")
    board.zone(2, "iwlwifi_1", "99000")
    assert celsius(board.root) == 63.0


def test_zone_of_no_known_kind_counts_where_there_is_no_other(board: Board) -> None:
    board.zone(0, "thermal0", "48000")
    assert celsius(board.root) == 48.0


@pytest.mark.parametrize("nonsense", ["-273150", "999999", "", "n/a", "12.5"])
def test_zone_that_talks_nonsense_is_passed_over(board: Board, nonsense: str) -> None:
    board.zone(0, "cpu-thermal", nonsense)
    assert celsius(board.root) is None
    board.zone(1, "cpu1-thermal", "40000")
    assert celsius(board.root) == 40.0


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("0", ()),
        ("50005", ("under-voltage", "throttled")),
        ("0x8", ("soft temperature limit",)),
        ("50000", ()),  # it was so once, but not now
        ("?", ()),
    ],
)
def test_throttling_is_what_is_so_now(board: Board, flags: str, named: tuple[str, ...]) -> None:
    board.write(THROTTLING, f"{flags}\n")
    assert board.read().throttled == named


def test_board_on_battery(board: Board) -> None:
    board.supply("AC", type="Mains", online="0")
    board.supply("BAT0", type="Battery", status="Discharging", capacity="42")
    assert (board.read().on_mains, board.read().battery_share) == (False, 0.42)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_battery_that_does_not_discharge_is_fed(board: Board, status: str) -> None:
    board.supply("BAT0", type="Battery", status=status, capacity="80")
    assert board.read().on_mains is True


def test_lowest_of_several_batteries_counts(board: Board) -> None:
    board.supply("BAT0", type="Battery", status="Discharging", capacity="80")
    board.supply("BAT1", type="Battery", status="Discharging", capacity="15")
    assert board.read().battery_share == 0.15


def test_mouse_with_a_flat_battery_is_not_the_board(board: Board) -> None:
    board.supply("hidpp_battery_0", type="Battery", scope="Device", status="Discharging", capacity="3")
    assert (board.read().on_mains, board.read().battery_share) == (None, None)


def test_battery_without_a_gauge_is_still_a_battery(board: Board) -> None:
    board.supply("BAT0", type="Battery", status="Discharging")
    assert (board.read().on_mains, board.read().battery_share) == (False, None)


def test_available_memory_is_the_kernels(board: Board) -> None:
    board.write("proc/meminfo", "MemTotal:  900000 kB\nMemAvailable:   81920 kB\n")
    assert board.read().available_bytes == 80 << 20


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", "MemAvailable:\n", "MemAvailable: much kB\n"])
def test_memory_report_that_cannot_be_read_is_no_reading(board: Board, text: str) -> None:
    board.write("proc/meminfo", text)
    assert board.read().available_bytes is None


def test_interface_of_the_best_default_route_is_the_one_that_may_be_metered(board: Board) -> None:
    board.write("proc/net/route", ROUTES)
    assert board.read("wwan*").metered_by is None
    assert board.read("eth?").metered_by == "eth0"
    board.write("proc/net/route", "\n".join(line for line in ROUTES.splitlines() if "\t100\t00000000" not in line))
    assert board.read("wwan*").metered_by == "wwan0"


def test_board_without_a_default_route_is_not_metered(board: Board) -> None:
    board.write("proc/net/route", ROUTES.splitlines()[0])
    assert board.read("*").metered_by is None


def test_folder_that_is_gone_is_no_reading(tmp_path: Path) -> None:
    assert Sensors(tmp_path / "gone", root=tmp_path).read().free_disk_bytes is None


def test_free_space_is_what_an_ordinary_user_may_take(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    assert 0 < free_bytes(tmp_path) <= status.f_blocks * status.f_frsize


def test_quiet_hours_are_asked_for_at_each_reading(tmp_path: Path) -> None:
    spans = iter([None, QuietHours.parse("22:00-06:30")])
    sensors = Sensors(tmp_path, quiet=lambda: next(spans), root=tmp_path)
    assert [sensors.read().quiet is None for _ in range(2)] == [True, False]


def test_real_kernel_is_read_without_a_fault(tmp_path: Path) -> None:
    reading = Sensors(tmp_path).read()
    assert reading.available_bytes
    assert reading.free_disk_bytes
