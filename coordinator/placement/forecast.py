"""What a placement would move and cost until the accuracy is reached, by the pilots' figures.

A site without a head moves a device's bytes for each of its boards, one with a head for the head alone. How many rounds
it takes and what a device moves in one depends on the interval, which pilots without heads tell, and on how many boards
stand behind heads: their updates are sieved twice, so fewer values reach the model in a round and come back down. One
pilot with all heads tells by what factors; for some of the heads they count to the power of their share of the boards.
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
        """How many times the rounds it takes with every board behind a head; None where that never ends."""
        if self.headed is None:
            return 1.0
        with_heads, without = self.headed.rounds, self._like(self.headed).rounds
        return None if with_heads is None or without is None else self._of_all(with_heads / without, self.headed)

    def forecast(self, heads: Sequence[str], interval: int) -> Forecast | None:
        """What this placement would take; None where the accuracy is not reached."""
        pilot, slowdown = self.flat[interval], self.slowdown
        if pilot.rounds is None or (heads and slowdown is None):
            return None
        share = self._share(sum(site.boards for site in self.sites if site.name in heads))
        rounds = pilot.rounds * (slowdown or 1.0) ** share
        device_bytes = pilot.first_bytes + pilot.round_bytes * self._thinning**share * (rounds - 1)
        moved = {site.name: device_bytes * (1 if site.name in heads else site.boards) for site in self.sites}
        price = sum(site.price * moved[site.name] for site in self.sites) / MEGABYTE
        return Forecast(tuple(heads), interval, rounds, moved, price)

    @property
    def _thinning(self) -> float:
        """What a device moves in a round with every board behind a head, of what it moves without."""
        if self.headed is None:
            return 1.0
        return self._of_all(self.headed.round_bytes / self._like(self.headed).round_bytes, self.headed)

    def _like(self, headed: Pilot) -> Pilot:
        """The pilot of the same interval without heads."""
        return self.flat[headed.trial.interval]

    def _of_all(self, factor: float, headed: Pilot) -> float:
        """The factor of a pilot where some boards had no head, as it would be if all had one."""
        return float(factor ** (1 / self._share(sum(headed.trial.clusters))))

    def _share(self, boards: int) -> float:
        return boards / sum(site.boards for site in self.sites)
