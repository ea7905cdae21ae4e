"""A fleet on a real MQTT broker: all its connections and its workers in one loop, in real time."""

import random
import socket
import time

from edge_client.fleet.crossing import CrossedTransport, Crossing
from edge_client.fleet.member import Site
from edge_client.fleet.roster import checks_once, members_of
from edge_client.fleet.slot_file import slot_file
from edge_client.fleet.workforce import Workforce
from edge_client.fleet.world import World
from shared.errors import SettingsError
from shared.fleet_brief import FleetBrief

LONGEST_WAIT_SECONDS = 0.5
STARTS_A_TURN = 25
"""Connections begun at a time: a broker's queue of unanswered ones is short."""


class LiveFleet:
    """All devices of a brief whose broker is a real one; it serves until the coordinator's end of `control` closes."""

    def __init__(self, brief: FleetBrief, workforce: Workforce, control: socket.socket) -> None:
        if brief.broker is None:
            raise SettingsError("a live fleet needs a broker")
        self._world, self._workforce = World(), workforce
        self._began = time.monotonic()
        self._crossing = Crossing(brief.broker)
        self._closed = False
        jitter = random.Random(brief.seed)  # noqa: S311  spreads retries, keeps no secret
        site = Site(self._world, workforce, checks_once(), brief.example_flops, brief.began_seconds)
        self.members = members_of(
            brief, slot_file(brief), site, lambda name: CrossedTransport(self._crossing, name, jitter)
        )
        for descriptor in workforce.descriptors():
            self._crossing.watch(_Answers(self), descriptor)
        self._crossing.watch(_End(self), control.fileno())

    def serve(self) -> None:
        """Switch the devices on, a few at a time, and play their lives."""
        waiting = list(reversed(self.members))
        while not self._closed:
            for member in waiting[-STARTS_A_TURN:][::-1]:
                member.start()
            del waiting[-STARTS_A_TURN:]
            self._world.run_until(time.monotonic() - self._began, lambda: False)
            next_seconds = self._world.next_event() - (time.monotonic() - self._began)
            self._crossing.turn(0.0 if waiting else min(next_seconds, LONGEST_WAIT_SECONDS))
            self._world.run_until(time.monotonic() - self._began, lambda: False)
        for member in self.members:
            member.port.close()

    def answered(self) -> None:
        """Hand out the workers' answers."""
        for slot in self._workforce.answered():
            self.members[slot].ready()

    def close(self) -> None:
        """End `serve` at its next turn."""
        self._closed = True


class _Answers:
    """Turned when a worker has said something."""

    def __init__(self, fleet: LiveFleet) -> None:
        self._fleet = fleet

    def turn(self, readable: bool, writable: bool) -> None:
        """Hand out answers."""
        self._fleet.answered()


class _End:
    """Turned when the coordinator has closed, or gone."""

    def __init__(self, fleet: LiveFleet) -> None:
        self._fleet = fleet

    def turn(self, readable: bool, writable: bool) -> None:
        """End the fleet."""
        self._fleet.close()
