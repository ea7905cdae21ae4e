"""What a placement would move and cost until the accuracy is reached, by the pilots' figures.

A site without a head moves a device's bytes for each of its boards, one with a head for the head alone. How many rounds
it takes depends on the interval, which pilots without heads tell, and on how many boards stand behind heads: their
updates are sieved twice, and fewer values reach the model in a round. One pilot with all heads tells by what factor that
makes more rounds; for some of the heads it is that factor to the power of their share of the boards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.placement.pilot import Pilot
from coordinator.placement.sites import Site

MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of heads at the sites named, in order, and an interval: rounds, and bytes and price between sites and broker."""

    heads: tuple[str, ...]
    interval: int
    rounds: float
    bytes_by_site: Mapping[str, float]
    price: float

    @property
    def moved_bytes(self) -> float:
        """Of all sites."""
        return sum(self.bytes_by_site.values())

    def to_json(self) -> dict[str, object]:
        """For a script to read."""
        return {
            "heads": list(self.heads),
            "interval": self.interval,
            "rounds": round(self.rounds, 1),
            "moved_bytes": round(self.moved_bytes),
            "bytes_by_site": {name: round(count) for name, count in self.bytes_by_site.items()},
            "price": round(self.price, 4),
        }


@dataclass(frozen=True, slots=True)
class Outlook:
    """Makes forecasts for `sites` from `flat`, pilots without heads by interval, and one `headed` like one of them."""

    sites: Sequence[Site]
    flat: Mapping[int, Pilot]
    headed: Pilot | None = None

    @property
    def slowdown(self) -> float | None:
        """How many times the rounds it takes with every board of the pilot behind a head; None where it never ends."""
        if self.headed is None:
            return 1.0
        with_heads, without = self.headed.rounds, self.flat[self.headed.trial.interval].rounds
        if with_heads is None or without is None:
            return None
        share = sum(self.headed.trial.clusters) / sum(site.boards for site in self.sites)
        return float((with_heads / without) ** (1 / share))

    def forecast(self, heads: Sequence[str], interval: int) -> Forecast | None:
        """What this placement would take; None where the accuracy is not reached."""
        pilot, slowdown = self.flat[interval], self.slowdown
        if pilot.rounds is None or (heads and slowdown is None):
            return None
        boards = sum(site.boards for site in self.sites)
        behind = sum(site.boards for site in self.sites if site.name in heads)
        rounds = pilot.rounds * (slowdown or 1.0) ** (behind / boards)
        device_bytes = pilot.first_bytes + pilot.round_bytes * (rounds - 1)
        moved = {site.name: device_bytes * (1 if site.name in heads else site.boards) for site in self.sites}
        price = sum(site.price * moved[site.name] for site in self.sites) / MEGABYTE
        return Forecast(tuple(heads), interval, rounds, moved, price)
