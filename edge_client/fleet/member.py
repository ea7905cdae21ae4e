"""One emulated device: the agent of a board on an emulated link, whose orders the fleet's workers carry out."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_client.agent import Agent
from edge_client.checks import Checks
from edge_client.fleet.air import Air, Lane
from edge_client.fleet.air import Port as EmulatedPort
from edge_client.fleet.charge import Charge
from edge_client.fleet.keeper import MemberKeeper
from edge_client.fleet.member_trainer import MemberTrainer
from edge_client.fleet.workforce import Workforce
from edge_client.fleet.world import World
from edge_client.gate import Reading
from edge_client.orders import Order, TrainOrder
from edge_client.settings import EdgeSettings
from shared.device_profile import DeviceProfile
from shared.errors import SettingsError
from shared.transport import Transport

KILOBIT_BYTES = 125.0


@dataclass(frozen=True, slots=True)
class Site:
    """What all devices of a fleet share."""

    world: World
    workforce: Workforce
    checks: Checks
    example_flops: float
    began_seconds: float
    air: Air | None = None
    """The emulated broker; None where devices talk to a real one, and time is real."""


class Port(Transport, Protocol):
    """A transport that calls `awake` when an event has come."""

    awake: Callable[[], None]

    @property
    def has_events(self) -> bool:
        """Is there something to receive."""


@dataclass(slots=True)
class MemberFigures:
    """What a device has done, in virtual seconds and whole MQTT packets."""

    trained_seconds: float = 0.0
    orders: int = 0
    crashes: int = 0


class Member:
    """An agent, its link, and what happens to both: it wakes when something comes or is due, goes away and comes back.

    Every draw is from `seed` and the device's name, so the same brief gives the same life whatever else there is.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        slot: int,
        profile: DeviceProfile,
        keeper: MemberKeeper,
        site: Site,
        seed: int,
        port: Port | None = None,
    ) -> None:
        self.site, self.figures = site, MemberFigures()
        self._settings, self._keeper, self._world = settings, keeper, site.world
        self._random = random.Random(f"{seed}/{settings.name}")  # noqa: S311  not a secret
        self.profile = profile.drawn(self._random)
        self.charge = None if profile.battery is None else Charge(profile.battery, site.began_seconds)
        self._trainer = MemberTrainer(slot, keeper, site.workforce, self)
        self.link: EmulatedPort | None = None
        self.port: Port = port or self._emulated_port()
        self.port.awake = self.awake
        self._wake_at = math.inf
        self._agent = self._new_agent()

    @property
    def name(self) -> str:
        """The device's name."""
        return self._settings.name

    def start(self) -> None:
        """Switch the device on, where its profile has it on the air now."""
        self._agent.start()
        if self.link is None:
            return
        if self.profile.daily_from is not None:
            self._plan_day()
        elif self.profile.mean_hours_online is not None:
            self._plan_absence()

    def awake(self) -> None:
        """Do all that is to do now."""
        while True:
            self._agent.step(0.0)
            if not self.port.has_events:
                break
        wake_at = self._agent.next_wake()
        if wake_at < self._wake_at:
            self._wake_at = wake_at
            self._world.at(wake_at, self._on_wake, wake_at)

    def seconds_a_step(self, order: Order) -> float:
        """How long this device takes for one step of an order."""
        examples = order.work.batch_size if isinstance(order, TrainOrder) else 0
        return self.profile.seconds_a_step(examples * self.site.example_flops)

    def work(self, seconds: float, life: int) -> None:
        """Be busy with an order for so long, and die during it where that is drawn."""
        self.figures.orders += 1
        if self.site.air is None:
            return
        if self._random.random() < self.profile.crash_chance:
            self._world.at(self._world.now + seconds * self._random.random(), self._crash)
            return
        self.figures.trained_seconds += seconds
        if self.charge is not None:
            self.charge.train(seconds, self._world.now)
        self._world.at(self._world.now + seconds, self._on_ready, life)

    def ready(self) -> None:
        """The workers have the answer to an order, and the device is a real one's equal in time."""
        if self._trainer.finish():
            self.awake()

    def _emulated_port(self) -> EmulatedPort:
        if self.site.air is None:
            raise SettingsError("a device needs a port of its own where there is no emulated broker")
        up, down = (_lane(self.profile, kbit) for kbit in (self.profile.up_kbit, self.profile.down_kbit))
        self.link = EmulatedPort(self.site.air, self._settings.name, up, down, self.awake)
        return self.link

    def _on_ready(self, life: int) -> None:
        if life == self._trainer.life and self._trainer.finish():
            self.awake()

    def _on_wake(self, wake_at: float) -> None:
        if wake_at == self._wake_at:
            self._wake_at = math.inf
            self.awake()

    def _crash(self) -> None:
        self.figures.crashes += 1
        self._trainer.begin_anew()
        self._wake_at = math.inf
        if self.link is not None:
            self.link.vanish()
        self._world.at(self._world.now + self.profile.restart_seconds, self._restart)

    def _restart(self) -> None:
        self._agent = self._new_agent()
        self._agent.start()

    def _new_agent(self) -> Agent:
        clock = self._now
        return Agent(
            self._settings,
            self._keeper,
            self.port,
            self._trainer,
            jitter=self._random.random,
            clock=clock,
            wall_clock=self._wall_clock,
            read_board=self._read_board,
            checks=self.site.checks,
        )

    def _now(self) -> float:
        return self._world.now

    def _wall_clock(self) -> float:
        return self.site.began_seconds + self._world.now

    def _read_board(self) -> Reading:
        if self.charge is None:
            return Reading()
        traffic = self.port.traffic
        return self.charge.reading(traffic.sent_bytes + traffic.received_bytes, self._world.now)

    def _plan_day(self) -> None:
        """Be on the air for some hours of each day."""
        begin, hours = self.profile.daily_from or 0.0, self.profile.daily_hours
        since_begin = (self._wall_clock() / 3600 - begin) % 24
        here = since_begin < hours
        if self.link is not None:
            self.link.regain() if here else self.link.lose("not on the air at this hour")
        left_hours = (hours if here else 24.0) - since_begin
        self._world.at(self._world.now + 3600 * max(left_hours, 1e-3), self._plan_day)

    def _plan_absence(self) -> None:
        """Go away after some time, and come back."""
        online, offline = self.profile.mean_hours_online or 1.0, self.profile.mean_hours_offline
        leave = self._world.now + 3600 * self._random.expovariate(1 / online)
        back = leave + 3600 * self._random.expovariate(1 / offline)
        if self.link is not None:
            self._world.at(leave, self.link.lose, "out of reach")
        self._world.at(back, self._come_back)

    def _come_back(self) -> None:
        if self.link is not None:
            self.link.regain()
        self._plan_absence()


def _lane(profile: DeviceProfile, kbit: float | None) -> Lane:
    return Lane(profile.latency_seconds, None if kbit is None else kbit * KILOBIT_BYTES)
