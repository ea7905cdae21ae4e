"""Which devices are alive: births, deaths and leases. Pure: time comes in as an argument."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from shared.errors import MessageError
from shared.messages import Birth, Death, Heartbeat

LEASE_SECONDS = 90.0
"""Any message renews a device's lease; without one the device counts as gone, will or no will."""
MOST_DEVICES = 100_000
"""Devices that are remembered; on a broker without access rules anybody may invent names."""


@dataclass(slots=True)
class Device:
    """One device as the coordinator sees it; times are seconds of the coordinator's monotonic clock."""

    name: str
    connection: int = -1
    online: bool = False
    profile: Literal["sieve", "flower"] = "sieve"
    agent: str = ""
    last_heard: float = 0.0
    gone_since: float = 0.0
    heartbeat: Heartbeat | None = None
    heartbeats: int = 0
    last_trouble: str = ""
    readiness: Literal["go", "wait", "stop"] = "go"
    """Whether it may work, as its own gate last said: a device that stops is given no work."""
    reasons: tuple[str, ...] = ()
    received_bytes: int = 0
    """Whole MQTT packets that came from this device, counted on the coordinator's transport."""


@dataclass(slots=True)
class Fleet:
    """All devices heard of since this coordinator started."""

    devices: dict[str, Device] = field(default_factory=dict)
    lease_seconds: float = LEASE_SECONDS
    _online: set[str] = field(default_factory=set)
    _gone: set[str] = field(default_factory=set)

    def born(self, name: str, birth: Birth, now: float) -> bool:
        """Take a birth; True when the device was not online with this connection before."""
        device = self._heard(name, now)
        fresh = not device.online or birth.connection != device.connection
        device.connection = birth.connection
        self._arrive(device)
        device.profile, device.agent = birth.profile, birth.agent
        if fresh:
            device.readiness, device.reasons = "go", ()
        return fresh

    def died(self, name: str, death: Death, now: float) -> bool:
        """Take a death; False when it belongs to a connection older than the last birth, which a late will may."""
        device = self.devices.get(name)
        if device is None or not device.online or death.connection < device.connection:
            return False
        self._leave(device, now)
        return True

    def expect(self, name: str, now: float) -> None:
        """Count a device that was never heard of as gone from `now` on, so that nobody waits for it for ever."""
        if name not in self.devices:
            self._add(Device(name, gone_since=now, last_heard=now))

    def heard(self, name: str, now: float, packet_bytes: int) -> bool:
        """Renew the lease of a device by any message of its own; False when it never stated itself.

        Raises `MessageError`, as `born` does, for a new device when too many are known.
        """
        device = self._heard(name, now)
        device.received_bytes += packet_bytes
        return device.online

    def beat(self, name: str, heartbeat: Heartbeat) -> bool:
        """Keep a device's latest counters and condition; True when it may work now and could not before, or not now."""
        device = self.devices[name]
        changed = device.readiness != heartbeat.readiness
        device.readiness, device.reasons = heartbeat.readiness, heartbeat.reasons
        device.heartbeat = heartbeat
        device.heartbeats += 1
        return changed

    def renew(self, now: float) -> None:
        """Begin every lease anew: while our own link was away, nobody could be heard."""
        for device in self.devices.values():
            device.last_heard = now

    def expire(self, now: float) -> list[str]:
        """Devices whose lease ran out by `now`; each is named once."""
        late = [d for d in self.devices.values() if d.online and now - d.last_heard > self.lease_seconds]
        for device in late:
            self._leave(device, now)
        return [device.name for device in late]

    @property
    def online_count(self) -> int:
        """How many devices are there; unlike the list of them, it costs nothing to ask."""
        return len(self._online)

    def online(self) -> list[str]:
        """Names of the devices that are there, sorted."""
        return sorted(self._online)

    def away(self, names: AbstractSet[str]) -> AbstractSet[str]:
        """Those of `names` that are known and not there."""
        return names & self._gone

    def ready(self) -> list[str]:
        """Names of the devices that can be given work, sorted: those that are there and do not say that they stop."""
        return [name for name in self.online() if self.devices[name].readiness != "stop"]

    def gone_for(self, name: str, now: float) -> float:
        """Seconds since a device went away; 0 while it is online."""
        device = self.devices.get(name)
        return 0.0 if device is None or device.online else now - device.gone_since

    def _heard(self, name: str, now: float) -> Device:
        if name not in self.devices and len(self.devices) >= MOST_DEVICES:
            raise MessageError(
                f"{MOST_DEVICES} devices are known already: let the broker's access rules keep others out"
            )
        device = self.devices.get(name) or self._add(Device(name, gone_since=now))
        device.last_heard = now
        return device

    def _add(self, device: Device) -> Device:
        self.devices[device.name] = device
        self._gone.add(device.name)
        return device

    def _arrive(self, device: Device) -> None:
        device.online = True
        self._online.add(device.name)
        self._gone.discard(device.name)

    def _leave(self, device: Device, now: float) -> None:
        device.online, device.gone_since = False, now
        self._online.discard(device.name)
        self._gone.add(device.name)
