"""Kinds of emulated devices: how fast they train, how fast their link is, when they are there."""

import random
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Least = Annotated[float, Field(ge=0, allow_inf_nan=False)]

HOURS_A_DAY = 24.0
JOULES_A_WATT_HOUR = 3600.0


class Battery(BaseModel):
    """A store of energy that training and radio empty, and that a charger fills between two hours of the day."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    capacity_watt_hours: Positive
    idle_watts: Least = Field(0.0, description="drawn all the time")
    training_watts: Least = Field(description="drawn on top while it trains")
    joules_a_megabyte: Least = Field(0.0, description="drawn by the radio for what is sent and received")
    charge_watts: Least = Field(0.0, description="what the charger gives")
    charge_from: float = Field(0.0, ge=0, lt=HOURS_A_DAY, description="hour of the day at which charging begins")
    charge_hours: float = Field(0.0, ge=0, le=HOURS_A_DAY, description="how long it charges")
    least_share: float = Field(0.2, gt=0, lt=1, description="charge below which the device does not train")


class DeviceProfile(BaseModel):
    """One kind of device. The defaults are a device without limits: it trains and sends in no time."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str = Field("ideal", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    share: Positive = Field(1.0, description="its part of the fleet, against the other profiles' shares")
    gflops: Positive | None = Field(None, description="floating-point operations a second while it trains, in 10⁹")
    step_seconds: Least = Field(0.0, description="time of a training step apart from its operations")
    spread: float = Field(0.0, ge=0, le=2, description="log-normal spread of speed and rates from device to device")
    up_kbit: Positive | None = Field(None, description="uplink, kbit/s")
    down_kbit: Positive | None = Field(None, description="downlink, kbit/s")
    latency_seconds: Least = Field(0.0, description="one way to the broker")
    mean_hours_online: Positive | None = Field(None, description="mean time on the air at a stretch; none: always")
    mean_hours_offline: Positive = Field(1.0, description="mean time off the air between two stretches")
    daily_from: float | None = Field(None, ge=0, lt=HOURS_A_DAY, description="hour of the day it comes on the air")
    daily_hours: float = Field(
        HOURS_A_DAY, gt=0, le=HOURS_A_DAY, description="how long it stays, where daily_from is set"
    )
    crash_chance: float = Field(0.0, ge=0, lt=1, description="chance that it dies during an order and starts again")
    restart_seconds: Positive = Field(60.0, description="time until it is back after that")
    battery: Battery | None = None

    @model_validator(mode="after")
    def _one_way_to_be_away(self) -> Self:
        if self.mean_hours_online is not None and self.daily_from is not None:
            raise ValueError("mean_hours_online and daily_from both say when a device is there: leave one out")
        return self

    def drawn(self, random_: random.Random) -> Self:
        """One device of this kind: speed and rates drawn by the spread, log-normal around the profile's own."""
        if not self.spread:
            return self
        changes = {
            name: value * random_.lognormvariate(0.0, self.spread)
            for name in ("gflops", "up_kbit", "down_kbit")
            if (value := getattr(self, name)) is not None
        }
        return self.model_copy(update=changes)

    def seconds_a_step(self, flops: float) -> float:
        """Time of one training step of so many floating-point operations."""
        return self.step_seconds + (0.0 if self.gflops is None else flops / (self.gflops * 1e9))


def dealt(profiles: list[DeviceProfile], count: int, seed: int) -> list[int]:
    """Which profile each of `count` devices has: as many of each as its share says, in an order drawn by `seed`."""
    total, chosen = sum(profile.share for profile in profiles), list[int]()
    reached = 0.0
    for number, profile in enumerate(profiles):
        reached += profile.share
        chosen += [number] * (round(count * reached / total) - len(chosen))
    random.Random(f"{seed}/profiles").shuffle(chosen)  # noqa: S311  not a secret
    return chosen
