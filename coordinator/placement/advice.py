"""Which heads and which interval: of all that is worth a look, what costs least."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from coordinator.placement.forecast import Forecast, Outlook
from coordinator.placement.pilot import Ground, Pilot, Trial
from coordinator.placement.sites import Site
from shared.errors import RunError

OnRound = Callable[[Trial, int, float], None]


@dataclass(frozen=True, slots=True)
class Advice:
    """All forecasts, the cheapest first, and the pilots behind them."""

    forecasts: Sequence[Forecast]
    pilots: Sequence[Pilot]
    slowdown: float | None

    @property
    def best(self) -> Forecast:
        """The cheapest; of equals the one with the fewest heads."""
        return self.forecasts[0]

    @property
    def without_heads(self) -> Forecast:
        """The cheapest without any head."""
        return next(forecast for forecast in self.forecasts if not forecast.heads)

    def worth_checking(self, sites: Sequence[Site]) -> list[Forecast]:
        """The cheapest, the cheapest without heads, and the cheapest that no pilot played: arithmetic alone."""
        played = [pilot.trial for pilot in self.pilots]
        unplayed = (each for each in self.forecasts if trial_of(each, sites) not in played)
        wanted = [self.best, self.without_heads, *islice(unplayed, 1)]
        return [each for number, each in enumerate(wanted) if each not in wanted[:number]]


def advise(sites: Sequence[Site], intervals: Sequence[int], ground: Ground, on_round: OnRound) -> Advice:
    """Emulate each interval without heads, and the cheapest of them with all heads.

    Raises `RunError` where no interval reaches the accuracy.
    """
    flat = {interval: ground.play(Trial(interval), on_round) for interval in intervals}
    reached = [pilot for pilot in flat.values() if pilot.rounds is not None]
    if not reached:
        best = max(pilot.accuracy for pilot in flat.values())
        raise RunError(
            f"no interval reaches {ground.accuracy:g} in the job's {ground.job.rounds} rounds, the best {best:.3f}: "
            "give the job more rounds, or ask for less"
        )
    ranked = _ranked(sites)
    clusters = tuple(site.boards for site in ranked)
    cheapest = min(reached, key=lambda pilot: pilot.moved_bytes).trial.interval
    headed = ground.play(Trial(cheapest, clusters), on_round) if clusters else None
    outlook = Outlook(sites, flat, headed)
    names = [site.name for site in ranked]
    found = [outlook.forecast(names[:count], interval) for interval in intervals for count in range(len(names) + 1)]
    forecasts = sorted((each for each in found if each is not None), key=lambda each: (each.price, len(each.heads)))
    return Advice(forecasts, [*flat.values(), *([headed] if headed else [])], outlook.slowdown)


def trial_of(forecast: Forecast, sites: Sequence[Site]) -> Trial:
    """What to emulate to see whether a forecast is right."""
    boards = {site.name: site.boards for site in sites}
    return Trial(forecast.interval, tuple(boards[name] for name in forecast.heads))


def _ranked(sites: Sequence[Site]) -> list[Site]:
    """The sites that a head could spare something, the largest saving first."""
    able = [site for site in sites if site.can_host and site.boards > 1]
    return sorted(able, key=lambda site: -site.price * (site.boards - 1))
