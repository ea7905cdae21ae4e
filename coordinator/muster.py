"""Who is there for a run's rounds: the devices it waits for before them and sends home after the last."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from coordinator.fleet import Device
from coordinator.link import Link
from coordinator.round_grid import RoundGrid
from shared.errors import DeadlineExceeded
from shared.messages import CancelCommand


class Muster(Protocol):
    """The devices of a run, however they are reached; every wait ends after the seconds it is given."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held by whoever takes updates meanwhile."""

    def wait_for(self, count: int, seconds: float) -> bool:
        """Wait until so many devices are online; whether they are."""

    def gather(self, wanted: int, seconds: float, on_wait: Callable[[int], None]) -> list[str]:
        """Names of the devices that can be given work, once they are `wanted`; raises `DeadlineExceeded`.

        `on_wait` is told how many there are where they are too few as yet.
        """

    def regather(self, cohort: Sequence[str], seconds: float) -> None:
        """Wait until all of these devices are there again, if they come."""

    def dismiss(self, run: str, seconds: float, on_wait: Callable[[], None]) -> None:
        """Tell the devices that the run is over, and wait a moment for their last counters, if they give any."""

    def traffic_bytes(self) -> tuple[int, int]:
        """Bytes received from devices and bytes sent so far, as whole packets; 0 where that is not known."""

    def devices(self) -> list[Device]:
        """The devices heard of so far, by name, as they are now."""


class LinkMuster:
    """`Muster` of the devices behind a link to a broker."""

    def __init__(self, link: Link, grid: RoundGrid) -> None:
        self._link, self._grid = link, grid

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The link's."""
        return self._link.changed

    def wait_for(self, count: int, seconds: float) -> bool:
        """Wait until so many devices are online."""
        return self._link.wait_until(lambda: self._link.fleet.online_count >= count, seconds)

    def gather(self, wanted: int, seconds: float, on_wait: Callable[[int], None]) -> list[str]:
        """The devices online, once there are `wanted` of them and the broker is there to reach them."""

        def enough() -> bool:
            if self._link.connected is None or self._link.fleet.online_count < wanted:
                return False
            return len(self._grid.devices()) >= wanted

        if not self._link.wait_until(enough, 0):
            on_wait(len(self._grid.devices()))
        gathered = self._link.wait_until(enough, seconds)
        devices = self._grid.devices()
        if not gathered:
            raise DeadlineExceeded(
                too_few(wanted, seconds, devices)
                + ("" if self._link.connected else f" (broker: {self._link.last_disconnect})")
            )
        return devices

    def regather(self, cohort: Sequence[str], seconds: float) -> None:
        """Wait for these devices: they too may have lost the broker, and back off."""
        self._link.wait_until(lambda: set(cohort) <= set(self._grid.devices()), seconds)

    def dismiss(self, run: str, seconds: float, on_wait: Callable[[], None]) -> None:
        """Cancel the run on every device online, and wait for a heartbeat of each."""
        on_wait()
        with self._link.changed:
            online = [self._link.fleet.devices[name] for name in self._link.fleet.online()]
            wanted = {device.name: device.heartbeats + 1 for device in online}
            for name in wanted:
                self._link.command(name, CancelCommand(run=run))
            self._link.publisher.withdraw(run)
        devices, waiting = self._link.fleet.devices, list(wanted)

        def all_told() -> bool:
            while waiting and (
                devices[waiting[-1]].heartbeats >= wanted[waiting[-1]] or not devices[waiting[-1]].online
            ):
                waiting.pop()
            return not waiting

        self._link.wait_until(all_told, seconds)

    def traffic_bytes(self) -> tuple[int, int]:
        """Whole MQTT packets, counted on the coordinator's transport."""
        with self._link.changed:
            received = sum(device.received_bytes for device in self._link.fleet.devices.values())
            return received, self._link.transport.traffic.sent_bytes

    def devices(self) -> list[Device]:
        """The fleet, copied."""
        with self._link.changed:
            return [replace(device) for _, device in sorted(self._link.fleet.devices.items())]


def too_few(wanted: int, seconds: float, devices: Sequence[str]) -> str:
    """What to say when not enough devices came in time."""
    return (
        f"waited {seconds:.0f} s for {wanted} devices, {len(devices)} are online"
        f"{': ' + ', '.join(devices) if devices else ''}; start more, or lower minimum_devices in [fleet]"
    )
