"""May the device work now? A pure function from its sensors and its limits to go, wait or stop, with reasons.

*Wait* is for what passes by itself in minutes: a command is held until its time is over. *Stop* is for what may last
for hours: a command is declined at once, so that nobody waits for the device.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from edge_client.quiet_hours import QuietHours

COOLED_CELSIUS = 5.0
"""A board that was too hot works again once it is so much below its limit, or it would start and stop all the time."""
MEBIBYTE = 1 << 20


class GateLimits(BaseModel):
    """When a device is left alone; a quantity that the board has no sensor for does not count."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    hottest_celsius: float | None = Field(None, ge=20, le=120, description="temperature above which nothing is trained")
    mains_only: bool = Field(False, description="train only while the board is fed from the mains")
    least_battery_share: float | None = Field(None, gt=0, le=1, description="charge below which a battery is spared")
    least_memory_bytes: int = Field(32 * MEBIBYTE, ge=0, description="available memory below which it waits")
    least_disk_bytes: int = Field(64 * MEBIBYTE, ge=0, description="free space below which it stops")
    metered_interfaces: tuple[str, ...] = Field((), description="patterns of network interfaces that cost by the byte")


class Readiness(StrEnum):
    """What the gate says."""

    GO = "go"
    WAIT = "wait"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the board says of itself; None is for what it has no sensor for.

    `throttled` names what holds the processor back now. `metered_by` is the interface of the default route where that
    costs by the byte. `quiet` are the quiet hours that it is now.
    """

    celsius: float | None = None
    throttled: tuple[str, ...] = ()
    on_mains: bool | None = None
    battery_share: float | None = None
    available_bytes: int | None = None
    free_disk_bytes: int | None = None
    metered_by: str | None = None
    quiet: QuietHours | None = None


@dataclass(frozen=True, slots=True)
class Hindrance:
    """One reason not to work: its name for programs, how much it hinders, and in plain words."""

    name: str
    readiness: Readiness
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """All that hinders the device now."""

    hindrances: tuple[Hindrance, ...] = ()

    @property
    def readiness(self) -> Readiness:
        """Stop where anything says so, else wait, else go."""
        found = {hindrance.readiness for hindrance in self.hindrances}
        return next((said for said in (Readiness.STOP, Readiness.WAIT) if said in found), Readiness.GO)

    @property
    def names(self) -> frozenset[str]:
        """What hinders, without its figures: another decision of the same names is no news."""
        return frozenset(hindrance.name for hindrance in self.hindrances)

    @property
    def reasons(self) -> tuple[str, ...]:
        """In plain words."""
        return tuple(hindrance.text for hindrance in self.hindrances)


def decide(reading: Reading, limits: GateLimits, before: Decision = Decision()) -> Decision:
    """What hinders the device; `before` is the last decision, for a hot board has to cool down some way."""
    found = (
        _heat(reading, limits, was_hot="heat" in before.names),
        _throttling(reading),
        _memory(reading, limits),
        _mains(reading, limits),
        _battery(reading, limits),
        _disk(reading, limits),
        _link(reading),
        _hours(reading),
    )
    return Decision(tuple(hindrance for hindrance in found if hindrance is not None))


def _heat(reading: Reading, limits: GateLimits, *, was_hot: bool) -> Hindrance | None:
    if reading.celsius is None or limits.hottest_celsius is None:
        return None
    limit = limits.hottest_celsius - (COOLED_CELSIUS if was_hot else 0)
    if reading.celsius <= limit:
        return None
    rest = f" and has to cool down to {limit:g} °C" if was_hot else ""
    return Hindrance(
        "heat",
        Readiness.WAIT,
        f"the board has {reading.celsius:.0f} °C{rest}, gate.hottest_celsius = {limits.hottest_celsius:g}",
    )


def _throttling(reading: Reading) -> Hindrance | None:
    if not reading.throttled:
        return None
    return Hindrance("throttled", Readiness.WAIT, f"the processor is held back: {', '.join(reading.throttled)}")


def _memory(reading: Reading, limits: GateLimits) -> Hindrance | None:
    if reading.available_bytes is None or reading.available_bytes >= limits.least_memory_bytes:
        return None
    text = f"{_mebibytes(reading.available_bytes)} of memory are available"
    return Hindrance("memory", Readiness.WAIT, f"{text}, gate.least_memory_bytes = {limits.least_memory_bytes}")


def _mains(reading: Reading, limits: GateLimits) -> Hindrance | None:
    if not limits.mains_only or reading.on_mains is not False:
        return None
    return Hindrance("mains", Readiness.STOP, "the board runs on battery, gate.mains_only = true")


def _battery(reading: Reading, limits: GateLimits) -> Hindrance | None:
    share, least = reading.battery_share, limits.least_battery_share
    if share is None or least is None or share >= least or reading.on_mains:
        return None
    return Hindrance("battery", Readiness.STOP, f"the battery is at {share:.0%}, gate.least_battery_share = {least:g}")


def _disk(reading: Reading, limits: GateLimits) -> Hindrance | None:
    if reading.free_disk_bytes is None or reading.free_disk_bytes >= limits.least_disk_bytes:
        return None
    text = f"{_mebibytes(reading.free_disk_bytes)} are free where state_dir is"
    return Hindrance("disk", Readiness.STOP, f"{text}, gate.least_disk_bytes = {limits.least_disk_bytes}")


def _link(reading: Reading) -> Hindrance | None:
    if reading.metered_by is None:
        return None
    text = f"the network is reached by {reading.metered_by}, one of gate.metered_interfaces"
    return Hindrance("metered", Readiness.STOP, text)


def _hours(reading: Reading) -> Hindrance | None:
    if reading.quiet is None:
        return None
    return Hindrance("quiet_hours", Readiness.STOP, f"these are quiet hours, {reading.quiet}")


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:.0f} MiB"
